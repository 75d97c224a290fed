"""Calls that the edge makes itself for who speaks HTTP: on as many connections as they need, each
in its caller's turn and name.

A stream such as a watch lasts for hours, and the server takes so many streams on a connection: on a
single one a few hundred of them would keep all other calls waiting. For whom a call is made is told
beside the edge's own token, by which the server believes it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from gateway.networks import group_of
from gateway.proxy.upstream.turns import LONG_S, STRANGE_S, Calls, Share
from gateway.proxy.upstream.way import NotTheServer, Upstream
from gateway.turns import Crowded
from gateway.wire import AUTHORIZATION, EDGE_CALLER, EDGE_TOKEN

logger = logging.getLogger(__name__)

STREAMS = 100  # on one connection, at which the next is opened; fewer than the server permits
AGAIN_S = 0.1  # a server that is awaited is looked for so often
MOST = 250  # connections; beyond, calls share them
WAITING = 512  # calls of one caller, or of one address of strangers, that wait for their turn
OPTIONS = (
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),  # or channels to one address would share its connection
)

Metadata = Sequence[tuple[str, str]]


class Channels:
    """Makes calls. AioRpcError, UNAVAILABLE, also where what listens may not be the server; Crowded
    if too many of a caller's wait."""

    def __init__(self, upstream: Upstream, calls: Calls, token_file: str) -> None:
        self._upstream, self._calls, self._token_file = upstream, calls, token_file
        self._own: grpc.aio.Channel | None = None
        self._channels: list[grpc.aio.Channel] = []
        self._open: list[int] = []  # calls that each has
        self._token, self._token_stamp = "", 0
        self._closing: set[asyncio.Task[None]] = set()

    def own(self) -> grpc.aio.Channel:
        """Return the channel of the edge's own calls, which is nobody else's. AioRpcError if there
        is no server now."""
        self._check()
        if self._own is None:
            self._own = self._upstream.channel(OPTIONS)
        return self._own

    async def there(self, within_s: float) -> None:
        """Return once there is a server, or it is clear that there is none within so many
        seconds."""
        deadline = asyncio.get_running_loop().time() + within_s
        while asyncio.get_running_loop().time() < deadline:
            try:
                self._check()
            except grpc.aio.AioRpcError:
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def unary(
        self,
        path: str,
        request: Any,
        caller: str,
        metadata: Metadata,
        timeout_s: float,
        *,
        made: Any = (None, None),
    ) -> Any:
        """Make a unary call for who calls from this address; return answer and trailers. `made`:
        how messages are written and read."""
        place = await self._place(metadata, caller)
        try:
            number = self._next()
            begin: Any = self._channels[number].unary_unary(path, *made)
            call = self._counted(
                number,
                begin(
                    request, timeout=timeout_s, metadata=[*metadata, *self._in_the_name_of(caller)]
                ),
            )
            answer = await call
            place.accepted()
            return answer, await call.trailing_metadata() or ()
        finally:
            place.leave()

    async def stream(
        self,
        path: str,
        request: Any,
        caller: str,
        metadata: Metadata,
        *,
        made: Any,
        timeout_s: float | None = None,
    ) -> tuple[Any, Callable[[], None]]:
        """Begin a call that streams its answers, for so long at most; return it, and what is to be
        called when the first is there."""
        place = await self._place(metadata, caller)
        try:
            number = self._next()
            begin: Any = self._channels[number].unary_stream(path, *made)
            told = [*metadata, *self._in_the_name_of(caller)]
            call = self._counted(number, begin(request, metadata=told, timeout=timeout_s))
        except BaseException:
            place.leave()
            raise
        call.add_done_callback(lambda _: place.leave())
        return call, place.accepted

    def whose(self, metadata: Metadata, caller: str) -> Share:
        """Return whose share a call with this metadata, made for who calls from this address,
        belongs to."""
        return self._calls.share(dict(metadata).get(AUTHORIZATION, ""), group_of(caller))

    async def _place(self, metadata: Metadata, caller: str) -> _Place:
        share, authorization = self.whose(metadata, caller), dict(metadata).get(AUTHORIZATION, "")
        turns = self._calls.turns(share)
        if turns.pool.wanted_by(share.name) >= WAITING:
            raise Crowded
        await turns.take(share.name)
        return _Place(self._calls, share, authorization)

    def _in_the_name_of(self, caller: str) -> Metadata:
        try:
            stamp = os.stat(self._token_file).st_mtime_ns
            if stamp != self._token_stamp:
                self._token, self._token_stamp = (
                    pathlib.Path(self._token_file).read_text().strip(),
                    stamp,
                )
        except OSError as error:
            logger.warning("the edge's token cannot be read: %s", error)
        return ((EDGE_TOKEN, self._token), (EDGE_CALLER, caller))

    def _next(self) -> int:
        """Return the number of the first channel that has room."""
        self._check()
        for number, count in enumerate(self._open):
            if count < STREAMS:
                return number
        if len(self._channels) < MOST:
            self._channels.append(self._upstream.channel(OPTIONS))
            self._open.append(0)
            return len(self._channels) - 1
        return min(range(MOST), key=self._open.__getitem__)

    def _check(self) -> None:
        try:
            self._upstream.check()
        except OSError as error:
            logger.info("the server is not reached: %s", error)
            if isinstance(error, NotTheServer):
                self._drop()
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(
                grpc.StatusCode.UNAVAILABLE, nothing, nothing, "the server does not answer", None
            ) from None

    def _drop(self) -> None:
        """Forget every connection: gRPC makes them anew by itself, whoever listens by then."""
        for channel in [*self._channels, *([self._own] if self._own is not None else [])]:
            task = asyncio.get_running_loop().create_task(channel.close(None))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._own, self._channels, self._open = None, [], []

    def _counted(self, number: int, call: Any) -> Any:
        open_calls = self._open
        open_calls[number] += 1

        def over(_: Any) -> None:
            open_calls[number] -= 1

        call.add_done_callback(over)
        return call

    async def close(self) -> None:
        """End everything."""
        self._drop()
        await asyncio.gather(*self._closing)


class _Place:
    """A caller's turn: over when the call is, or when it has lasted so long that it must be waiting
    for something."""

    def __init__(self, calls: Calls, share: Share, authorization: str) -> None:
        self._calls, self._share, self._authorization = calls, share, authorization
        self._left = False
        self._timer = asyncio.get_running_loop().call_later(
            STRANGE_S if share.stranger else LONG_S, self.leave
        )

    def accepted(self) -> None:
        """The server has accepted the caller's credentials, and answers."""
        if self._authorization:
            self._calls.accepted(self._authorization)
        self.leave()

    def leave(self) -> None:
        """Let it go."""
        if not self._left:
            self._left = True
            self._timer.cancel()
            self._calls.turns(self._share).give_back(self._share.name)
