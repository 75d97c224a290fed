"""An edge that serves HTTP/2, on the edge's own event loop: its transports differ from the standard
library's."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.proxy.served import Served, serving


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Have tests run on uvloop."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def served(tmp_path: pathlib.Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as made:
        yield made
