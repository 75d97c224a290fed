"""The server in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.rpc.harness import Harness


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    """A server that serves."""
    served = Harness()
    await served.start()
    yield served
    await served.stop()
