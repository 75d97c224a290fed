"""What a tunnel meets on its way that is not the edge's answer, or comes when nobody waits for it
any more."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.client.calls.channel import Connection
from gateway.client.calls.settings import Auth, Settings
from gateway.client.dask import tunnel
from tests.listening import listening

UID = "c" + "a" * 20
Answer = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, §1.3


@asynccontextmanager
async def edge(answer: Answer) -> AsyncIterator[Connection]:
    """Something in the edge's place that does `answer` to a request, and then closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(await reader.readuntil(b"\r\n\r\n"), reader, writer)
        finally:
            writer.close()

    async with listening(serve) as port:
        yield Connection(Settings(f"http://127.0.0.1:{port}", Auth()))


def switched(head: bytes) -> bytes:
    """Return the answer that opens a WebSocket."""
    fields = dict(line.partition(": ")[::2] for line in head.decode().lower().split("\r\n"))
    assert fields["upgrade"] == "websocket"
    key = next(
        line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
    ).partition(b": ")[2]
    accepted = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
    return (
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accepted
        + b"\r\n\r\n"
    )


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\x15\x03\x01\x00\x02\x02\x70",
        b"HTTP/1.1 101 Swi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 X\r\nContent-Length: 100\r\n\r\ncut off",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
    ids=["nothing", "an alert", "half a line", "a page", "a login", "half a page", "too much"],
)
async def test_what_is_no_answer_of_the_edge_is_an_error_that_dask_knows(said: bytes) -> None:
    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)

    async with edge(answer) as connection:
        with pytest.raises(OSError, match="tunnel"):
            await tunnel.open_tunnel(connection, UID)


async def test_a_tunnel_that_opens_when_nobody_waits_for_it_any_more_is_closed() -> None:
    asked, given_up, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def answer(
        head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        asked.set()
        await given_up.wait()
        writer.write(switched(head))
        await reader.read()
        over.set()

    async with edge(answer) as connection:
        opening = asyncio.ensure_future(tunnel.open_tunnel(connection, UID))
        async with asyncio.timeout(10):
            await asked.wait()
            opening.cancel()  # as Dask does, whose patience is shorter
            with pytest.raises(asyncio.CancelledError):
                await opening
            given_up.set()
            await over.wait()
