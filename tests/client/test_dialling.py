"""What a client meets at the other end of a connection that is not, or no longer, its scheduler:
each an OSError that Dask tries again."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import dask.config
import pytest
from distributed.comm.core import CommClosedError, FatalCommClosedError
from distributed.comm.tcp import BaseTCPConnector

from gateway import wire
from gateway.client.calls import channel
from gateway.client.dask.comm import GatewayConnector, NoDirectWay
from tests.waiting import comes

UID = "c" + "a" * 20
Answer = Callable[[socket.socket], Awaitable[None]]


@asynccontextmanager
async def peer(answer: Answer) -> AsyncIterator[wire.SchedulerAddress]:
    """A listener that does `answer` to whoever connects, and then closes."""
    loop = asyncio.get_running_loop()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)

    async def serve() -> None:
        while True:
            accepted, _ = await loop.sock_accept(listening)
            with accepted:
                await answer(accepted)

    task = asyncio.ensure_future(serve())
    try:
        yield wire.SchedulerAddress("127.0.0.1", listening.getsockname()[1], UID)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listening.close()


async def ends(accepted: socket.socket) -> None:
    """End at once, without a word."""


async def resets(accepted: socket.socket) -> None:
    """Reset, as a killed process does that had something unread."""
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def listens_and_ends(accepted: socket.socket) -> None:
    """Take the ClientHello and end, as an edge does that is killed at that moment."""
    await asyncio.get_running_loop().sock_recv(accepted, 65536)


async def listens_and_resets(accepted: socket.socket) -> None:
    """Take the ClientHello and reset."""
    await listens_and_ends(accepted)
    await resets(accepted)


async def speaks_http(accepted: socket.socket) -> None:
    """Answer a ClientHello as a web server without TLS does."""
    await listens_and_ends(accepted)
    await asyncio.get_running_loop().sock_sendall(
        accepted, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
    )


async def directly(target: wire.SchedulerAddress) -> Any:
    return await GatewayConnector()._direct(target, ssl.create_default_context(), 5.0)


@pytest.mark.parametrize("answer", [ends, resets, listens_and_ends, listens_and_resets])
async def test_a_peer_that_goes_away_is_tried_again(answer: Answer) -> None:
    async with peer(answer) as target:
        with pytest.raises(NoDirectWay) as failed:
            await directly(target)
    assert isinstance(failed.value.error, OSError)
    assert not isinstance(failed.value.error, FatalCommClosedError)  # Dask would never try again


async def connected_until(target: wire.SchedulerAddress, happened: Callable[[Any], bool]) -> Any:
    """Return a connected stream to which something has happened before anybody looks at it
    again."""
    stream = await BaseTCPConnector.client.connect(target.host, target.port)
    stream._maybe_add_error_listener()  # as the loop itself does once it gets its turn
    await comes(lambda: happened(stream))
    return stream


async def test_a_peer_that_went_between_the_connection_and_tls_is_tried_again() -> None:
    async with peer(ends) as target:
        opening = connected_until(target, lambda stream: stream.closed())
        with pytest.raises(NoDirectWay) as failed:
            await GatewayConnector()._secured(opening, target, ssl.create_default_context())
    assert isinstance(failed.value.error, CommClosedError)
    assert not isinstance(failed.value.error, FatalCommClosedError)


async def test_a_peer_that_speaks_first_does_not_speak_tls() -> None:
    async def greets(accepted: socket.socket) -> None:
        await asyncio.get_running_loop().sock_sendall(accepted, b"SSH-2.0-OpenSSH_9.2\r\n")
        await listens_and_ends(accepted)

    async with peer(greets) as target:
        opening = connected_until(target, lambda stream: stream._read_buffer)
        with pytest.raises(NoDirectWay, match="does not speak TLS"):
            await GatewayConnector()._secured(opening, target, ssl.create_default_context())


async def test_a_web_server_without_tls_is_told_by_name() -> None:
    async with peer(speaks_http) as target:
        with pytest.raises(NoDirectWay, match="WRONG_VERSION_NUMBER") as failed:
            await directly(target)
    assert isinstance(failed.value.error, FatalCommClosedError)  # unless a tunnel passes


def threads_are_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be as at the end of an interpreter, whose other threads still run."""
    over = ThreadPoolExecutor(1)
    over.shutdown()
    monkeypatch.setitem(channel._pools, (os.getpid(), False), over)


async def test_a_process_that_ends_is_told_so_in_words_that_dask_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads_are_no_more(monkeypatch)
    async with peer(ends) as target:
        # to ask whether it has ended, and for a certificate
        for given in ({"ssl_context": ssl.create_default_context()}, {}):
            with (
                dask.config.set({"gateway.tunnel": "never"}),
                pytest.raises(OSError, match=r"closed|ended|process is ending"),
            ):
                await GatewayConnector().connect(str(target).removeprefix("dgw://"), **given)  # type: ignore[arg-type]
        with pytest.raises(OSError, match="process is ending"):
            await GatewayConnector()._tunnelled(target, ssl.create_default_context())


async def test_a_name_that_is_not_looked_up_as_the_process_ends_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def over(*_: object, **__: object) -> None:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", over)
    with pytest.raises(NoDirectWay, match="cannot schedule"):
        await directly(wire.SchedulerAddress("gateway.example.org", 8000, UID))
