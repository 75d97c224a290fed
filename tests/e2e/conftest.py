"""A gateway for a module's tests."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.e2e.gateway_process import GatewayProcess


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that serves."""
    directory: pathlib.Path = tmp_path_factory.mktemp("gateway")
    gateway = GatewayProcess(directory)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.end()
