"""Carries bytes between two sockets, both ways, untouched: copied while they are few, moved by the
kernel through a pipe in bulk.

Each direction holds at most one chunk (64 KiB copied, or a pipe of 1 MiB); while the receiver is
slow nothing more is read from the sender, so that the kernel's own flow control reaches it. The end
of one direction is passed on as such (half-close) while the other goes on; what is cut from here,
with neither peer's doing, ends in a reset, which nobody takes for an end. Both sockets are watched
edge-triggered, once and for all; so what is ready is read until there is nothing more, or seen to
again. Knows sockets and the poller; nothing of names, routes or limits.
"""

from __future__ import annotations

import contextlib
import errno
import os
from fcntl import ioctl
from socket import MSG_DONTWAIT, SHUT_WR, SO_ERROR, SO_LINGER, SOL_SOCKET, SocketType
from struct import pack, unpack
from termios import TIOCOUTQ
from typing import Protocol

from gateway.proxy.relay.pipes import PIPE_BYTES, Pipe
from gateway.proxy.sockets.poller import EDGES, ENDED, ERROR, OUT, Poller

# whom a relay counts for: the client's address, the cluster's uid
Place = tuple[str, str]

CHUNK_BYTES = 64 * 1024
SMALL_BYTES = 16 * 1024  # a bulk flow that moves no more at once is none any longer
MOVES = 4  # chunks moved for one socket before the others have their turn

_chunk = bytearray(CHUNK_BYTES)  # nothing stays in it beyond one call
_view = memoryview(_chunk)
_NO_INT = bytes(4)
# struct linger: closing drops what is unsent and resets the connection (socket(7))
RESET = pack("ii", 1, 0)
_MOVE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class RelayEnd:
    """One socket of a relay. What is read from it goes to its peer; what the peer does not take yet
    is held here."""

    __slots__ = (
        "_bulk",
        "_held_in_pipe",
        "_pending",
        "_pipe",
        "_queued",
        "_receive",
        "_relay",
        "carried",
        "ended",
        "fd",
        "holds",
        "peer",
        "send",
        "socket",
    )

    peer: RelayEnd

    def __init__(self, relay: Relay, end: SocketType) -> None:
        self._relay, self.socket, self.fd = relay, end, end.fileno()
        self._receive, self.send = end.recv_into, end.send
        self._pending: memoryview | None = None
        self._pipe: Pipe | None = None
        self._held_in_pipe = 0
        self._bulk = False
        self._queued = False  # it goes on when the others have had their turn
        self.holds = False  # something the peer has not taken
        self.ended = False  # it has said its last
        self.carried = 0  # bytes read from it

    @property
    def delivered(self) -> int:
        """Bytes read from it that the peer's machine has acknowledged."""
        held = self._held_in_pipe + len(self._pending or b"")
        try:
            unsent: int = unpack("i", ioctl(self.peer.fd, TIOCOUTQ, _NO_INT))[0]
        except OSError:  # no TCP socket, or none any more
            unsent = 0
        return self.carried - held - unsent

    # Readiness

    def ready(self, events: int) -> None:
        """Do what the kernel says can be done."""
        try:
            if self.peer.holds and events & OUT:
                self.peer.flush()
            if events == OUT:
                return
            if not self.holds and not self.ended:
                self._read(events)
            elif events & ERROR and (code := self.socket.getsockopt(SOL_SOCKET, SO_ERROR)):
                self._relay.broken(code)
        except OSError as error:
            self._relay.broken(error.errno)

    def _go_on(self, _: int) -> None:
        """Read more: there was more than one turn's worth."""
        self._queued = False
        if not self._relay.closed and not self.holds:
            self.ready(ENDED)

    # Moving

    def _read(self, events: int) -> None:
        """Read until nothing is left. A short read of a stream leaves nothing, but its end may
        follow."""
        if self._bulk:
            self._read_bulk()
            return
        left = MOVES
        while left:
            try:
                count = self._receive(_chunk, 0, MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                return
            if not count:
                self._finish()
                return
            self.carried += count
            try:
                sent = self.peer.send(_view[:count], MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                sent = 0
            if sent < count:
                self._pending = memoryview(bytes(_view[sent:count]))
                self.holds = True
                return
            if count == CHUNK_BYTES:
                # asked for once a turn: a refusal may cost four system calls
                if left == MOVES and self._begin_bulk():
                    self._read_bulk()
                    return
            elif not events & ENDED:
                return
            left -= 1
        self._again()

    def _again(self) -> None:
        """Go on when the others have had their turn."""
        if not self._queued:
            self._queued = True
            self._relay.owner.poller.again(self._go_on)

    def _begin_bulk(self) -> bool:
        """From now on the kernel moves what comes, if a pipe is to be had; whether one was."""
        self._pipe = self._relay.owner.lease(self)
        if self._pipe is None:
            return False
        self._relay.hasten()
        self._bulk = True
        return True

    def _read_bulk(self) -> None:
        pipe = self._pipe
        assert pipe is not None
        splice, source, sink = os.splice, self.fd, self.peer.fd
        for _ in range(MOVES):
            try:
                count = splice(source, pipe[1], PIPE_BYTES, flags=_MOVE)
            except (BlockingIOError, InterruptedError):
                return
            if not count:
                self._finish()
                return
            self.carried += count
            self._held_in_pipe = count
            try:
                while self._held_in_pipe:
                    self._held_in_pipe -= splice(pipe[0], sink, self._held_in_pipe, flags=_MOVE)
            except (BlockingIOError, InterruptedError):
                self.holds = True
                return
            if count < SMALL_BYTES:
                self._calm()
                break
        self._again()

    def _calm(self) -> None:
        """Bulk is over: the pipe is for others."""
        self._bulk = False
        if self._pipe is not None:
            self._relay.owner.give_back(self, self._pipe, empty=self._held_in_pipe == 0)
            self._pipe = None

    def rest(self) -> None:
        """Let an empty pipe go: nothing has come for a while. Should more come it is bulk anew."""
        if not self._held_in_pipe:
            self._calm()

    def flush(self) -> None:
        """Hand on what is held, the peer can be written to; then read on."""
        try:
            while self._pending:
                self._pending = self._pending[self.peer.send(self._pending, MSG_DONTWAIT) :]
            while self._held_in_pipe and self._pipe is not None:
                self._held_in_pipe -= os.splice(
                    self._pipe[0], self.peer.fd, self._held_in_pipe, flags=_MOVE
                )
        except (BlockingIOError, InterruptedError):
            return
        self._pending = None
        self.holds = False
        self._again()

    def _finish(self) -> None:
        """Pass the end on; nothing is held, for nothing is read while something is."""
        self.ended = True
        self._calm()
        if self.peer.ended:
            self._relay.close()
            return
        try:
            self.peer.socket.shutdown(SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
            self._relay.close()

    def close(self) -> None:
        """Let go of the socket and the pipe, and of the other objects: nothing is left to the
        garbage collector."""
        self._relay.owner.poller.table.pop(self.fd, None)
        self.socket.close()
        self._calm()
        self.ended, self.holds, self._pending = True, False, None
        self.peer = self._relay.nobody


class RelayOwner(Protocol):
    """Who keeps relays: with what they are carried, and who is told of their ends."""

    poller: Poller

    def lease(self, end: RelayEnd) -> Pipe | None:
        """Return a pipe for what comes from an end, None if none is to be had."""

    def give_back(self, end: RelayEnd, pipe: Pipe, *, empty: bool) -> None:
        """Take it back."""

    def over(self, relay: Relay) -> None:
        """Both ways have ended."""

    def hasten(self, relay: Relay) -> None:
        """Bulk begins."""


class _Nobody(RelayEnd):
    """The peer of those who have none any more."""

    def __init__(self) -> None:
        self.holds, self.ended = False, True


class Relay:
    """A pair of sockets that are each other's peers from now on. The place and what was seen are
    the owner's own marks on it."""

    __slots__ = ("armed", "client", "closed", "hastened", "owner", "place", "seen", "upstream")

    nobody = _Nobody()

    def __init__(
        self, owner: RelayOwner, client: SocketType, upstream: SocketType, place: Place
    ) -> None:
        self.owner, self.place = owner, place
        self.client, self.upstream = RelayEnd(self, client), RelayEnd(self, upstream)
        self.client.peer, self.upstream.peer = self.upstream, self.client
        self.closed = False
        self.armed = False  # whether the upstream's peer is probed for life
        self.hastened = False  # whether it was told that bulk has begun
        self.seen = -1  # bytes delivered when last looked at; -1 as long as both ways are open

    def start(self, *, watched: bool) -> None:
        """Begin to carry; `watched`: the poller has the upstream socket already, and its next edge
        may be long in coming."""
        poller, client, upstream = self.owner.poller, self.client, self.upstream
        poller.table[client.fd], poller.table[upstream.fd] = client.ready, upstream.ready
        poller.epoll.register(client.fd, EDGES)
        if watched:
            upstream.ready(ENDED)
        else:
            poller.epoll.register(upstream.fd, EDGES)

    def hasten(self) -> None:
        """Tell once that bulk has begun."""
        if not self.hastened:
            self.hastened = True
            self.owner.hasten(self)

    @property
    def half_closed(self) -> bool:
        """Whether one way has ended."""
        return self.client.ended or self.upstream.ended

    @property
    def delivered(self) -> int:
        """Bytes that both have taken."""
        return self.client.delivered + self.upstream.delivered

    def broken(self, code: int | None) -> None:
        """End both ways: a peer broke off, or is gone as far as probing tells, and then the other
        has no end to hear of."""
        if code == errno.ETIMEDOUT:
            self.cut()
        else:
            self.close()

    def cut(self) -> None:
        """End both ways in a reset: neither peer has ended them, and neither is to believe that."""
        if not self.closed:
            for end in (self.client.socket, self.upstream.socket):
                with contextlib.suppress(OSError):  # closing goes on without it
                    end.setsockopt(SOL_SOCKET, SO_LINGER, RESET)
        self.close()

    def close(self) -> None:
        """End both ways at once."""
        if self.closed:
            return
        self.closed = True
        self.client.close()
        self.upstream.close()
        self.owner.over(self)
