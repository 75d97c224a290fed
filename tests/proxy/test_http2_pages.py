"""Pages over HTTP/2 whose connection ends while they are made: whoever makes them writes on, and
nothing comes of it."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import hpack
import pytest

from gateway.proxy.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    WINDOW_UPDATE,
    frame,
    settings,
)
from gateway.proxy.http2.pages import PagesConnection

FIELDS = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "x")]
UPPER = [*FIELDS, ("X-Upper", "y")]
ENDS = {
    "a malformed head": frame(HEADERS, END_HEADERS | END_STREAM, 3, hpack.Encoder().encode(UPPER)),
    "a window beyond all bounds": frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**31 - 1)),
    "a frame that is too large": frame(DATA, 0, 1, bytes(20_000)),
}


class Wire(asyncio.Transport):
    """A connection whose client takes nothing, so that it is not closed at once."""

    def __init__(self) -> None:
        super().__init__()
        self.sent, self.closing = b"", False

    def write(self, data: Any) -> None:
        assert not self.closing
        self.sent += bytes(data)

    def close(self) -> None:
        self.closing = True


class Maker(asyncio.Protocol):
    """Makes a page when it is told to."""

    transport: Any = None
    lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


@pytest.mark.parametrize("end", ENDS)
async def test_what_is_made_after_the_end_of_its_connection_is_dropped(end: str) -> None:
    wire, maker = Wire(), Maker()
    pages = PagesConnection(wire, lambda: maker, {})
    begin = frame(HEADERS, END_HEADERS, 1, hpack.Encoder().encode(FIELDS))
    pages.receive(PREFACE + settings({}) + begin)
    maker.transport.pause_reading()
    pages.receive(frame(DATA, 0, 1, bytes(100)))
    pages.receive(ENDS[end])
    assert wire.closing
    maker.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    maker.transport.resume_reading()
    maker.transport.close()
    await asyncio.sleep(0)
    assert maker.lost
    assert pages.idle
    pages.receive(begin)
    pages.close()
