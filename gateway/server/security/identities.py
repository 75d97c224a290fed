"""Who people are now: what the authenticator says of a user, kept for a short while. Asked ahead of
time, so that calls seldom wait.

While the authenticator does not answer, what was last known holds for a bounded time.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.authenticators.contract import (
    Authenticator,
    AuthenticatorUnavailable,
    IdentityNotTold,
    short_stamp,
)
from gateway.server.core.model import Principal

logger = logging.getLogger(__name__)

KEPT = 10_000  # users
MOST_AT_A_TIME = 64  # asked about
ASK_S = 10.0  # until the authenticator is taken not to answer
ASK_AGAIN_S = 5.0  # after it did not
AHEAD = 1 / 3  # of the time that an answer is kept, after which the next one is asked for


@dataclass(slots=True)
class Known:
    """What is known of a user: `principal` is None if there is none such."""

    principal: Principal | None = None
    # by the authenticator; one that cannot be asked leaves a user with no groups, who is no admin
    told: bool = False
    asked_at: float = -math.inf  # on the monotonic clock, as is the next
    failed_at: float = -math.inf  # when it was last asked in vain
    provider: str = ""  # who did not answer then


class Identities:
    """Asks, and keeps the answers. Used on one event loop."""

    def __init__(
        self,
        authenticator: Authenticator,
        now: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._authenticator, self._now, self._clock = authenticator, now, clock
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Known | None]] = {}
        self._room = asyncio.Semaphore(MOST_AT_A_TIME)

    def known(self, user: str) -> Known | None:
        """Return what is known well enough to go by now; None if `ask` has to be awaited."""
        known = self._known.get(user)
        if known is None:
            return None
        age_s, kept_s = self._clock() - known.asked_at, self._authenticator.identity_kept_s
        if age_s >= kept_s:
            return None
        if age_s >= kept_s * AHEAD and not self._in_vain(known):
            self._asked(user)
        return known

    async def ask(self, user: str, *, most_s: float = 0.0) -> Known:
        """Ask the authenticator, unless what is known is no older than `most_s`;
        AuthenticatorUnavailable if nobody can tell."""
        known = self._known.get(user, Known())
        if self._clock() - known.asked_at < most_s:
            return known
        if not self._in_vain(known):
            # it goes on when the patience of who asked first ends
            fresh = await asyncio.shield(self._asked(user))
            if fresh is not None:
                return fresh
        if self._clock() - known.asked_at >= max(
            self._authenticator.identity_outage_s, self._authenticator.identity_kept_s
        ):
            away = AuthenticatorUnavailable(
                "the authenticator does not answer, and what was known is too old"
            )
            away.provider = self._known.get(user, known).provider
            raise away
        return known

    async def of(self, user: str) -> Principal | None:
        """Return who a user is, None if there is no such user; AuthenticatorUnavailable if nobody
        can tell."""
        known = self.known(user) or await self.ask(user)
        return self.valid(known)

    def valid(self, known: Known) -> Principal | None:
        """Return who a user is, unless that has expired."""
        principal = known.principal
        return (
            None
            if principal is None or (principal.expires_at and principal.expires_at <= self._now())
            else principal
        )

    def close(self) -> None:
        """Ask nothing more."""
        for asking in self._asking.values():
            asking.cancel()

    def _in_vain(self, known: Known) -> bool:
        return self._clock() - known.failed_at < ASK_AGAIN_S

    def _asked(self, user: str) -> asyncio.Task[Known | None]:
        asking = self._asking.get(user)
        if asking is None:
            asking = self._asking[user] = asyncio.get_running_loop().create_task(self._ask(user))
            asking.add_done_callback(lambda _: self._asking.pop(user))
        return asking

    async def _ask(self, user: str) -> Known | None:
        """Return what the authenticator says, which is kept; None if it says nothing."""
        asked_at, told = self._clock(), True
        try:
            async with asyncio.timeout(ASK_S), self._room:
                principal = await self._authenticator.identity(user)
        except IdentityNotTold:
            principal, told = Principal(user), False
        except Exception as error:
            self._failed(user, error)
            return None
        told_of = (
            None
            if principal is None
            else replace(principal, user=user, token_id="", stamp=short_stamp(principal.stamp))
        )
        known = Known(told_of, told, asked_at)
        self._keep(user, known)
        return known

    def _failed(self, user: str, error: Exception) -> None:
        """Note that it was asked in vain; a fault of its own is no answer either."""
        known = self._known.get(user, Known())
        if isinstance(error, AuthenticatorUnavailable | TimeoutError):
            logger.warning(
                "the authenticator does not answer about %s: %s",
                user,
                str(error) or f"not within {ASK_S:g} s",
            )
        else:
            logger.error("the authenticator failed when asked about %s", user, exc_info=error)
        provider = error.provider if isinstance(error, AuthenticatorUnavailable) else ""
        self._keep(user, replace(known, failed_at=self._clock(), provider=provider))

    def _keep(self, user: str, known: Known) -> None:
        self._known[user] = known
        self._known.move_to_end(user)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
