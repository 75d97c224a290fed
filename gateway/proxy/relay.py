"""Carries bytes between two sockets, both ways, untouched. Plain non-blocking sockets on the event loop.

Each direction holds at most one chunk; while the receiver is slow, nothing more is read from the sender. The end of one direction is
passed on as such (half-close) while the other goes on.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

CHUNK_BYTES = 256 * 1024


class _Direction:
    """One way: from a source to a sink."""

    __slots__ = ("_loop", "_pending", "_relay", "_sink", "_source", "done")

    def __init__(self, relay: Relay, loop: asyncio.AbstractEventLoop, source: socket.socket, sink: socket.socket) -> None:
        self._relay, self._loop, self._source, self._sink = relay, loop, source, sink
        self._pending: memoryview | None = None
        self.done = False

    def start(self) -> None:
        self._loop.add_reader(self._source, self._readable)

    def _readable(self) -> None:
        try:
            received = self._source.recv(CHUNK_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._relay.close()
            return
        if not received:
            self._finish()
            return
        try:
            sent = self._sink.send(received)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._relay.close()
            return
        self._relay.carried += sent
        if sent < len(received):
            self._pending = memoryview(received)[sent:]
            self._loop.remove_reader(self._source)
            self._loop.add_writer(self._sink, self._writable)

    def _writable(self) -> None:
        assert self._pending is not None
        try:
            sent = self._sink.send(self._pending)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._relay.close()
            return
        self._relay.carried += sent
        self._pending = self._pending[sent:]
        if not self._pending:
            self._pending = None
            self._loop.remove_writer(self._sink)
            self._loop.add_reader(self._source, self._readable)

    def _finish(self) -> None:
        """Pass the end on."""
        self._loop.remove_reader(self._source)
        self.done = True
        try:
            self._sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._relay.close()
            return
        self._relay.one_way_done()


class Relay:
    """A pair of sockets that are each other's peers from now on."""

    __slots__ = ("_closed", "_down", "_loop", "_on_close", "_up", "carried", "client", "upstream")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, client: socket.socket, upstream: socket.socket, on_close: Callable[[Relay], None]
    ) -> None:
        self._loop, self.client, self.upstream, self._on_close = loop, client, upstream, on_close
        self.carried = 0
        self._closed = False
        self._up = _Direction(self, loop, client, upstream)
        self._down = _Direction(self, loop, upstream, client)

    def start(self) -> None:
        """Begin."""
        self._up.start()
        self._down.start()

    def one_way_done(self) -> None:
        """Close once both ways have ended."""
        if self._up.done and self._down.done:
            self.close()

    def close(self) -> None:
        """End both ways at once."""
        if self._closed:
            return
        self._closed = True
        for end in (self.client, self.upstream):
            self._loop.remove_reader(end)
            self._loop.remove_writer(end)
            end.close()
        self._on_close(self)


async def connect(address: tuple[str, int], timeout_s: float) -> socket.socket:
    """Return a connected socket; OSError if that cannot be within the timeout."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        found = await loop.getaddrinfo(*address, type=socket.SOCK_STREAM)
        error: OSError = OSError(f"{address[0]} has no address")
        for family, kind, protocol, _, where in found:
            made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
            try:
                await loop.sock_connect(made, where)
            except OSError as failed:
                made.close()
                error = failed
            except BaseException:
                made.close()
                raise
            else:
                prepare(made)
                return made
        raise error


def prepare(end: socket.socket) -> None:
    """Set what every relayed TCP socket has: no delay of small writes, and a check that the peer still lives."""
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 20)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
