"""Sign-ins by whichever authenticator: each address and name has its turn, and those that fail are
slowed. What was right is not.

They wait in three lanes (`SignIns.lane`), and the lanes take turns: however many addresses guess,
one guess of each is all that somebody new from an address of which nothing bad is known waits for,
and who has signed in before waits for none.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

from gateway.authenticators.contract import Authenticator, Credentials, SignInRefused
from gateway.fair import Bucket, FairPool
from gateway.server.core.errors import SignInsSlowed
from gateway.server.core.model import Principal
from gateway.server.core.sign_ins import NAME_LETTERS, SignIns
from gateway.turns import Crowded, Turns
from gateway.wire import parse_basic

logger = logging.getLogger(__name__)

LANES = 3
WAITING = 64  # sign-ins of one address that wait for their turn
LATE = 256  # refusals of one address that come late at a time; beyond, it is heard later
WAITING_EACH_NAME = 8  # of one name at one address
CROWDED_RETRY_S = 2.0


class SignInDesk:
    """Tries sign-ins, so many at a time."""

    def __init__(
        self,
        authenticator: Authenticator,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._authenticator, self._clock, self._sleep = authenticator, clock, sleep
        most = authenticator.at_a_time
        self._lanes = tuple(Turns(FairPool(most, most, most_waiting=WAITING)) for _ in range(LANES))
        # of those who are first in their lanes, the lanes in turn
        self._turns = Turns(FairPool(most, most, most_waiting=most))
        self._signs = SignIns()
        self._late: Counter[str] = Counter()  # refusals that are to come late, by address
        self._telling = Bucket(0.2, 5.0)
        self._slowed = 0  # since the log was last told

    async def sign_in(self, credentials: Credentials) -> Principal | None:
        """Return who this is, None or SignInRefused if the credentials prove nothing. SignInsSlowed
        says when to try; AuthenticatorUnavailable."""
        known = self._authenticator.remembered(credentials)
        if known is not None:
            return known
        return await self.judged(
            credentials.peer,
            name_in(credentials),
            lambda: self._authenticator.authenticate(credentials),
        )

    async def unknown(self, address: str, token_id: str) -> None:
        """A token of the gateway's own was shown that opens nothing. SignInsSlowed if that was so
        too often; what is right is never asked about here."""
        name = f"token {token_id}"
        self._check(address, name)
        self._signs.failed(address, name, self._clock())
        await self._come_late(address, name)

    async def judged(
        self, address: str, name: str, judge: Callable[[], Awaitable[Principal | None]]
    ) -> Principal | None:
        """Return who `judge` says this is, asked when it is this address's turn."""
        self._check(address, name)
        # Whoever has signed in from there before waits for no stranger at the same address.
        key = f"{address} {name}" if self._signs.familiar(address, name) else address
        async with self._turn(address, name, key):
            self._check(address, name)  # others may have failed meanwhile
            refused: SignInRefused | None = None
            try:
                found = await judge()
            except SignInRefused as error:
                found, refused = None, error
        if found is None:
            self._signs.failed(address, name, self._clock())
            await self._come_late(address, name)
            if refused is not None:
                raise refused
        else:
            self._signs.succeeded(address, name)
        return found

    @contextlib.asynccontextmanager
    async def _turn(self, address: str, name: str, key: str) -> AsyncIterator[None]:
        """Wait for a turn in one's lane, and have it; SignInsSlowed if too many wait there."""
        right = self._signs.lane(address, name, self._clock())
        while True:
            lane, turns = right, self._lanes[right]
            if turns.pool.wanted_by(key, name) >= WAITING_EACH_NAME:
                raise self._refusal(address, CROWDED_RETRY_S)
            try:
                await turns.take(key, name)
            except Crowded:
                raise self._refusal(address, CROWDED_RETRY_S) from None
            try:
                right = self._signs.lane(address, name, self._clock())
                if right <= lane:  # otherwise others at the address have failed meanwhile
                    async with self._turns.turn(str(lane)):
                        yield
                    return
            finally:
                turns.give_back(key)

    async def _come_late(self, address: str, name: str) -> None:
        """Let a refusal come late where many have failed; of those that are on their way so many at
        a time."""
        late_s = self._signs.late_s(address, name, self._clock())
        if not late_s or self._late[address] >= LATE:
            return
        self._late[address] += 1
        try:
            await self._sleep(late_s)
        finally:
            self._late[address] -= 1
            if not self._late[address]:
                del self._late[address]

    def _check(self, address: str, name: str) -> None:
        wait_s = self._signs.wait_s(address, name, self._clock())
        if self._late[address] >= LATE and not self._signs.familiar(address, name):
            wait_s = max(wait_s, CROWDED_RETRY_S)
        if wait_s > 0:
            raise self._refusal(address, wait_s)

    def _refusal(self, address: str, wait_s: float) -> SignInsSlowed:
        self._slowed += 1
        if self._telling.take(self._clock()):
            logger.warning(
                "sign-ins from %s are slowed (%d since the last line): many have failed or wait",
                address,
                self._slowed,
            )
            self._slowed = 0
        return SignInsSlowed(metadata={"address": address}, retry_after_s=wait_s)


def name_in(credentials: Credentials) -> str:
    """Return the user that credentials name, as far as it is looked at. Where they name none, what
    is alike for the same credentials alone: one who fails keeps no neighbour at the address out."""
    pair = parse_basic(f"basic {credentials.value}") if credentials.scheme == "basic" else None
    return unnamed(credentials.value) if pair is None else pair[0][:NAME_LETTERS]


def unnamed(secret: str) -> str:
    """Return by what a secret that names nobody is told from others."""
    digest = hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
    return f"secret {digest}"[:NAME_LETTERS]
