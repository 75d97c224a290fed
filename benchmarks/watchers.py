"""Thousands of open watches in one process, cheap enough not to be what is measured: HTTP/2 by hand
over the server's own socket.

A client library costs 50 us and more for a message; this one reads frames (RFC 9113) and counts
gRPC's messages. It knows just what the benchmark needs of both.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Callable, Sequence

from google.protobuf.message import Message

from benchmarks.load import framed

PER_CONNECTION = 100  # streams
READ_BYTES = 1 << 20
BIG_WINDOW = 2**30
EVENT_BYTES = 100  # a message that is longer tells of a cluster; a bookmark has some 20
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return (
        struct.pack(">I", len(payload))[1:]
        + bytes([kind, flags])
        + struct.pack(">I", stream)
        + payload
    )


def _literal(name: bytes, value: bytes) -> bytes:
    """Return a header as HPACK spells it without tables (RFC 7541, 6.2.2)."""
    return b"\x00" + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes([len(text)]) + text
    rest, length = len(text) - 127, bytearray([127])
    while rest >= 128:
        length.append(rest % 128 + 128)
        rest //= 128
    return bytes(length) + bytes([rest]) + text


class _Stream:
    """What came on one stream."""

    __slots__ = ("head", "left", "messages")

    def __init__(self) -> None:
        self.head = b""  # of a message whose length is not there yet
        self.left = 0  # bytes of the message that is being read
        self.messages: list[int] = []  # their lengths

    def feed(self, payload: bytes) -> int:
        """Take the bytes of a DATA frame; return how many events began in it."""
        position, events = 0, 0
        while position < len(payload):
            if self.left:
                taken = min(self.left, len(payload) - position)
                self.left -= taken
                position += taken
                continue
            missing = 5 - len(self.head)
            self.head += payload[position : position + missing]
            position += missing
            if len(self.head) == 5:
                self.left = int.from_bytes(self.head[1:], "big")
                self.messages.append(self.left)
                events += self.left > EVENT_BYTES
                self.head = b""
        return events


class _Connection:
    """One connection and its streams."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.streams: dict[int, _Stream] = {}
        self.events = 0
        self.failed = 0
        self._next = 1
        self._received = bytearray()
        window = _frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, BIG_WINDOW))
        self.socket.sendall(
            PREFACE + window + _frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", BIG_WINDOW))
        )

    def call(self, method: bytes, authorization: bytes, request: Message) -> None:
        """Open a stream with one request."""
        stream, self._next = self._next, self._next + 2
        headers = b"\x83\x86" + _literal(b":path", method) + _literal(b":authority", b"localhost")
        headers += (
            _literal(b"content-type", b"application/grpc")
            + _literal(b"te", b"trailers")
            + _literal(b"authorization", authorization)
        )
        self.streams[stream] = _Stream()
        self.socket.sendall(
            _frame(HEADERS, END_HEADERS, stream, headers)
            + _frame(DATA, END_STREAM, stream, framed(request))
        )

    def read(self) -> None:
        """Take what has come."""
        piece = self.socket.recv(READ_BYTES)
        if not piece:
            raise EOFError("the server closed a connection of watches")
        received = self._received
        received += piece
        position, end = 0, len(received)
        while end - position >= 9:
            length = int.from_bytes(received[position : position + 3], "big")
            if end - position < 9 + length:
                break
            kind, flags = received[position + 3], received[position + 4]
            stream = int.from_bytes(received[position + 5 : position + 9], "big")
            self._take(kind, flags, stream, bytes(received[position + 9 : position + 9 + length]))
            position += 9 + length
        del received[:position]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA:
            self.events += self.streams[stream].feed(payload)
        elif kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):
            self.failed += 1
        elif kind == SETTINGS and not flags & ACK:
            self.socket.sendall(_frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.socket.sendall(_frame(PING, ACK, 0, payload))


class Watchers:
    """Open watches; each is one stream."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connections: list[_Connection] = []
        self._selector = selectors.DefaultSelector()

    def open(self, method: str, calls: Sequence[tuple[str, Message]]) -> None:
        """Open a stream for each pair of an authorization and a request, as fast as can be."""
        for first in range(0, len(calls), PER_CONNECTION):
            connection = _Connection(self._path)
            self._connections.append(connection)
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
            for authorization, request in calls[first : first + PER_CONNECTION]:
                connection.call(method.encode(), authorization.encode(), request)

    @property
    def events(self) -> int:
        """How many messages have told of a cluster, over all streams."""
        return sum(connection.events for connection in self._connections)

    @property
    def failed(self) -> int:
        """How many streams have ended."""
        return sum(connection.failed for connection in self._connections)

    def counts(self) -> list[int]:
        """Return how many messages each stream has had."""
        return [
            len(stream.messages)
            for connection in self._connections
            for stream in connection.streams.values()
        ]

    def until(self, holds: Callable[[], bool], limit_s: float) -> float:
        """Read until something holds; return how many seconds that took. TimeoutError if it does
        not in time."""
        began = time.perf_counter()
        while not holds():
            if time.perf_counter() - began > limit_s:
                raise TimeoutError(
                    f"watches: {self.events} events, {self.failed} ended after {limit_s:g} s"
                )
            for key, _ in self._selector.select(0.05):
                key.data.read()
        return time.perf_counter() - began

    def read_for(self, seconds: float) -> None:
        """Read whatever comes for a while."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            for key, _ in self._selector.select(left):
                key.data.read()

    def close(self) -> None:
        """Close every connection."""
        for connection in self._connections:
            connection.socket.close()
        self._selector.close()
        self._connections.clear()
