"""An edge that answers over HTTP/1.1."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator

import pytest

from tests.proxy.bridge.calling import PREFIX
from tests.proxy.served import Served, serving


@pytest.fixture(params=["", PREFIX])
async def served(tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    """An edge whose server answers calls, below a prefix or not."""
    async with serving(tmp_path, prefix=request.param) as made:
        yield made
