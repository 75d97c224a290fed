"""Who answers in the place of an identity provider that speaks HTTP, and never as it should."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tests.parts.jupyterhub import Liar

PIECE_S = 0.05  # between pieces of an answer that comes by and by
MIB = 1024 * 1024
ELSEWHERE = "http://127.0.0.1:9/hub/api/user"  # where a client is led that follows


def answering(answer: Callable[[str], Iterable[bytes]], pause_s: float = 0.0) -> Liar:
    """Return somebody who answers each request by its path, in pieces, and then ends the
    connection."""

    async def liar(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].decode()
        for piece in answer(path):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return liar


def http(body: bytes, status: str = "200 OK", kind: str = "application/json", **more: str) -> bytes:
    """Return an answer."""
    headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
    told = headers | {name.replace("_", "-"): value for name, value in more.items()}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in told.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def always(answer: bytes) -> Liar:
    """Return somebody who always answers the same."""
    return answering(lambda path: [answer])


def telling(told: Any) -> Liar:
    """Return somebody who answers JSON: by path, if it is a function."""

    def answer(path: str) -> Iterator[bytes]:
        yield http(json.dumps(told(path) if callable(told) else told).encode())

    return answering(answer)


def _endless(first: bytes, piece: bytes) -> Callable[[str], Iterable[bytes]]:
    return lambda path: itertools.chain([first], itertools.repeat(piece))


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
HTML = b"<!doctype html><title>Sign in</title><form>Your password: <input></form>"
BOMB = gzip.compress(bytes(256 * MIB), 9)  # of 256 KiB

# what is no answer whoever is asked, by what it is
LIES: Mapping[str, Liar] = {
    "a page of HTML with 200": always(http(HTML, kind="text/html")),
    "HTML that says it is JSON": always(http(HTML)),
    "nothing with 200": always(http(b"")),
    "204": always(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "what is no UTF-8": always(http(b'{"name": "\xff\xfe"}')),
    "JSON that is cut off": always(http(b'{"name": "bob", "gro')),
    "a body shorter than it says": always(http(b"{}", Content_Length="400")),
    "null": telling(None),
    "a number": telling(7),
    "a text": telling("bob"),
    "a list": telling([{"name": "bob", "groups": [], "scopes": ["access:services"]}]),
    "an empty object": telling({}),
    "objects in objects without end": always(http(b'{"a":' * 100_000)),
    "a redirect": always(http(b"", "302 Found", Location=ELSEWHERE)),
    "a redirect that keeps the method": always(http(b"", "307 x", Location=ELSEWHERE)),
    "a fault of its own": always(http(HTML, "500 Internal Server Error", "text/html")),
    "a proxy's fault": always(http(HTML, "502 Bad Gateway", "text/html")),
    "too many requests": always(http(b"{}", "429 Too Many Requests")),
    "what is no HTTP": always(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "bytes": always(bytes(range(256)) * 64),
    "nothing, and the end": always(b""),
    "eight MiB": always(http(b'{"name": "' + b"a" * 8 * MIB + b'"}')),
    "256 MiB in 256 KiB": always(http(BOMB, Content_Encoding="gzip")),
    "a body without end": answering(_endless(CHUNKED, b"10000\r\n" + b" " * 65536 + b"\r\n")),
    "a body that comes by and by": answering(_endless(CHUNKED, b"1\r\n \r\n"), PIECE_S),
    "headers without end": answering(_endless(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 1000)),
    "headers that come by and by": answering(
        _endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), PIECE_S
    ),
}
