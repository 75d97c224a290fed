"""What is open in somebody's name, such as a watch: it ends at once with its token, and soon with
its user or a right that it had."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.server.core.errors import CredentialsInvalid, IdentityUnavailable, ServiceError
from gateway.server.core.model import Principal
from gateway.server.core.policy import lapsed
from gateway.server.store.contract import StoreError

logger = logging.getLogger(__name__)

CHECK_S = 20.0  # between two looks at whether what is open still may be
MOST_AT_A_TIME = 64  # callers who are looked at

End = Callable[[ServiceError], None]


class Holds:
    """Everything that is open, by caller. Used on one event loop."""

    def __init__(
        self, present: Callable[[Principal], Awaitable[Principal | None]], now: Callable[[], int]
    ) -> None:
        """`present` tells who a caller is now, None if nobody any more."""
        self._present, self._now = present, now
        self._held: dict[Principal, dict[object, End]] = {}

    def __len__(self) -> int:
        return sum(len(ends) for ends in self._held.values())

    def hold(self, principal: Principal, end: End) -> Callable[[], None]:
        """Call `end` with the reason when what lets this caller in expires or is taken away, until
        what is returned is called."""
        key, timer = object(), None
        if principal.expires_at:
            left_s = max(0.0, (principal.expires_at - self._now()) / 1000)
            timer = asyncio.get_running_loop().call_later(left_s, end, CredentialsInvalid())
        self._held.setdefault(principal, {})[key] = end

        def let_go() -> None:
            if timer is not None:
                timer.cancel()
            held = self._held.get(principal, {})
            held.pop(key, None)
            if not held:
                self._held.pop(principal, None)

        return let_go

    def end_token(self, token_id: str) -> None:
        """End what a token opened."""
        for principal in [one for one in self._held if one.token_id == token_id]:
            self._end(principal, CredentialsInvalid())

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            await self.check()

    async def check(self) -> None:
        """Look once at everybody who has something open."""
        callers = list(self._held)
        for start in range(0, len(callers), MOST_AT_A_TIME):
            await asyncio.gather(
                *(self._check(caller) for caller in callers[start : start + MOST_AT_A_TIME])
            )

    async def _check(self, principal: Principal) -> None:
        why: ServiceError | None
        try:
            why = lapsed(principal, await self._present(principal))
        except IdentityUnavailable as error:
            why = error
        except StoreError as error:  # which tells nothing against anybody
            logger.warning(
                "whether %s still may have something open is not known: %s", principal.user, error
            )
            return
        except Exception:  # one caller's fault is nobody else's
            logger.exception(
                "whether %s still may have something open could not be looked at", principal.user
            )
            return
        if why is not None:
            self._end(principal, why)

    def _end(self, principal: Principal, why: ServiceError) -> None:
        for end in tuple(self._held.get(principal, {}).values()):
            end(why)
