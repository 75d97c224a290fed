"""What floods are made of: whom they go to, and what is sent."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

STALL_S = 0.5  # a connection that takes nothing for so long is held, and another begins


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to attack, and as whom."""

    port: int
    context: ssl.SSLContext
    ends_at: float
    authorization: str
    uid: str
    token: str

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.ends_at

    def connect(self, protocol: str = "h2") -> ssl.SSLSocket:
        """Return a connection."""
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        raw.settimeout(5)
        made = self.context.wrap_socket(raw, server_hostname="127.0.0.1")
        made.settimeout(STALL_S)
        return made


Content = Callable[[Target], Iterator[bytes]]  # what is sent on one connection, piece by piece


def streams(make: Callable[[int], bytes], batch: int = 50) -> Iterator[bytes]:
    """Yield what is sent on one stream after the other, so many at a time."""
    stream = 1
    while stream < 2**30:
        yield b"".join(make(number) for number in range(stream, stream + 2 * batch, 2))
        stream += 2 * batch


def repeated(piece: bytes, count: int) -> Iterator[bytes]:
    """Yield the same without end, so many at a time."""
    whole = piece * count
    while True:
        yield whole


def post(path: str, authorization: str, body: bytes) -> bytes:
    """Return a call over HTTP/1.1."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        *([f"Authorization: {authorization}"] if authorization else []),
    ]
    return (
        "\r\n".join(
            [*lines, "Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
        ).encode()
        + body
    )
