"""What somebody was let in to stands as long as it may: the server is asked again and again, and
what it denies is ended.

While the server does not answer, or cannot tell, all stands that stood, until it expires: computing
goes on without the control plane. What has been denied stays so, also while the server is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from typing import Protocol

from gateway.proxy.http.access import SessionGrant, now_ms
from gateway.proxy.upstream.asking import MOST_CHECKED, Unanswered

logger = logging.getLogger(__name__)

# between two questions about what is open; for so long a session is let in without a question
CHECK_S = 20.0
ASK_AGAIN_S = 5.0  # after the server did not answer
# sessions of which it is known when they were asked about, and those that were denied
KEPT = 10_000

Renew = Callable[[], Awaitable[SessionGrant | None]]


class Checks(Protocol):
    """Who is asked."""

    async def check(self, grants: Sequence[SessionGrant]) -> Sequence[bool | None]:
        """Return of each grant whether it still holds, None where that cannot be told; Unanswered
        if nobody tells anything."""


class Ended(Exception):
    """What stood open may stand no longer."""


class _Held:
    """Something that is open."""

    __slots__ = ("end", "grant", "renew", "renewing", "timer")

    def __init__(self, grant: SessionGrant, end: Callable[[], None], renew: Renew | None) -> None:
        self.grant, self.end, self.renew = grant, end, renew
        self.timer: asyncio.TimerHandle | None = None
        self.renewing: asyncio.Task[None] | None = None


class Standing:
    """Everything that is open, and every session that was seen. Used on one event loop."""

    def __init__(
        self,
        server: Checks,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], int] = now_ms,
    ) -> None:
        self._server, self._clock, self._now = server, clock, now
        self._held: set[_Held] = set()
        self._asked_at: OrderedDict[str, float] = OrderedDict()  # by session
        self._denied: OrderedDict[str, int] = OrderedDict()  # when they expire anyway, by session
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._failed_at = -ASK_AGAIN_S
        self._unanswered = False

    # Sessions

    async def holds(self, grant: SessionGrant) -> bool:
        """Whether a session that is shown may be let in; the server is asked, unless it was just
        now."""
        session_id = grant.session_id
        if session_id in self._denied or grant.expires_at <= self._now():
            return False
        asked_at = self._asked_at.get(session_id)
        if asked_at is not None and self._clock() - asked_at < CHECK_S:
            return True
        if self._clock() - self._failed_at >= ASK_AGAIN_S:
            await asyncio.shield(self._asked(grant))
        return session_id not in self._denied

    def begun(self, grant: SessionGrant) -> None:
        """Note that the server has just let a session begin."""
        self._asked_at[grant.session_id] = self._clock()
        self._asked_at.move_to_end(grant.session_id)
        while len(self._asked_at) > KEPT:
            self._asked_at.popitem(last=False)

    def deny(self, grant: SessionGrant) -> None:
        """Let nobody in by a session any more, and end what it opened."""
        if grant.session_id:
            self._denied[grant.session_id] = grant.expires_at
            while len(self._denied) > KEPT:
                self._denied.popitem(last=False)
        for held in [held for held in self._held if held.grant.rests_on == grant.rests_on]:
            held.end()

    def _asked(self, grant: SessionGrant) -> asyncio.Task[None]:
        asking = self._asking.get(grant.session_id)
        if asking is None:
            asking = self._asking[grant.session_id] = asyncio.get_running_loop().create_task(
                self._ask([grant])
            )
            asking.add_done_callback(lambda _: self._asking.pop(grant.session_id))
        return asking

    # What is open

    def hold(
        self, grant: SessionGrant, end: Callable[[], None], renew: Renew | None = None
    ) -> Callable[[], None]:
        """Call `end` when a grant expires or is denied, until what is returned is called. `renew`:
        who may have another by then."""
        held = _Held(grant, end, renew)
        self._held.add(held)
        self._set_timer(held)

        def let_go() -> None:
            self._held.discard(held)
            if held.timer is not None:
                held.timer.cancel()
            if held.renewing is not None:
                held.renewing.cancel()

        return let_go

    @contextlib.contextmanager
    def while_it_holds(self, grant: SessionGrant, renew: Renew | None = None) -> Iterator[None]:
        """Break what is within off when the grant ends: Ended."""
        task, ended = asyncio.current_task(), False

        def end() -> None:
            nonlocal ended
            if task is not None and not ended:
                ended = task.cancel()

        let_go = self.hold(grant, end, renew)
        try:
            yield
        except asyncio.CancelledError:
            if not ended or task is None:
                raise
            task.uncancel()
            raise Ended from None
        finally:
            let_go()

    def end(self, uids: Collection[str]) -> int:
        """End all that is open to clusters; return how much."""
        ended = [held for held in self._held if held.grant.uid in uids]
        for held in ended:
            held.end()
        return len(ended)

    def _set_timer(self, held: _Held) -> None:
        left_s = max(0.0, (held.grant.expires_at - self._now()) / 1000)
        held.timer = asyncio.get_running_loop().call_later(left_s, self._expired, held)

    def _expired(self, held: _Held) -> None:
        if held.renew is None:
            held.end()
        else:
            held.renewing = asyncio.get_running_loop().create_task(self._renew(held, held.renew))

    async def _renew(self, held: _Held, renew: Renew) -> None:
        grant: SessionGrant | None = None
        try:
            grant = await renew()
        except Exception:
            logger.exception("%s cannot be asked for anew", held.grant.user)
        if held not in self._held:
            return
        if grant is None or grant.expires_at <= self._now():
            held.end()
            return
        held.grant = grant
        self._set_timer(held)

    # Asking

    async def run(self) -> None:
        """Ask again and again about all that is open, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            await self.check()

    async def check(self) -> None:
        """Ask once about all that is open."""
        self._forget()
        grants = list({held.grant.rests_on: held.grant for held in self._held}.values())
        for start in range(0, len(grants), MOST_CHECKED):
            await self._ask(grants[start : start + MOST_CHECKED])

    async def _ask(self, grants: Sequence[SessionGrant]) -> None:
        try:
            verdicts = await self._server.check(grants)
        except Unanswered as error:
            if not self._unanswered:
                logger.warning(
                    "the server does not say whether what is open still may be (%s); it goes on"
                    " until it expires",
                    error,
                )
            self._unanswered, self._failed_at = True, self._clock()
            return
        if self._unanswered:
            self._unanswered = False
            logger.info("the server says again what still may be")
        for grant, verdict in zip(grants, verdicts):
            if verdict is False:
                logger.info("%s is not let in to cluster %s any more", grant.user, grant.uid)
                self.deny(grant)
            elif verdict and grant.session_id:
                self.begun(grant)

    def _forget(self) -> None:
        now = self._now()
        for session_id in [
            session_id for session_id, expires_at in self._denied.items() if expires_at <= now
        ]:
            del self._denied[session_id]
