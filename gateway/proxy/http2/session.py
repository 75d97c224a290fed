"""One HTTP/2 connection of a client: what the guard lets through goes to the server, or to the
edge's own pages.

The first request decides: gRPC gets a connection to the server of its own, whose answers pass by
untouched. The edge greets first, as clients wait for that; so a connection that asks for nothing
costs the server nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol, cast

from gateway.proxy.http2.answers import Answers
from gateway.proxy.http2.bounds import Bounds
from gateway.proxy.http2.frames import ENHANCE_YOUR_CALM, NO_ERROR, Abuse, goaway, pong
from gateway.proxy.http2.guard import Guard
from gateway.proxy.http2.requests import Request
from gateway.proxy.upstream.turns import OPEN_PATHS, Calls, Share

logger = logging.getLogger(__name__)

GRPC = "application/grpc"
# a client may take this for: all that it has asked for will be answered (RFC 9113 §6.8)
LAST_STREAM = 2**31 - 1
LINGER_S = 3.0  # for the client to take why its connection ends
ABUSE_LINGER_S = 0.3  # the same, for one that goes on sending meanwhile
# for a client or the server that takes less than comes; nothing is read meanwhile
BUFFER_BYTES = 64 * 1024


class Pages(Protocol):
    """The edge's own pages on one connection."""

    def receive(self, piece: bytes) -> None:
        """Take what the client has sent."""

    def resume(self) -> None:
        """The client takes more again."""

    def pause(self) -> None:
        """The client takes nothing for now."""

    def close(self) -> None:
        """The client is gone."""

    def stalled_s(self, now: float) -> float:
        """Return for how long a client has taken nothing of an answer that is there."""

    @property
    def idle(self) -> bool:
        """Whether nothing is asked for."""


class SessionOwner(Protocol):
    """Who keeps sessions."""

    calls: Calls
    bounds: Bounds
    greeting: bytes

    def begin(self, session: Session) -> None:
        """A session begins."""

    def over(self, session: Session) -> None:
        """It is over."""

    def seat(self, request: Request, session: Session, share: Share) -> None:
        """A request has its turn."""

    def vacate(self, request: Request) -> None:
        """It gives its place back, if it has one."""

    def connect(self, session: Session, caller: tuple[str, int]) -> None:
        """Make a connection to the server; `reached` or `unreached` is called."""

    def pages(self, session: Session, transport: asyncio.Transport) -> Pages:
        """Return the edge's own pages for a connection."""

    def refused(self, session: Session, why: str) -> None:
        """A connection was ended for what it sent."""


class Session(asyncio.Protocol):
    """One client's connection."""

    transport: asyncio.Transport

    def __init__(self, owner: SessionOwner, group: str, caller: tuple[str, int]) -> None:
        self.owner, self.group, self.caller = owner, group, caller
        self.guard = Guard(owner.bounds, time.monotonic())
        self.answers = Answers(self.guard)
        self.heard_at = time.monotonic()
        self.share: Share | None = None  # of who has signed in
        self._server: asyncio.Transport | None = None
        self._pages: Pages | None = None
        self._loop = asyncio.get_running_loop()
        self._resting: asyncio.TimerHandle | asyncio.Handle | None = None
        self._asked: Share | None = None  # in whose name a turn is waited for
        self._going = self._over = self._paused = self._server_busy = self._client_busy = False

    # The client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by their class
        self.transport.set_write_buffer_limits(BUFFER_BYTES)
        self.owner.begin(self)
        self.transport.write(self.owner.greeting)

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        self.guard.receive(data)
        if self._resting is None:
            self._go()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        if self._server is not None:
            self._server.abort()
        if self._pages is not None:
            self._pages.close()
        self.owner.over(self)

    def pause_writing(self) -> None:
        if self._server is not None:
            self._server.pause_reading()
        elif self._pages is not None:  # what is asked for meanwhile would be answered into memory
            self._client_busy = True
            self._pages.pause()
            self._pace()

    def resume_writing(self) -> None:
        if self._server is not None:
            self._server.resume_reading()
        elif self._pages is not None:
            self._client_busy = False
            self._pages.resume()
            self._go()
            self._pace()

    def stalled_s(self, now: float) -> float:
        """Return for how long the client has taken nothing of the pages' answers."""
        return self._pages.stalled_s(now) if self._pages is not None else 0.0

    @property
    def idle(self) -> bool:
        """Whether it asks for nothing, and nobody will miss it: who has signed in may want to be
        told of a lost connection at once."""
        return (
            self._pages.idle
            if self._pages is not None
            else self.share is None and not self.guard.requests
        )

    @property
    def wants_place(self) -> bool:
        """Whether it waits for a place among strangers."""
        return self._asked is not None and self._asked.stranger

    # What it sends

    def _go(self) -> None:
        """Judge what has come, pass on what may be, and read no faster than that goes."""
        self._resting = None
        if (
            self._over
            or self._going
            or self._client_busy
            or (not self.guard.alone and self._sink is None)
        ):
            return
        self._going = True
        try:
            rest_s = self.guard.run(time.monotonic())
            if self.guard.unsettled:
                self._settle()
                rest_s = self.guard.run(time.monotonic()) if self._pages is not None else None
            self._ask()
        except Abuse as abuse:
            self.cut(abuse.code, str(abuse))
            return
        finally:
            self._going = False
        for payload in self.guard.pongs:
            self.transport.write(pong(payload))
        self.guard.pongs.clear()
        self._flush()
        if rest_s is not None:
            self._resting = (
                self._loop.call_later(rest_s, self._go)
                if rest_s
                else self._loop.call_soon(self._go)
            )
        self._pace()

    def _settle(self) -> None:
        head = self.guard.next().head
        grpc = head is not None and head.kind.startswith(GRPC)
        self.guard.settle(web=not grpc)
        if grpc:
            self.owner.connect(self, self.caller)
        else:
            self._pages = self.owner.pages(self, self.transport)

    @property
    def _sink(self) -> Callable[[bytes], None] | None:
        if self._server is not None:
            return self._server.write
        return self._pages.receive if self._pages is not None else None

    def _flush(self) -> None:
        sink = self._sink
        if sink is not None and not self._over and (passed := self.guard.take()):
            sink(passed)

    def _pace(self) -> None:
        """Read from the client, unless something must come first."""
        busy = (
            self._server_busy or self._client_busy or (not self.guard.alone and self._sink is None)
        )
        wait = busy or self._resting is not None or self.guard.full
        if wait != self._paused and not self._over:
            self._paused = wait
            if wait:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    # Turns

    def _ask(self) -> None:
        """Ask for a turn for whoever has waited longest; one at a time, so that connections take
        turns too."""
        while (
            self.guard.waiting
            and self._asked is None
            and self._server is not None
            and not self._over
        ):
            share = self._asked = self._share_of(self.guard.next())
            self.owner.calls.turns(share).ask(share.name, self._grant)

    def _share_of(self, request: Request) -> Share:
        if self.share is not None:
            return self.share
        authorization = request.head.authorization if request.head is not None else ""
        share = self.owner.calls.share(authorization, self.group)
        if not share.stranger:
            self._signed_in(share)
        return share

    def _signed_in(self, share: Share) -> None:
        self.share = share
        self.guard.trusted = True

    def _grant(self) -> None:
        share, self._asked = self._asked, None
        assert share is not None
        try:
            self.owner.seat(self.guard.pass_on(), self, share)
        except Abuse as abuse:
            self.owner.calls.turns(share).give_back(share.name)
            self._loop.call_soon(self.cut, abuse.code, str(abuse))
            return
        self._flush()
        if not self._going:
            self._loop.call_soon(self._go)

    # The server

    def reached(self, transport: asyncio.Transport) -> None:
        """There is a connection to the server, which may have said something already."""
        if self._over:
            transport.abort()
            return
        transport.set_write_buffer_limits(BUFFER_BYTES)
        self._server = transport
        self._flush()
        self._go()
        self._pace()

    def unreached(self) -> None:
        """There is none."""
        self.cut(NO_ERROR, "the server does not answer")

    def answered(self, piece: bytes) -> None:
        """The server has said something."""
        self.answers.receive(piece, time.monotonic())
        if not self._over:
            self.transport.write(piece)
        if self.answers.moved:
            moved, self.answers.moved = self.answers.moved, []
            for request in moved:
                self._learn(request)
                self.owner.vacate(request)

    def _learn(self, request: Request) -> None:
        """See by an answer whether the client has signed in."""
        head = request.head
        if (
            self.share is None
            and head is not None
            and head.authorization
            and request.answer.whole
            and not head.path.startswith(OPEN_PATHS)
        ):
            self._signed_in(self.owner.calls.accepted(head.authorization))

    def server_busy(self, busy: bool) -> None:
        """The server takes nothing for now, or takes more again."""
        self._server_busy = busy
        self._pace()

    def server_lost(self) -> None:
        """The server has closed its connection."""
        if not self._over:
            self._end()
            self.transport.close()
            self._loop.call_later(LINGER_S, self.transport.abort)

    # End

    def cut(self, code: int, why: str) -> None:
        """End the connection, and tell the client why."""
        if self._over:
            return
        self._end()
        if code != NO_ERROR:
            self.owner.refused(self, why)
        if self.answers.between:
            self.transport.write(goaway(self.guard.last_stream, code, why))
        if self._server is not None:
            self._server.abort()
        self.transport.close()
        self._loop.call_later(
            LINGER_S if code == NO_ERROR else ABUSE_LINGER_S, self.transport.abort
        )

    def say_goodbye(self) -> None:
        """Let the client ask for nothing more here, and finish what it has asked for."""
        if not self._over and self.answers.between:
            self.transport.write(goaway(LAST_STREAM, NO_ERROR, "the edge is about to exit"))

    def calm(self, why: str) -> None:
        """End the connection of a client that takes too much, or too long."""
        self.cut(ENHANCE_YOUR_CALM, why)

    def _end(self) -> None:
        """Pass nothing on any more."""
        self._over = True
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if self._asked is not None:
            self.owner.calls.turns(self._asked).pool.withdraw(self._asked.name, self._grant)
            self._asked = None


class ServerSide(asyncio.Protocol):
    """The server's end of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def data_received(self, data: bytes) -> None:
        self._session.answered(data)

    def pause_writing(self) -> None:
        self._session.server_busy(True)

    def resume_writing(self) -> None:
        self._session.server_busy(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._session.server_lost()
