"""The public port: takes connections in, hears what each wants, and hands the untouched socket to
whoever serves that.

First bytes are only looked at (MSG_PEEK); SO_RCVLOWAT keeps a hello that comes byte by byte from
waking the loop each time. Most hellos are there when their connection is accepted: those are sorted
at once, with nothing registered anywhere.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from socket import SocketType

from gateway.networks import group_of
from gateway.proxy.counting.counts import Counts
from gateway.proxy.door.admission import Admission
from gateway.proxy.door.client_hello import MAX_HELLO_BYTES, Hello, Junk, NeedMore, Verdict, judge
from gateway.proxy.door.hello_shapes import Shapes
from gateway.proxy.sockets.deadlines import Deadlines
from gateway.proxy.sockets.poller import ENDED, IN, Poller
from gateway.proxy.sockets.vitality import probe

logger = logging.getLogger(__name__)

BACKLOG = 4096
ACCEPT_BATCH = 64
PAUSE_S = 0.2  # without descriptors, accepting rests for so long

# the address is to leave the admission when the connection is over
Serve = Callable[[SocketType, Verdict, str], None]

_first = bytearray(MAX_HELLO_BYTES)
_view = memoryview(_first)
_PEEK = socket.MSG_PEEK | socket.MSG_DONTWAIT
# As it is accepted the descriptor blocks; one system call is spared by asking not to block each
# time, until splicing or asyncio needs it.
_KIND = socket.SOCK_STREAM
_exhausted = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def bind(host: str, port: int, *, reuse_port: bool) -> SocketType:
    """Return a socket that has its port and takes nobody in yet. OSError if that cannot be."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    made = SocketType(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # accepted sockets inherit both
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        probe(made)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


class _Newcomer:
    """A connection that has not yet said what it wants."""

    __slots__ = ("address", "fd", "listener", "socket")

    def __init__(self, listener: Listener, made: SocketType, address: str) -> None:
        self.listener, self.socket, self.address, self.fd = listener, made, address, made.fileno()

    def ready(self, events: int) -> None:
        """It said something more, or its last."""
        self.listener.look(self, events)


class Listener:
    """Accepts and sorts."""

    def __init__(
        self,
        poller: Poller,
        admission: Admission,
        counts: Counts,
        serve: Serve,
        *,
        hello_timeout_s: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._poller, self._admission, self._counts, self._serve = poller, admission, counts, serve
        self._newcomers: Deadlines[_Newcomer] = Deadlines(self._loop, hello_timeout_s, self._expire)
        self._listening: SocketType | None = None
        self._family = 0
        self._resting: asyncio.TimerHandle | None = None
        self._told: set[int | None] = set()  # failures of accepting that are in the log already
        self._shapes = Shapes()

    @property
    def newcomers(self) -> int:
        """Connections that have not yet said what they want."""
        return len(self._newcomers)

    def begin(self, bound: SocketType) -> None:
        """Take connections in at a socket that `bind` made. OSError if that cannot be."""
        bound.listen(BACKLOG)
        self._listening, self._family = bound, bound.family
        self._poller.watch(bound.fileno(), IN, self._accept)

    def close(self) -> None:
        """Take nobody in any more, and let those go who have not said what they want."""
        if self._listening is not None:
            self._poller.forget(self._listening.fileno())
            self._listening.close()
            self._listening = None
        if self._resting is not None:
            self._resting.cancel()
        for newcomer in self._newcomers.clear():
            self._dismiss(newcomer)

    # Accepting

    def _accept(self, _: int) -> None:
        listening, admission, counts = self._listening, self._admission, self._counts
        if listening is None:
            return
        batch = []
        for _turn in range(ACCEPT_BATCH):
            if admission.full:
                counts.paused_full += 1
                admission.when_free(self._go_on)
                self._rest("the edge is full: %d connections", admission.present)
                break
            try:
                descriptor, source = listening._accept()  # type: ignore[attr-defined]  # what socket.accept itself calls
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                self._pause(error)
                break
            newcomer = SocketType(self._family, _KIND, 0, descriptor)
            counts.accepted += 1
            address = source[0]
            if ":" in address:
                address = group_of(address)
            if not admission.enter(address):
                counts.refused_address += 1
                newcomer.close()
                continue
            batch.append((newcomer, address))
        for newcomer, address in batch:
            try:
                self._sort(newcomer, address, None)
            except Exception:  # those who came with it are counted, and must be heard
                logger.exception("a connection could not be sorted")

    def _pause(self, error: OSError) -> None:
        """Rest a little after accepting failed, for want of descriptors or whatever else."""
        if error.errno in _exhausted:
            self._counts.paused_descriptors += 1
            self._rest("%s", error.strerror)
        else:
            if error.errno not in self._told:
                self._told.add(error.errno)
                logger.error("accepting fails: %s", error.strerror)
            self._release()
        self._resting = self._loop.call_later(PAUSE_S, self._go_on)

    def _rest(self, why: str, *words: object) -> None:
        """Accept nothing: a listening socket that cannot be served would wake the loop without
        end."""
        logger.warning("no connections are accepted for now: " + why, *words)
        self._release()

    def _release(self) -> None:
        if self._listening is not None:
            self._poller.release(self._listening.fileno())

    def _go_on(self) -> None:
        self._resting = None
        if self._listening is not None:
            self._poller.watch(self._listening.fileno(), IN, self._accept)

    # Sorting

    def look(self, newcomer: _Newcomer, events: int) -> None:
        """Hear what a newcomer has said so far."""
        self._sort(newcomer.socket, newcomer.address, newcomer, ended=bool(events & ENDED))

    def _sort(
        self, made: SocketType, address: str, known: _Newcomer | None, *, ended: bool = False
    ) -> None:
        try:
            count = made.recv_into(_first, 0, _PEEK)
        except (BlockingIOError, InterruptedError):
            if known is None:
                self._keep(made, address, 1)
            return
        except OSError:
            count = 0
        verdict = self._judge(bytes(_view[:count])) if count else Junk("it was closed")
        if isinstance(verdict, NeedMore) and verdict.total > count and not ended:
            if known is None:
                self._keep(made, address, verdict.total)
            else:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, verdict.total)
            return
        if known is not None:
            self._newcomers.discard(known)
            self._poller.release(known.fd)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        if isinstance(verdict, (Junk, NeedMore)):
            self._counts.junk += 1
            made.close()
            self._admission.leave(address)
            return
        self._serve(made, verdict, address)

    def _judge(self, received: bytes) -> Verdict:
        known = self._shapes.find(received)
        if known is not None:
            return known
        verdict = judge(received)
        if isinstance(verdict, Hello):
            self._shapes.learn(received, verdict)
        return verdict

    def _keep(self, made: SocketType, address: str, total: int) -> None:
        """Wait for so many bytes."""
        if len(self._newcomers) >= self._admission.capacity.newcomers:
            self._counts.refused_newcomer += 1
            self._dismiss(self._newcomers.pop_oldest())
        if total > 1:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, total)
        newcomer = _Newcomer(self, made, address)
        self._newcomers.add(newcomer)
        self._poller.watch(newcomer.fd, IN | ENDED, newcomer.ready)

    def _expire(self, newcomer: _Newcomer) -> None:
        self._counts.hello_timeouts += 1
        self._dismiss(newcomer)

    def _dismiss(self, newcomer: _Newcomer) -> None:
        self._poller.forget(newcomer.fd)
        newcomer.socket.close()
        self._admission.leave(newcomer.address)
