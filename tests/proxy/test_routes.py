"""How the edge follows the server's routes."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Any

import grpc

from gateway.proxy.routes import RouteTable


class BrokenStream:
    """A channel, and the one call made on it: a stream that breaks when told to."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self._end: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def unary_stream(self, *_: Any, **__: Any) -> Any:
        return lambda *_, **__: self

    async def read(self) -> Any:
        self.reading.set()
        return await self._end

    def cancel(self) -> None:
        """Nothing is held."""

    def break_off(self) -> None:
        nothing = grpc.aio.Metadata()
        self._end.set_exception(grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, "gone"))


async def test_a_cancellation_that_meets_a_broken_stream_is_not_lost(tmp_path: pathlib.Path) -> None:
    (tmp_path / "token").write_text("t")
    channel: Any = BrokenStream()
    following = asyncio.ensure_future(RouteTable(tmp_path / "routes.json").follow(channel, str(tmp_path / "token")))
    await channel.reading.wait()
    channel.break_off()
    following.cancel()
    done, _ = await asyncio.wait([following], timeout=5)
    assert done == {following}
    assert following.cancelled()
