"""What holds for all tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.e2e import gateway_process
from tests.skips import pytest_runtest_makereport

__all__ = ["pytest_runtest_makereport"]

# How long an example takes depends on what else the machine does; that a test ends at all is
# pytest-timeout's business.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


def pytest_collection_finish() -> None:
    """What is there before the first test stays, and need not be looked through again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _leaks_are_told_by_their_own_module() -> Iterator[None]:
    """Find what a module has left open while it is this module's: the complaint of a socket that
    nobody closed comes when the garbage collector finds it, else in whatever test runs then."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def _no_gateway_is_left_behind() -> Iterator[None]:
    """End whatever gateways a test has made, with all that they run: a test that fails leaves
    nothing. Those of a module's fixtures were there before, and end with the module."""
    before = len(gateway_process.MADE)
    yield
    for made in gateway_process.MADE[before:]:
        made.end()
    del gateway_process.MADE[before:]
