"""All HTTP/2 connections: their places among those that the server works on, their deadlines, and
who gives way when places are short."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from gateway.fair import Bucket
from gateway.proxy.counting.counts import Counts
from gateway.proxy.http2.bounds import Bounds
from gateway.proxy.http2.frames import (
    NO_ERROR,
    PROTOCOL_ERROR,
    SETTINGS_MAX_CONCURRENT_STREAMS,
    SETTINGS_MAX_HEADER_LIST_SIZE,
    settings,
)
from gateway.proxy.http2.requests import Request
from gateway.proxy.http2.session import Pages, ServerSide, Session
from gateway.proxy.upstream.turns import LONG_S, STRANGE_S, Calls, Share
from gateway.proxy.upstream.way import Upstream

logger = logging.getLogger(__name__)

LOOK_S = 0.1  # at those who have places
LOOK_AT_ALL = 20  # looks until the next one at everybody
YIELD_S = 0.25  # a stranger's request that is incomplete for so long may have to give way to others
MOST_YIELD = 8  # at a look
TAKE_S = 30.0  # for a client to take something of an answer
CONNECT_S = 10.0


class Http2Server:
    """Keeps sessions."""

    def __init__(
        self,
        upstream: Upstream,
        calls: Calls,
        counts: Counts,
        bounds: Bounds,
        http1: Callable[[], Any],
        *,
        head_s: float,
        body_s: float,
        idle_s: float,
    ) -> None:
        """`http1`: what serves one connection of HTTP/1.1. The times are those for a head, for a
        message, and for nothing at all."""
        self._upstream, self.calls, self._counts, self.bounds, self._http1 = (
            upstream,
            calls,
            counts,
            bounds,
            http1,
        )
        self._head_s, self._body_s, self._idle_s = head_s, body_s, idle_s
        self._loop = asyncio.get_running_loop()
        self.sessions: set[Session] = set()
        self._seated: dict[Request, tuple[Session, Share]] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._looking: asyncio.TimerHandle | None = None
        self._looks = 0
        self._draining, self._quiet = False, asyncio.Event()
        self._telling = Bucket(1.0, 10.0)
        self._untold = 0
        self._announced = {
            SETTINGS_MAX_CONCURRENT_STREAMS: bounds.streams,
            SETTINGS_MAX_HEADER_LIST_SIZE: bounds.block_bytes,
        }
        self.greeting = settings(self._announced)

    def session(self, group: str, caller: tuple[str, int]) -> Session:
        """Return what serves one new connection from an address; `group` is what counts as one
        address."""
        return Session(self, group, caller)

    # What sessions tell

    def begin(self, session: Session) -> None:
        self.sessions.add(session)
        if self._looking is None:
            self._looking = self._loop.call_later(LOOK_S, self._look)

    def over(self, session: Session) -> None:
        self.sessions.discard(session)
        for request, (owner, _) in self._seated.items():
            if owner is session:
                request.reset = True  # the server may be at it still

    def seat(self, request: Request, session: Session, share: Share) -> None:
        self._seated[request] = (session, share)

    def vacate(self, request: Request) -> None:
        seated = self._seated.pop(request, None)
        if seated is not None:
            self.calls.turns(seated[1]).give_back(seated[1].name)

    def pages(self, session: Session, transport: asyncio.Transport) -> Pages:
        """Return the edge's own pages for a connection."""
        # late: it takes long to load, and most need none
        from gateway.proxy.http2.pages import PagesConnection

        return PagesConnection(transport, self._http1, self._announced)

    def refused(self, session: Session, why: str) -> None:
        self._counts.cut_sessions += 1
        if self._telling.take(time.monotonic()):
            more = f" ({self._untold} more were ended since the last line)" if self._untold else ""
            logger.warning("a connection of %s was ended: %s%s", session.caller[0], why, more)
            self._untold = 0
        else:
            self._untold += 1

    def connect(self, session: Session, caller: tuple[str, int]) -> None:
        task = self._loop.create_task(self._connect(session, caller))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, session: Session, caller: tuple[str, int]) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                transport = await self._upstream.connect(lambda: ServerSide(session), caller)
            # Not from `connection_made`: uvloop owns a socket that it was given only afterwards,
            # and one aborted before is closed twice.
            session.reached(transport)
        except (OSError, TimeoutError) as error:
            self._counts.connect_failures += 1
            logger.info("the server is not reached: %s", error)
            session.unreached()

    # Now and then

    def _look(self) -> None:
        now = time.monotonic()
        self._looking = (
            self._loop.call_later(LOOK_S, self._look) if self.sessions or self._seated else None
        )
        for request, (session, share) in list(self._seated.items()):
            self._look_at(request, session, share, now)
        if self.calls.crowded:
            self._make_room(now)
        self._look_whether_quiet()
        self._looks += 1
        if self._looks % LOOK_AT_ALL == 0:
            for session in list(self.sessions):
                self._look_after(session, now)

    def _look_at(self, request: Request, session: Session, share: Share, now: float) -> None:
        """See to one that has a place."""
        age_s = now - request.passed_at
        waits = not request.since and not request.answered_at
        if (request.reset and age_s > LONG_S) or (
            waits and age_s > (STRANGE_S if share.stranger else LONG_S)
        ):
            self.vacate(request)
        elif request.since and now - request.since > self._body_s:
            session.calm(f"a message that is not whole after {self._body_s:g} s")
        elif request.untaken and now - request.answered_at > TAKE_S:
            session.calm(f"an answer of which nothing is taken for {TAKE_S:g} s")

    def _make_room(self, now: float) -> None:
        """Those strangers who let the server wait longest give way to those who wait for their
        first place."""
        seated = {session for session, _ in self._seated.values()}
        wanting = sum(session.wants_place and session not in seated for session in self.sessions)
        waiting = [
            (request.since, session)
            for request, (session, share) in self._seated.items()
            if share.stranger and request.since and now - request.since > YIELD_S
        ]
        for _, session in sorted(waiting, key=lambda pair: pair[0])[: min(wanting, MOST_YIELD)]:
            session.calm("a message that is not whole, while others wait")

    def _look_after(self, session: Session, now: float) -> None:
        """See to one connection."""
        guard = session.guard
        late = [
            request
            for request in guard.requests.values()
            if request.since and not request.held and now - request.since > self._body_s
        ]
        if guard.block_since and now - guard.block_since > self._head_s:
            session.cut(NO_ERROR if guard.alone else PROTOCOL_ERROR, "no request in time")
        elif late:
            session.calm(f"a message that is not whole after {self._body_s:g} s")
        elif session.stalled_s(now) > TAKE_S:
            session.calm(f"an answer of which nothing is taken for {TAKE_S:g} s")
        elif session.idle and now - session.heard_at > self._idle_s:
            session.cut(NO_ERROR, "nothing was asked for long")

    # End

    def _look_whether_quiet(self) -> None:
        if self._draining and not any(session.guard.requests for session in self.sessions):
            self._quiet.set()

    async def drain(self, drain_s: float) -> None:
        """Tell everybody that this is the end, and let calls go on for a while."""
        for session in list(self.sessions):
            session.say_goodbye()
        self._draining = True
        self._look_whether_quiet()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                await self._quiet.wait()

    async def close(self) -> None:
        """End every connection."""
        if self._looking is not None:
            self._looking.cancel()
        for session in list(self.sessions):
            session.cut(NO_ERROR, "the edge is about to exit")
        for task in list(self._connecting):
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for session in list(self.sessions):
            session.transport.abort()
