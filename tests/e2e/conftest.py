"""A gateway for a module's tests."""

from __future__ import annotations

import os
import pathlib
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.gateway_process import GatewayProcess


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that serves."""
    directory: pathlib.Path = tmp_path_factory.mktemp("gateway")
    gateway = GatewayProcess(directory)
    gateway.start()
    yield gateway
    gateway.stop()
    for pid in gateway.processes():
        os.kill(pid, signal.SIGKILL)
