"""A sound authenticator over a directory of people in memory, which can be away, or hang."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gateway.authenticators.conformance import Source
from gateway.authenticators.conformance.source import basic
from gateway.authenticators.contract import (
    Authenticator,
    AuthenticatorUnavailable,
    Credentials,
    SignInRefused,
    why_unsound,
)
from gateway.server.core.model import Principal
from gateway.wire import parse_basic

CHECK_S = 0.01  # that a password takes to be checked
ANSWER_S = 0.5  # until the directory is taken not to answer
LATE_S = 0.05  # that its answers come late
ODD = "Bob@Example.ORG"


@dataclass(frozen=True)
class Person:
    """Somebody in the directory."""

    user: str
    password: str
    admin: bool = False
    groups: tuple[str, ...] = ()
    ends_at: int = 0  # ms since the epoch

    def principal(self) -> Principal:
        """Return what is to be told of somebody."""
        stamp = hashlib.sha256(self.password.encode()).hexdigest()[:16]
        return Principal(self.user, self.admin, self.groups, expires_at=self.ends_at, stamp=stamp)


@dataclass
class Ticket:
    """What proves who somebody is, once, and for a while."""

    user: str
    ends_at: float
    used: bool = False
    made_at: float = 0.0  # by the clock of who made it


class Endless:
    """An answer that has no end."""

    def __aiter__(self) -> Endless:
        return self

    async def __anext__(self) -> bytes:
        await asyncio.sleep(0.001)
        return b"more"


# what the directory may say instead of the truth, by what it is
LIES: Mapping[str, Callable[[str], Any]] = {
    "a page of HTML": lambda user: "<html><body>Sign in first</body></html>",
    "a list": lambda user: [user],
    "a number for a name": lambda user: {"user": 7},
    "no name": lambda user: Person("", "Secret-of-nobody"),
    "groups of a million": lambda user: Person(
        user, "Secret-of-many", groups=("physics",) * 1_000_000
    ),
    "a group of a million letters": lambda user: Person(user, "x", groups=("p" * 1_000_000,)),
    "NUL in a group": lambda user: Person(user, "Secret-of-nul", groups=("phys\0ics",)),
    "half a letter in a group": lambda user: Person(user, "x", groups=("\ud800",)),
    "an answer without end": lambda user: Endless(),
}


class Directory:
    """People, and tickets that were given to them."""

    def __init__(self) -> None:
        self.people: dict[str, Person] = {}
        self.tickets: dict[str, Ticket] = {}
        self.away = False
        self.answering = asyncio.Event()  # cleared: it accepts connections, and never answers
        self.answering.set()
        self.late_s = 0.0
        self.lie: Callable[[str], Any] | None = None

    async def ask(self, user: str) -> Any:
        """Return somebody as of now, None if there is none such; or a lie. OSError while it is
        away."""
        await asyncio.sleep(self.late_s)
        if self.away:
            raise ConnectionRefusedError(f"nobody answers who {user!r} is")
        await self.answering.wait()
        return self.people.get(user) if self.lie is None else self.lie(user)

    async def add(self, user: str, *, admin: bool, groups: Sequence[str]) -> None:
        """Add somebody, or change who is there."""
        there = self.people.get(user) or Person(user, f"Secret-of-{secrets.token_hex(4)}")
        self.people[user] = replace(there, admin=admin, groups=tuple(groups))

    async def remove(self, user: str) -> None:
        """Remove somebody."""
        del self.people[user]

    async def renew(self, user: str) -> None:
        """Give somebody another password."""
        self.people[user] = replace(self.people[user], password=f"New-{secrets.token_hex(8)}")

    async def show(self, user: str) -> Credentials:
        """Return what somebody sends."""
        return basic(user, self.people[user].password)

    async def wrong(self, user: str) -> Credentials:
        """Return what somebody sends who knows no password."""
        return basic(user, f"guess-{secrets.token_hex(8)}")

    async def ending(self, user: str) -> tuple[Credentials, int]:
        """Let somebody's account end in an hour."""
        ends_at = int(time.time() * 1000) + 3_600_000
        self.people[user] = replace(self.people[user], ends_at=ends_at)
        return await self.show(user), ends_at

    async def expired(self, user: str) -> Credentials:
        """Return a ticket that has expired."""
        return self._ticket(Ticket(user, time.time() - 60))

    async def replayed(self, user: str) -> Credentials:
        """Return a ticket that was used."""
        return self._ticket(Ticket(user, time.time() + 60, used=True))

    async def off_by(self, user: str, seconds: float) -> Credentials:
        """Return a ticket that was made now, by another clock."""
        made_at = time.time() + seconds
        return self._ticket(Ticket(user, made_at + 60, made_at=made_at))

    def _ticket(self, ticket: Ticket) -> Credentials:
        value = secrets.token_hex(16)
        self.tickets[value] = ticket
        return Credentials("bearer", value, "192.0.2.1")

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """Be away."""
        self.away = True
        try:
            yield
        finally:
            self.away = False

    @asynccontextmanager
    async def hang(self) -> AsyncIterator[None]:
        """Answer nothing."""
        self.answering.clear()
        try:
            yield
        finally:
            self.answering.set()

    @asynccontextmanager
    async def slow(self) -> AsyncIterator[None]:
        """Answer late."""
        self.late_s = LATE_S
        try:
            yield
        finally:
            self.late_s = 0.0

    @asynccontextmanager
    async def lying(self, lie: Callable[[str], Any]) -> AsyncIterator[None]:
        """Tell something else than the truth."""
        self.lie = lie
        try:
            yield
        finally:
            self.lie = None

    def impostor(self) -> Any:
        """Tell of bob, whoever is asked about."""
        return self.lying(lambda user: self.people["bob"])


class PretendAuthenticator(Authenticator):
    """Asks the directory, for everything and every time."""

    schemes: tuple[str, ...] = ("basic", "bearer")
    at_a_time = 4

    def __init__(self, directory: Directory) -> None:
        super().__init__()
        self.directory = directory
        self.places = asyncio.Semaphore(self.at_a_time)

    async def person(self, user: str) -> Person | None:
        """Return somebody; AuthenticatorUnavailable if nobody can tell."""
        try:
            async with asyncio.timeout(ANSWER_S):
                told = await self.directory.ask(user)
        except (OSError, TimeoutError) as error:
            raise AuthenticatorUnavailable("the directory does not answer") from error
        if told is None:
            return None
        if not isinstance(told, Person) or why_unsound(told.principal()):
            raise AuthenticatorUnavailable("the directory tells what nobody can be")
        return told if told.user == user else None

    def pair(self, credentials: Credentials) -> tuple[str, str] | None:
        """Return user and password out of what was sent."""
        return parse_basic(f"basic {credentials.value}")

    async def check(self, person: Person | None, password: str) -> bool:
        """Whether a password is right, after the same time for everybody."""
        await asyncio.sleep(CHECK_S)
        stored = person.password if person is not None else secrets.token_hex(8)
        right = hmac.compare_digest(
            password.encode(errors="replace"), stored.encode(errors="replace")
        )
        return right and person is not None

    def told(self, person: Person) -> Principal:
        """Return what is told of somebody."""
        return person.principal()

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Return who this is."""
        async with self.places:
            if credentials.scheme == "bearer":
                return await self.by_ticket(credentials.value)
            pair = self.pair(credentials) if credentials.scheme == "basic" else None
            if pair is None:
                return None
            person = await self.person(pair[0])
            right = await self.check(person, pair[1])
            return self.told(person) if right and person is not None else None

    async def by_ticket(self, value: str) -> Principal | None:
        """Return whose ticket this is."""
        ticket = self.directory.tickets.get(value)
        if ticket is None or ticket.used:
            return None
        if ticket.made_at > time.time() + 60:
            raise SignInRefused("the ticket is not valid yet; one of the clocks is wrong")
        if ticket.ends_at <= time.time():
            raise SignInRefused("the ticket has expired")
        ticket.used = True
        person = await self.person(ticket.user)
        return None if person is None else self.told(person)

    async def identity(self, user: str) -> Principal | None:
        """Return who a user is now."""
        person = await self.person(user)
        return None if person is None else self.told(person)


def source_of(
    kind: type[PretendAuthenticator], **given: float
) -> tuple[Source, Callable[[], Awaitable[None]]]:
    """Return a source with an authenticator of a kind, and what adds the user of a strange name."""
    directory = Directory()

    async def again() -> Authenticator:
        return kind(directory)

    async def add_odd() -> None:
        await directory.add(ODD, admin=False, groups=())

    source = Source(
        kind(directory),
        again=again,
        add=directory.add,
        show=directory.show,
        wrong=directory.wrong,
        change=directory.add,
        remove=directory.remove,
        renew=directory.renew,
        expired=directory.expired,
        replayed=directory.replayed,
        ending=directory.ending,
        odd=ODD,
        outage=directory.outage,
        hang=directory.hang,
        slow=directory.slow,
        lies={what: partial(directory.lying, lie) for what, lie in LIES.items()},
        impostor=directory.impostor,
        off_by=directory.off_by,
        **given,  # type: ignore[arg-type]
    )
    return source, add_odd
