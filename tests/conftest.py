"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

from tests.skips import pytest_runtest_makereport

__all__ = ["pytest_runtest_makereport"]

# How long an example takes depends on what else the machine does; that a test ends at all is
# pytest-timeout's business.
settings.register_profile("house", deadline=None)
settings.load_profile("house")
