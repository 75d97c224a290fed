"""HTTP/2 written by hand: frames and heads as a client sends them, well-formed or not."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Iterable

import hpack

from gateway.proxy.http2.frames import DATA as DATA_FRAME
from gateway.proxy.http2.frames import END_HEADERS, END_STREAM, HEADERS, PREFACE, frame, settings

GREETING = PREFACE + settings({})
LIST = "/daskgateway.v1.ClusterService/ListClusters"


def head(
    path: str = LIST,
    authorization: str = "",
    kind: str = "application/grpc",
    more: Iterable[tuple[str, str]] = (),
) -> bytes:
    """Return the header block of a call, which leaves nothing in HPACK's memory, so that any may
    follow any."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
        ("content-type", kind),
        ("te", "trailers"),
    ]
    fields += [("authorization", authorization)] if authorization else []
    encoded = b""
    for name, value in [*fields, *more]:
        raw_name, raw_value = name.encode(), value.encode()
        encoded += b"\x10" + _number(len(raw_name)) + raw_name + _number(len(raw_value)) + raw_value
    return encoded


def _number(value: int) -> bytes:
    return bytes(hpack.hpack.encode_integer(value, 7))


def opening(stream: int, block: bytes | None = None, *, ends: bool = False) -> bytes:
    """Return the frame that opens a stream."""
    return frame(
        HEADERS,
        END_HEADERS | (END_STREAM if ends else 0),
        stream,
        head() if block is None else block,
    )


def message(size: int = 0) -> bytes:
    """Return a gRPC message of so many bytes."""
    return b"\0" + struct.pack(">I", size) + bytes(size)


def body(stream: int, content: bytes | None = None, *, ends: bool = True) -> bytes:
    """Return the DATA of a call."""
    return frame(
        DATA_FRAME, END_STREAM if ends else 0, stream, message() if content is None else content
    )


def call(stream: int, authorization: str = "", path: str = LIST) -> bytes:
    """Return a whole call."""
    return opening(stream, head(path, authorization)) + body(stream)


class Client:
    """A connection whose frames are written by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int, context: ssl.SSLContext | None = None) -> Client:
        """Connect, and say nothing yet."""
        name = "127.0.0.1" if context is not None else None
        return cls(
            *await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        )

    def send(self, *pieces: bytes) -> None:
        """Send bytes."""
        self.writer.write(b"".join(pieces))

    async def frame(self) -> tuple[int, int, int, bytes]:
        """Return the next frame: kind, flags, stream, payload. IncompleteReadError at the end."""
        start = await self.reader.readexactly(9)
        size = int.from_bytes(start[:3], "big")
        return (
            start[3],
            start[4],
            int.from_bytes(start[5:], "big"),
            await self.reader.readexactly(size),
        )

    async def until(
        self, kind: int, stream: int | None = None, within_s: float = 20.0
    ) -> tuple[int, int, int, bytes]:
        """Return the next frame of a kind, and of a stream if one is told."""
        async with asyncio.timeout(within_s):
            while True:
                found = await self.frame()
                if found[0] == kind and stream in (None, found[2]):
                    return found

    async def rest(self, within_s: float = 20.0) -> list[tuple[int, int, int, bytes]]:
        """Return all frames until the end of the connection."""
        found = []
        try:
            async with asyncio.timeout(within_s):
                while True:
                    found.append(await self.frame())
        except (asyncio.IncompleteReadError, ConnectionError):
            self.close()
            return found

    def close(self) -> None:
        """Let go."""
        self.writer.close()
