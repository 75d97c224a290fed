"""The public port: takes connections in, hears what each wants, and hands the untouched socket to whoever serves that.

First bytes are only looked at (MSG_PEEK); SO_RCVLOWAT keeps a hello that comes byte by byte from waking the loop each time.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable

from gateway.proxy.client_hello import MAX_HELLO_BYTES, Junk, NeedMore, Verdict, judge

logger = logging.getLogger(__name__)

BACKLOG = 4096
ACCEPT_BATCH = 64
PAUSE_S = 0.2  # without descriptors or room, accepting rests for so long
LINGER_BYTES = 64 * 1024

Serve = Callable[[socket.socket, Verdict], None]


class Listener:
    """Accepts and sorts."""

    def __init__(self, serve: Serve, *, hello_timeout_s: float, max_newcomers: int, room: Callable[[], bool]) -> None:
        self._serve, self._timeout_s, self._max_newcomers, self._room = serve, hello_timeout_s, max_newcomers, room
        self._loop = asyncio.get_running_loop()
        self._newcomers: OrderedDict[socket.socket, float] = OrderedDict()  # oldest first, with their deadlines
        self._sockets: list[socket.socket] = []
        self._sweeping: asyncio.TimerHandle | None = None
        self._open = False

    @property
    def newcomers(self) -> int:
        """Connections that have not yet said what they want."""
        return len(self._newcomers)

    def listen(self, host: str, port: int, *, reuse_port: bool) -> tuple[str, int]:
        """Begin; return host and port. OSError if that cannot be."""
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            made.bind(address)
            made.listen(BACKLOG)
        except OSError:
            made.close()
            raise
        self._sockets.append(made)
        self._open = True
        self._loop.add_reader(made, self._accept, made)
        bound = made.getsockname()
        return str(bound[0]), int(bound[1])

    def close(self) -> None:
        """Take nobody in any more, and let those go who have not said what they want."""
        self._open = False
        for made in self._sockets:
            self._loop.remove_reader(made)
            made.close()
        for newcomer in list(self._newcomers):
            self._dismiss(newcomer)
        if self._sweeping is not None:
            self._sweeping.cancel()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPT_BATCH):
            if not self._room():
                self._pause(listening, "the edge is full")
                return
            try:
                newcomer, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                self._pause(listening, str(error.strerror))
                return
            newcomer.setblocking(False)
            self._greet(newcomer)

    def _pause(self, listening: socket.socket, why: str) -> None:
        """Rest: a listening socket that cannot be served would wake the loop without end."""
        logger.warning("no connections are accepted for %g s: %s", PAUSE_S, why)
        self._loop.remove_reader(listening)
        self._loop.call_later(PAUSE_S, lambda: self._open and self._loop.add_reader(listening, self._accept, listening))

    def _greet(self, newcomer: socket.socket) -> None:
        while len(self._newcomers) >= self._max_newcomers:
            self._dismiss(next(iter(self._newcomers)))
        self._newcomers[newcomer] = self._loop.time() + self._timeout_s
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(self._timeout_s, self._sweep)
        self._loop.add_reader(newcomer, self._look, newcomer)
        self._look(newcomer)

    def _look(self, newcomer: socket.socket) -> None:
        try:
            received = newcomer.recv(MAX_HELLO_BYTES, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._dismiss(newcomer)
            return
        verdict = judge(received) if received else Junk("it was closed")
        if isinstance(verdict, NeedMore):
            self._wait_for(newcomer, len(received), verdict.total)
            return
        del self._newcomers[newcomer]
        self._loop.remove_reader(newcomer)
        if isinstance(verdict, Junk):
            newcomer.close()
            return
        newcomer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        self._serve(newcomer, verdict)

    def _wait_for(self, newcomer: socket.socket, received: int, total: int) -> None:
        if total <= received:
            self._dismiss(newcomer)
            return
        newcomer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, total)

    def _sweep(self) -> None:
        """Dismiss those whose time is over."""
        now = self._loop.time()
        while self._newcomers and next(iter(self._newcomers.values())) <= now:
            self._dismiss(next(iter(self._newcomers)))
        self._sweeping = None
        if self._newcomers:
            wait_s = next(iter(self._newcomers.values())) - now
            self._sweeping = self._loop.call_later(max(0.05, wait_s), self._sweep)

    def _dismiss(self, newcomer: socket.socket) -> None:
        del self._newcomers[newcomer]
        self._loop.remove_reader(newcomer)
        newcomer.close()


def refuse(newcomer: socket.socket, words: bytes) -> None:
    """Say why and close. What was received is read first: closing over unread bytes would reset the connection and lose the words."""
    try:
        newcomer.recv(LINGER_BYTES)
        newcomer.send(words)
        newcomer.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    newcomer.close()
