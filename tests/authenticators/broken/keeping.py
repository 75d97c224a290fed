"""Authenticators that keep what is no longer so."""

from __future__ import annotations

import fnmatch
import itertools
import os
from dataclasses import replace

from gateway.authenticators.contract import Credentials, IdentityNotTold
from gateway.server.core.model import Principal
from tests.authenticators.broken.base import noticed_by
from tests.authenticators.pretend import Directory, Person, PretendAuthenticator

NAME = "test_of_an_unknown_name_nobody_is_told"
ADMIN = "test_an_admin_who_is_none_any_more_is_none"
STAMP = "test_the_stamp_changes_with_the_secret_and_with_nothing_else"
GONE = "test_a_user_who_goes_is_nobody"


class _Keeps(PretendAuthenticator):
    """Keeps people as they first were."""

    def __init__(self, directory: Directory) -> None:
        super().__init__(directory)
        self.kept: dict[str, Person] = {}

    async def person(self, user: str) -> Person | None:
        found = await super().person(user)
        if found is not None:
            self.kept.setdefault(user, found)
        return self.now(found, self.kept.get(user))

    def now(self, found: Person | None, first: Person | None) -> Person | None:
        """Return what is told, of what there is and what there was."""
        return found


@noticed_by(GONE)
class KeepsARemovedUser(_Keeps):
    """Forgets nobody."""

    def now(self, found: Person | None, first: Person | None) -> Person | None:
        return found or first


@noticed_by(GONE)
class KeepsARemovedUserByName(_Keeps):
    """Lets a removed user in no more, and tells of one all the same."""

    async def identity(self, user: str) -> Principal | None:
        await self.person(user)
        return self.told(self.kept[user]) if user in self.kept else None


@noticed_by(ADMIN)
class KeepsADemotedAdmin(_Keeps):
    """Once an admin, always an admin."""

    def now(self, found: Person | None, first: Person | None) -> Person | None:
        was = first is not None and first.admin
        return None if found is None else replace(found, admin=found.admin or was)


@noticed_by(ADMIN)
class KeepsADemotedAdminByName(_Keeps):
    """Tells of admins by name as they first were."""

    async def identity(self, user: str) -> Principal | None:
        found = await super().identity(user)
        return None if found is None else replace(found, admin=self.kept[user].admin)


@noticed_by("test_a_user_who_becomes_an_admin_is_one")
class MakesNobodyAnAdmin(_Keeps):
    """Keeps who is no admin."""

    def now(self, found: Person | None, first: Person | None) -> Person | None:
        return None if found is None or first is None else replace(found, admin=first.admin)


@noticed_by("test_groups_are_asked_anew")
class KeepsGroups(_Keeps):
    """Keeps the groups of the first sign-in."""

    def now(self, found: Person | None, first: Person | None) -> Person | None:
        return None if found is None or first is None else replace(found, groups=first.groups)


@noticed_by("test_groups_are_asked_anew")
class AddsGroupsOnly(_Keeps):
    """Takes nobody out of a group."""

    def now(self, found: Person | None, first: Person | None) -> Person | None:
        if found is None or first is None:
            return None
        return replace(found, groups=tuple(sorted({*found.groups, *first.groups})))


@noticed_by("test_a_user_who_comes_is_known")
class KeepsWhoIsUnknown(PretendAuthenticator):
    """Keeps that there is none such."""

    def __init__(self, directory: Directory) -> None:
        super().__init__(directory)
        self.unknown: set[str] = set()

    async def person(self, user: str) -> Person | None:
        found = await super().person(user)
        if found is None:
            self.unknown.add(user)
        return None if user in self.unknown else found


@noticed_by("test_after_a_change_of_secret_the_old_one_proves_nothing")
class KeepsTheOldPassword(PretendAuthenticator):
    """Remembers what was right, for ever."""

    def __init__(self, directory: Directory) -> None:
        super().__init__(directory)
        self.right: dict[str, Principal] = {}

    def remembered(self, credentials: Credentials) -> Principal | None:
        return self.right.get(credentials.value)

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        found = await super().authenticate(credentials)
        if found is not None:
            self.right[credentials.value] = found
        return found


@noticed_by(STAMP)
class StampsNothing(PretendAuthenticator):
    """Tells no stamp."""

    def told(self, person: Person) -> Principal:
        return replace(person.principal(), stamp="")


@noticed_by(STAMP)
class StampsTheName(PretendAuthenticator):
    """Tells a stamp that does not change with the password."""

    def told(self, person: Person) -> Principal:
        return replace(person.principal(), stamp=f"of-{person.user}")


@noticed_by(STAMP)
class StampsThePlace(PretendAuthenticator):
    """Tells a stamp that changes with anybody's password."""

    def told(self, person: Person) -> Principal:
        everybody = sorted(one.password for one in self.directory.people.values())
        return replace(person.principal(), stamp=str(hash(tuple(everybody))))


@noticed_by(STAMP)
class StampsByNameWhatWas(_Keeps):
    """Tells by name the stamp of before, so that nothing ends that a changed password opened."""

    async def identity(self, user: str) -> Principal | None:
        found = await super().identity(user)
        stamp = self.kept[user].principal().stamp if user in self.kept else ""
        return None if found is None else replace(found, stamp=stamp)


_COUNT = itertools.count()


@noticed_by("test_by_name_the_same_is_told_as_at_the_sign_in")
class StampsEachAnswer(PretendAuthenticator):
    """Tells another stamp each time: whatever was opened ends."""

    def told(self, person: Person) -> Principal:
        return replace(person.principal(), stamp=str(next(_COUNT)))


@noticed_by("test_by_name_the_same_is_told_as_at_the_sign_in")
class TellsNoGroupsByName(PretendAuthenticator):
    """Forgets groups where it is asked by name."""

    async def identity(self, user: str) -> Principal | None:
        found = await super().identity(user)
        return None if found is None else replace(found, groups=())


@noticed_by("test_another_server_tells_the_same")
class StampsByAKeyOfItsOwn(PretendAuthenticator):
    """Tells stamps that mean something to this process alone."""

    def __init__(self, directory: Directory) -> None:
        super().__init__(directory)
        self.key = os.urandom(4).hex()

    def told(self, person: Person) -> Principal:
        return replace(person.principal(), stamp=self.key + person.principal().stamp)


@noticed_by(NAME)
class KnowsEverybodyByName(PretendAuthenticator):
    """Says of every name that there is such a user."""

    async def identity(self, user: str) -> Principal | None:
        return await super().identity(user) or Principal(user or "alice")


@noticed_by(NAME)
class TakesNamesForPatterns(PretendAuthenticator):
    """Asks its directory for whatever fits."""

    async def identity(self, user: str) -> Principal | None:
        await self.person(user)
        people = self.directory.people
        found = next((one for name, one in people.items() if fnmatch.fnmatch(name, user)), None)
        return None if found is None else self.told(found)


@noticed_by(NAME)
class RaisesOnStrangeNames(PretendAuthenticator):
    """Cannot send every name to its directory."""

    async def identity(self, user: str) -> Principal | None:
        user.encode("ascii")
        return await super().identity(user)


@noticed_by("test_it_can_be_asked_by_name_or_says_that_it_cannot")
class SaysThatItCannotBeAsked(PretendAuthenticator):
    """Has an `identity`, and tells nothing by it."""

    async def identity(self, user: str) -> Principal | None:
        raise IdentityNotTold


@noticed_by("test_what_has_expired_lets_nobody_in")
class IgnoresExpiry(PretendAuthenticator):
    """Takes tickets however old."""

    async def by_ticket(self, value: str) -> Principal | None:
        if (ticket := self.directory.tickets.get(value)) is not None and not ticket.used:
            ticket.ends_at = float("inf")
        return await super().by_ticket(value)


@noticed_by("test_what_was_used_once_is_not_good_twice")
class TakesATicketTwice(PretendAuthenticator):
    """Does not note what was used."""

    async def by_ticket(self, value: str) -> Principal | None:
        if (ticket := self.directory.tickets.get(value)) is not None:
            ticket.used = False
        return await super().by_ticket(value)


@noticed_by("test_when_an_account_ends_is_told")
class TellsNoEnd(PretendAuthenticator):
    """Does not tell when an account ends."""

    def told(self, person: Person) -> Principal:
        return replace(person.principal(), expires_at=0)


@noticed_by("test_when_an_account_ends_is_told")
class TellsNoEndByName(PretendAuthenticator):
    """Tells at the sign-in alone when an account ends."""

    async def identity(self, user: str) -> Principal | None:
        found = await super().identity(user)
        return None if found is None else replace(found, expires_at=0)
