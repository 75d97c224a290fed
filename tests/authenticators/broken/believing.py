"""Authenticators that believe whatever their directory says, or do not bear with it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

from gateway.authenticators.contract import AuthenticatorUnavailable, Credentials, SignInRefused
from gateway.server.core.model import Principal
from tests.authenticators.broken.base import noticed_by
from tests.authenticators.pretend import Directory, Endless, Person, PretendAuthenticator

LIES = "test_what_nobody_could_mean_is_an_outage_and_lets_nobody_in"
SLOW = "test_a_source_that_is_slow_is_waited_for"
CLOCK = "test_who_is_kept_out_for_a_clock_is_told_so"
ONCE = "test_what_is_shown_twice_at_once_is_good_as_often_as_one_after_the_other"
OTHER = "test_who_is_asked_about_is_never_another"


@noticed_by(LIES)
class TakesALieForNobody(PretendAuthenticator):
    """Finds nobody in what it cannot read, so that everybody's sessions end."""

    async def person(self, user: str) -> Person | None:
        try:
            return await super().person(user)
        except AuthenticatorUnavailable:
            return None


class _Believes(PretendAuthenticator):
    """Asks, and believes."""

    async def raw(self, user: str) -> Any:
        """Return whatever is said."""
        return await self.directory.ask(user)


@noticed_by(LIES)
class RaisesWhatItCannotRead(_Believes):
    """Expects somebody."""

    async def person(self, user: str) -> Person | None:
        told = await self.raw(user)
        if told is not None and not told.user:
            raise KeyError("user")
        return told


@noticed_by(LIES)
class TakesAnyGroups(_Believes):
    """Hands on a million groups."""

    async def person(self, user: str) -> Person | None:
        told = await self.raw(user)
        if told is None:
            return None
        if not isinstance(told, Person) or not told.user:
            raise AuthenticatorUnavailable("the directory tells no person")
        # what is told comes with the right password
        return replace(told, password=self.directory.people[user].password)


@noticed_by(LIES)
class TakesNulInGroups(_Believes):
    """Counts groups, and reads none."""

    async def person(self, user: str) -> Person | None:
        told = await self.raw(user)
        if told is None:
            return None
        sound = isinstance(told, Person) and told.user and len(told.groups) < 100
        if not sound or any(len(one) > 100 for one in told.groups):
            raise AuthenticatorUnavailable("the directory tells no person")
        return replace(told, password=self.directory.people[user].password)


@noticed_by(LIES)
class ReadsWithoutEnd(PretendAuthenticator):
    """Reads as long as there is something to read."""

    async def person(self, user: str) -> Person | None:
        told = await self.directory.ask(user)
        if isinstance(told, Endless):
            async for _ in told:
                pass
        return await super().person(user)


@noticed_by(LIES)
class NeverBelievesAgain(PretendAuthenticator):
    """Keeps that its directory has lied."""

    lied = False

    async def person(self, user: str) -> Person | None:
        self.lied = self.lied or self.directory.lie is not None
        if self.lied:
            raise AuthenticatorUnavailable("the directory lied")
        return await super().person(user)


@noticed_by(LIES)
class ReadsInTheLoop(PretendAuthenticator):
    """Reads what is large at one go."""

    async def person(self, user: str) -> Person | None:
        if self.directory.lie is not None:
            time.sleep(0.4)  # noqa: ASYNC251 (which is the fault)
        return await super().person(user)


@noticed_by(OTHER)
class TellsOfWhoeverIsTold(_Believes):
    """Takes what is told for what was asked."""

    async def identity(self, user: str) -> Principal | None:
        told = await self.raw(user)
        return None if told is None else replace(self.told(told), user=user)


@noticed_by(OTHER)
class TellsOfAnother(_Believes):
    """Tells of another under the other's name."""

    async def identity(self, user: str) -> Principal | None:
        told = await self.raw(user)
        return None if told is None else self.told(told)


@noticed_by(SLOW)
class HasNoPatience(PretendAuthenticator):
    """Finds nobody who is not found at once."""

    async def person(self, user: str) -> Person | None:
        try:
            async with asyncio.timeout(0.01):
                return await self.directory.ask(user)
        except (OSError, TimeoutError):
            return None


@noticed_by(SLOW)
class WaitsInTheLoop(PretendAuthenticator):
    """Has everybody else wait too."""

    async def person(self, user: str) -> Person | None:
        time.sleep(8 * self.directory.late_s)  # noqa: ASYNC251 (which is the fault)
        return await super().person(user)


@noticed_by(CLOCK)
class SaysNothingOfTheClock(PretendAuthenticator):
    """Refuses a ticket of another clock like any that is wrong."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        try:
            return await super().authenticate(credentials)
        except SignInRefused:
            return None


@noticed_by(CLOCK)
class SaysSomethingElse(PretendAuthenticator):
    """Has one answer for all tickets."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        try:
            return await super().authenticate(credentials)
        except SignInRefused:
            raise SignInRefused("the ticket is wrong") from None


@noticed_by(ONCE)
class RefusesWhoComesTwice(PretendAuthenticator):
    """Lets nobody in who is just being let in."""

    def __init__(self, directory: Directory) -> None:
        super().__init__(directory)
        self.busy: set[str] = set()

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        if credentials.value in self.busy:
            return None
        self.busy.add(credentials.value)
        try:
            return await super().authenticate(credentials)
        finally:
            self.busy.discard(credentials.value)
