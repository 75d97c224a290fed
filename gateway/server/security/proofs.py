"""Whether sessions that began at a login page still stand there: asked again and again while they
are used, as somebody who logs out there is logged out here within a minute."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.authenticators.contract import AuthenticatorUnavailable
from gateway.server.core.model import Principal, Token

logger = logging.getLogger(__name__)

KEPT = 10_000  # sessions
# for so long an answer counts: with what edge and server keep of it (CHECK_S of standing.py and
# holds.py), and a source that is slow, that is less than a minute
KEPT_S = 15.0
ASK_S = 10.0  # until the source is taken not to answer


@dataclass(slots=True)
class _Told:
    """What was told of a session, and when, on the monotonic clock."""

    stands: bool
    at: float


class Proofs:
    """Asks, and keeps the answers. Used on one event loop."""

    def __init__(
        self,
        still: Callable[[str, str], Awaitable[Principal | None]],
        outage_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`still` returns who a sign-in belongs to now, by way and proof. `outage_s`: for so long
        what was told counts while the source does not answer."""
        self._still, self._outage_s, self._clock = still, outage_s, clock
        self._told: OrderedDict[str, _Told] = OrderedDict()
        self._asking: dict[str, asyncio.Task[bool]] = {}

    async def holds(self, token: Token) -> bool:
        """Whether a session still stands; one that is asked about nowhere does.
        AuthenticatorUnavailable if nobody can tell."""
        session = token.session
        if session is None or not session.proof:
            return True
        told = self._told.get(token.id)
        if told is not None and self._clock() - told.at < KEPT_S:
            return told.stands
        asking = self._asking.get(token.id)
        if asking is None:
            asking = asyncio.get_running_loop().create_task(
                self._ask(token.id, token.user, session.way, session.proof)
            )
            self._asking[token.id] = asking
            asking.add_done_callback(lambda _: self._asking.pop(token.id))
        try:
            return await asyncio.shield(asking)
        except AuthenticatorUnavailable:
            if told is None or self._clock() - told.at >= self._outage_s:
                raise
            return told.stands

    def close(self) -> None:
        """Ask nothing more."""
        for asking in self._asking.values():
            asking.cancel()

    async def _ask(self, token_id: str, user: str, way: str, proof: str) -> bool:
        asked_at = self._clock()
        try:
            async with asyncio.timeout(ASK_S):
                found = await self._still(way, proof)
        except TimeoutError:
            raise AuthenticatorUnavailable(f"{way} does not answer") from None
        stands = found is not None and found.user == user
        if not stands:
            logger.info("a session of %s is over: %s says that it stands no longer", user, way)
        self._told[token_id] = _Told(stands, asked_at)
        self._told.move_to_end(token_id)
        while len(self._told) > KEPT:
            self._told.popitem(last=False)
        return stands
