"""Authenticators that take an outage for a verdict, hang, raise what nobody expects, or hold up the
event loop."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from gateway.authenticators.contract import AuthenticatorUnavailable, Credentials
from gateway.server.core.model import Principal
from tests.authenticators.broken.base import noticed_by
from tests.authenticators.pretend import Directory, Person, PretendAuthenticator

OUTAGE = "test_an_outage_is_no_verdict"
HANG = "test_a_source_that_hangs_is_an_outage"
OPENS = "test_it_opens_and_closes_as_often_as_it_is_asked_to"


@noticed_by(OUTAGE)
class AnOutageIsNobody(PretendAuthenticator):
    """Finds nobody while nobody answers."""

    async def person(self, user: str) -> Person | None:
        try:
            return await super().person(user)
        except AuthenticatorUnavailable:
            return None


@noticed_by(OUTAGE)
class AnOutageIsNobodyByName(PretendAuthenticator):
    """Says by name that there is none such while nobody answers."""

    async def identity(self, user: str) -> Principal | None:
        try:
            return await super().identity(user)
        except AuthenticatorUnavailable:
            return None


@noticed_by(OUTAGE)
class AnOutageLetsEverybodyIn(PretendAuthenticator):
    """Goes on without asking."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        try:
            return await super().authenticate(credentials)
        except AuthenticatorUnavailable:
            pair = self.pair(credentials)
            return Principal(pair[0]) if pair else None


@noticed_by(OUTAGE)
class AnOutageKnowsEverybody(PretendAuthenticator):
    """Takes every name for somebody's while nobody answers."""

    async def identity(self, user: str) -> Principal | None:
        try:
            return await super().identity(user)
        except AuthenticatorUnavailable:
            return Principal(user)


@noticed_by(OUTAGE)
class RaisesWhatItsDirectoryRaises(PretendAuthenticator):
    """Lets through whatever goes wrong."""

    async def person(self, user: str) -> Person | None:
        return await self.directory.ask(user)


@noticed_by(OUTAGE)
class SaysNothingOfTheOutage(PretendAuthenticator):
    """Has no words for it."""

    async def person(self, user: str) -> Person | None:
        try:
            return await super().person(user)
        except AuthenticatorUnavailable:
            raise AuthenticatorUnavailable from None


@noticed_by(OUTAGE)
class NeverComesBack(PretendAuthenticator):
    """Keeps that its directory is away."""

    gone = False

    async def person(self, user: str) -> Person | None:
        try:
            found = await super().person(user)
        except AuthenticatorUnavailable:
            self.gone = True
            raise
        if self.gone:
            raise AuthenticatorUnavailable("the directory did not answer")
        return found


@noticed_by(HANG)
class WaitsForEver(PretendAuthenticator):
    """Gives its directory all the time there is."""

    async def person(self, user: str) -> Person | None:
        try:
            return await self.directory.ask(user)
        except OSError as error:
            raise AuthenticatorUnavailable("the directory does not answer") from error


@noticed_by(HANG)
class WaitsForEverByName(PretendAuthenticator):
    """Gives its directory all the time there is, when asked by name."""

    async def identity(self, user: str) -> Principal | None:
        person = await self.directory.ask(user)
        return None if person is None else self.told(person)


@noticed_by(HANG)
class RaisesTimeoutError(PretendAuthenticator):
    """Lets the end of its patience through."""

    async def person(self, user: str) -> Person | None:
        async with asyncio.timeout(0.1):
            return await self.directory.ask(user)


@noticed_by("test_an_outage_does_not_keep_it_from_closing")
class ClosesWhenTheDirectorySaysSo(PretendAuthenticator):
    """Takes leave of its directory, and waits for the answer."""

    async def close(self) -> None:
        if self.directory.away:
            await asyncio.Event().wait()


@noticed_by("test_an_outage_does_not_keep_it_from_closing")
class ClosesWithAnError(PretendAuthenticator):
    """Takes leave of its directory, which is away."""

    async def close(self) -> None:
        await self.directory.ask("")


@noticed_by(OPENS)
class HangsOnOpen(PretendAuthenticator):
    """Is never ready a second time."""

    async def open(self) -> None:
        if len(self.directory.tickets) > 0:
            await asyncio.Event().wait()
        self.directory.tickets["opened"] = None  # type: ignore[assignment]


@noticed_by(OPENS)
class HangsOnClose(PretendAuthenticator):
    """Never ends."""

    async def close(self) -> None:
        await asyncio.Event().wait()


@noticed_by(OPENS)
class ClosesOnce(PretendAuthenticator):
    """Cannot be closed where it is closed."""

    closed = False

    async def close(self) -> None:
        if self.closed:
            raise RuntimeError("closed")
        self.closed = True


@noticed_by("test_nothing_of_it_goes_on_after_it_was_closed")
class LeavesATask(PretendAuthenticator):
    """Goes on refreshing what it knows."""

    def __init__(self, directory: Directory) -> None:
        super().__init__(directory)
        self.tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        self.tasks.append(asyncio.create_task(self._refresh(), name="refreshes"))

    async def _refresh(self) -> None:
        await asyncio.Event().wait()


@noticed_by("test_calls_that_are_given_up_leave_no_place_taken")
class LosesPlaces(PretendAuthenticator):
    """Gives a place back when a call has ended, but not when it was given up."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        await self.places.acquire()
        places, self.places = self.places, asyncio.Semaphore(self.at_a_time)
        try:
            found = await super().authenticate(credentials)
        finally:
            self.places = places
        self.places.release()
        return found


def _blocking(call: str) -> None:
    """Enter an authenticator one of whose calls holds up the event loop."""

    async def blocks(self: Any, *args: Any) -> Any:
        time.sleep(0.4)  # noqa: ASYNC251 (which is the fault)
        return await getattr(PretendAuthenticator, call)(self, *args)

    noticed_by("test_no_call_holds_up_the_event_loop")(
        type(
            f"Blocks{call.title()}",
            (PretendAuthenticator,),
            {call: blocks, "__doc__": f"Holds up the event loop in {call}."},
        )
    )


for _call in ("open", "authenticate", "identity", "close"):
    _blocking(_call)


@noticed_by("test_no_call_holds_up_the_event_loop")
class BlocksRemembered(PretendAuthenticator):
    """Checks what it remembers as if it did not."""

    def remembered(self, credentials: Credentials) -> Principal | None:
        time.sleep(0.4)
        return None
