"""Whose turn it is: requests to the server from everybody, gRPC and HTTP, each caller with a fair
share of what it works on at a time.

Callers whose credentials the server has accepted lately are told apart by them, wherever they call
from and however they spell them: by the user that a sign-in or a token names. All others are
strangers, told apart by address and with a small pool of their own. So who floods as a stranger
takes nothing from those who work, and among these nobody waits for more than one turn of each of
the others. A request has its place until the server has answered; one that waits for something to
happen gives it back after a moment.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass

from gateway.fair import Bucket, FairPool
from gateway.turns import Turns
from gateway.wire import SIGN_IN_OPTIONS, marked_user, parse_basic, user_mark

# which the server answers to everybody, whatever credentials are sent
OPEN_PATHS = ("/grpc.health.", "/grpc.reflection.", SIGN_IN_OPTIONS)
# a request that the server has not answered for so long waits for something: its place is for
# others
LONG_S = 0.5
STRANGE_S = 1.0  # the same of a stranger's
KNOWN_S = 600.0  # since their last success, callers are told apart by their credentials for so long
MOST_KNOWN = 10_000
CONNECTIONS = 1_000_000  # more than there can be: each asks once at a time


@dataclass(frozen=True, slots=True)
class Shares:
    """How many requests the server works on at a time."""

    total: int = 128
    each: int = 24  # of one caller
    strangers: int = 32
    each_address: int = 12  # of strangers
    strangers_rate: float = 200.0  # a second


@dataclass(frozen=True, slots=True)
class Share:
    """Whose share a request is counted to."""

    stranger: bool
    name: str  # the mark of the user, of a token that names none, or the address


class Calls:
    """The places there are."""

    def __init__(self, shares: Shares) -> None:
        # marks of credentials that were accepted, until when that is remembered
        self._known: OrderedDict[str, float] = OrderedDict()
        self._key = secrets.token_bytes(16)  # no credentials stay in memory
        self._callers = Turns(FairPool(shares.total, shares.each, most_waiting=CONNECTIONS))
        rate = Bucket(shares.strangers_rate, shares.strangers_rate)
        self._strangers = Turns(
            FairPool(shares.strangers, shares.each_address, most_waiting=CONNECTIONS, bucket=rate)
        )

    def share(self, authorization: str, address: str) -> Share:
        """Return whose share a request with these credentials from this address belongs to."""
        if authorization:
            shown, whose = self._marks(authorization)
            if self._known.get(shown, 0.0) > asyncio.get_running_loop().time():
                return Share(False, whose)
        return Share(True, address)

    def accepted(self, authorization: str) -> Share:
        """Remember that the server has accepted these credentials; return whose share they are."""
        shown, whose = self._marks(authorization)
        self._known[shown] = asyncio.get_running_loop().time() + KNOWN_S
        self._known.move_to_end(shown)
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return Share(False, whose)

    def _marks(self, authorization: str) -> tuple[str, str]:
        """Return the marks of what is shown, and of whose it is."""
        scheme, _, value = authorization.partition(" ")
        shown = f"{scheme.lower()} {value.strip()}"
        pair = parse_basic(shown)
        if pair is not None:
            mark, shown = user_mark(pair[0]), f"basic {pair[0]}:{pair[1]}"
        else:
            mark = marked_user(value.strip()) if scheme.lower() == "bearer" else ""
        return self._mark(shown), self._mark(f"user {mark}" if mark else shown)

    def _mark(self, authorization: str) -> str:
        return hashlib.blake2b(
            authorization.encode(errors="replace"), digest_size=16, key=self._key
        ).hexdigest()

    def turns(self, share: Share) -> Turns:
        """Return the turns that a share is part of."""
        return self._strangers if share.stranger else self._callers

    @property
    def crowded(self) -> bool:
        """Whether strangers wait for a place."""
        return self._strangers.pool.waiting > 0

    def close(self) -> None:
        """Give nobody a turn any more."""
        self._callers.close()
        self._strangers.close()
