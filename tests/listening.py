"""Servers of tests that leave no connection open: what they accepted is closed when they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

TURNS = 8  # of the loop, in which asyncio closes what was aborted

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]


@asynccontextmanager
async def listening(serve: Serve, **how: Any) -> AsyncIterator[int]:
    """Serve each connection on a port of 127.0.0.1, which is told, until the end of the block."""
    met: list[asyncio.StreamWriter] = []

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(writer)
        await serve(reader, writer)

    server = await asyncio.start_server(meet, "127.0.0.1", 0, **how)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        for _ in range(TURNS):  # who came last is met, before nobody is any more
            await asyncio.sleep(0)
        server.close()
        for writer in met:
            writer.transport.abort()  # TLS would wait for the other side's farewell
        for _ in range(TURNS):
            await asyncio.sleep(0)
