"""An authenticator under test with its identity source: users who come, change and go, and what
they send to sign in."""

from __future__ import annotations

import asyncio
import time
import unittest
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from gateway.authenticators.contract import (
    Authenticator,
    AuthenticatorUnavailable,
    Credentials,
    IdentityNotTold,
    NameRefused,
    SignInRefused,
    why_unsound,
)
from gateway.server.core.model import Principal
from gateway.wire import basic_credentials, parse_basic

T = TypeVar("T")
ALICE, BOB, CAROL, NOBODY = "alice", "bob", "carol", "nobody-here"
# of a Source: given, or `cannot` says why not
OPTIONAL = (
    "change",
    "remove",
    "renew",
    "expired",
    "replayed",
    "ending",
    "odd",
    "outage",
    "hang",
    "slow",
    "lies",
    "impostor",
    "off_by",
)
# of a Source: True, or `cannot` says why not
TRAITS = ("asked_by_name", "names", "passwords", "letter_case", "stamps")
Say = Callable[[str], Awaitable[Credentials]]
During = Callable[[], AbstractAsyncContextManager[None]]


class Change(Protocol):
    """Makes a user what the identity source is to tell from now on."""

    async def __call__(self, user: str, *, admin: bool, groups: Sequence[str]) -> None:
        """Change the user."""


@dataclass
class Source:
    """An authenticator under test, and what its identity source can be made to do. Users are named
    in lower case; their secrets have eight letters and more, and no two the same."""

    authenticator: Authenticator
    # another authenticator over the same identity source, as in another server; not opened
    again: Callable[[], Awaitable[Authenticator]]
    # a user comes, with groups, and as an admin or not; may be asked for one who is there
    add: Change
    show: Say  # right credentials of a user, as they are now
    # the same with a wrong secret; also for users there are none of
    wrong: Say
    change: Change | None = None  # groups and admin of a user change
    remove: Callable[[str], Awaitable[None]] | None = None  # a user goes
    # a user's secret changes: `show` tells the new one, and the old one proves nothing
    renew: Callable[[str], Awaitable[None]] | None = None
    expired: Say | None = None  # credentials of a user that were right, and have expired
    replayed: Say | None = None  # credentials of a user that are good once, and were used
    # credentials of a user whose account ends at an instant, in ms since the epoch
    ending: Callable[[str], Awaitable[tuple[Credentials, int]]] | None = None
    # the name of a user of the source who cannot be named as such in the gateway: "Bob@Example"
    odd: str | None = None
    # while it lasts the source refuses connections, or is away
    outage: During | None = None
    # while it lasts the source accepts connections, and never answers
    hang: During | None = None
    # while it lasts the source answers what is right, and each answer comes about half a second
    # late
    slow: During | None = None
    # by what it says: while it lasts the source answers with what nobody could mean, such as a page
    # of HTML, a number for a name, groups of a million, or an answer without end
    lies: Mapping[str, During] | None = None
    # while it lasts the source, asked by name about anybody, tells of bob
    impostor: During | None = None
    # credentials of a user that are made now, where the clock is so many seconds ahead of ours
    off_by: Callable[[str, float], Awaitable[Credentials]] | None = None
    asked_by_name: bool = True  # it can be asked about a user who does not call
    names: bool = True  # credentials name a user, which may be one there is none of
    passwords: bool = True  # they are a user's name and password (scheme `basic`)
    letter_case: bool = True  # `Alice` is not `alice`
    stamps: bool = True  # a user has one secret, and that it changed can be told by name
    # those of OPTIONAL and TRAITS that are not given: why not
    cannot: Mapping[str, str] = field(default_factory=dict)
    deadline_s: float = 30.0  # within which each call must have ended, whatever the source does
    fresh_s: float = 60.0  # from a change in the source until it is told; at most a minute
    look_s: float = 0.1  # between two looks

    async def open(self) -> None:
        """Add the users that every test finds, and open the authenticator."""
        await self.add(ALICE, admin=False, groups=("physics",))
        await self.add(BOB, admin=True, groups=())
        await self.done(self.authenticator.open(), "open")

    async def close(self) -> None:
        """Close the authenticator."""
        await self.done(self.authenticator.close(), "close")

    def need(self, what: str) -> None:
        """Skip a test for which the identity source lacks something, with its own reason;
        AssertionError if it gives none."""
        value = getattr(self, what)
        if value is None or value is False:
            assert self.cannot.get(what), (
                f"Source.{what} is not given, and Source.cannot does not say why"
            )
            raise unittest.SkipTest(f"{what}: {self.cannot[what]}")

    def given(self, what: str, value: T | None) -> T:
        """Return what a test needs of the identity source, or skip it with the reason."""
        self.need(what)
        assert value is not None
        return value

    async def done(self, call: Awaitable[T], what: str) -> T:
        """Return what a call returns; the contract's own exceptions pass. AssertionError for any
        other one, and for a call that does not end in time."""
        began_at = time.monotonic()
        try:
            async with asyncio.timeout(self.deadline_s):
                return await call
        except AuthenticatorUnavailable as error:
            if not str(error):
                raise AssertionError(
                    f"{what}: AuthenticatorUnavailable does not say why"
                ) from error
            raise
        except (IdentityNotTold, NameRefused, SignInRefused):
            raise
        except Exception as error:
            late = time.monotonic() - began_at >= self.deadline_s
            words = (
                f"has not ended within {self.deadline_s:g} s"
                if late
                else f"raised {type(error).__name__}, which is no answer"
            )
            raise AssertionError(f"{what}: {words}") from error

    async def sign_in(
        self, credentials: Credentials, authenticator: Authenticator | None = None
    ) -> Principal | None:
        """Return who somebody is, asked as the gateway asks: for what is remembered first."""
        asked = authenticator or self.authenticator
        try:
            known = asked.remembered(credentials)
        except AuthenticatorUnavailable:
            raise
        except Exception as error:
            raise AssertionError(
                f"remembered: raised {type(error).__name__}, which is no answer"
            ) from error
        try:
            told = known or await self.done(asked.authenticate(credentials), "authenticate")
        except SignInRefused as error:
            if not error.why:
                raise AssertionError("SignInRefused does not say why") from error
            told = None
        return None if told is None else sound(told)

    async def password(self, user: str) -> str:
        """Return the password of a user, or skip the test where there are none."""
        self.need("passwords")
        credentials = await self.show(user)
        assert credentials.scheme == "basic", "a password is sent by the scheme `basic`"
        password = secret_in(credentials)
        assert len(password) >= 8, "the secrets of the Source's users have eight letters and more"
        return password

    async def right(self, user: str) -> Principal:
        """Sign in a user, who must be let in under that name."""
        told = await self.sign_in(await self.show(user))
        assert told is not None, f"{user} is kept out with the right credentials"
        assert told.user == user, f"{user} is let in as {told.user!r}"
        return told

    async def refused(self, credentials: Credentials, why: str) -> None:
        """Sign in with what proves nothing, again and again: nobody may be let in."""
        for _ in range(2):
            try:
                told = await self.sign_in(credentials)
            except NameRefused as error:
                raise AssertionError(
                    f"{why}, which proves nothing, one learns who there is: {error}"
                ) from error
            assert told is None, f"{told.user!r} is let in {why}"

    async def told(self, credentials: Credentials) -> Principal | None:
        """Sign in with right credentials whose name may be none; None if that is said."""
        try:
            return await self.sign_in(credentials)
        except NameRefused as error:
            why = error.why
        assert why, "NameRefused does not say what is wrong with the name"
        return None

    async def identity(self, user: str) -> Principal | None:
        """Return what is told of a user who does not call, or skip the test where nothing can
        be."""
        self.need("asked_by_name")
        told = await self.done(self.authenticator.identity(user), "identity")
        return None if told is None else sound(told)

    async def until(self, is_so: Callable[[], Awaitable[bool]], words: str) -> None:
        """Wait until something is so, for as long as a change in the source may take to be told."""
        give_up_at = time.monotonic() + self.fresh_s
        while not await is_so():
            assert time.monotonic() < give_up_at, f"{words}, {self.fresh_s:g} s after the change"
            await asyncio.sleep(self.look_s)


def sound(told: Principal) -> Principal:
    """Return what is told of somebody; AssertionError if no such person can be."""
    wrong = why_unsound(told)
    assert not wrong, f"it tells {wrong}"
    now = time.time() * 1000
    assert told.expires_at == 0 or told.expires_at > now, f"{told.user!r} has expired, and is told"
    assert not told.token_id, "only the gateway's own tokens have an id"
    return told


def basic(user: str, password: str, peer: str = "192.0.2.1") -> Credentials:
    """Return user and password as they are sent (RFC 7617)."""
    return Credentials("basic", basic_credentials(user, password).partition(" ")[2], peer)


def secret_in(credentials: Credentials) -> str:
    """Return the password of basic credentials, and the whole value of all others."""
    pair = parse_basic(f"basic {credentials.value}") if credentials.scheme == "basic" else None
    return credentials.value if pair is None else pair[1]
