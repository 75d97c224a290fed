"""Authenticators that let in who must be kept out, or under another's name."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace

from gateway.authenticators.contract import Authenticator, Credentials, NameRefused
from gateway.server.core.model import Principal
from tests.authenticators.broken.base import noticed_by
from tests.authenticators.pretend import Person, PretendAuthenticator

WRONG = "test_wrong_credentials_let_nobody_in"
LETTER = "test_a_password_is_taken_to_the_letter"
RIGHT = "test_right_credentials_tell_who_somebody_is"
SCHEMES = "test_it_names_the_schemes_that_it_reads"


@noticed_by(WRONG)
class LetsEverybodyIn(PretendAuthenticator):
    """Believes every password."""

    async def check(self, person: Person | None, password: str) -> bool:
        return person is not None


@noticed_by(WRONG)
class RemembersWhatWasWrong(PretendAuthenticator):
    """Keeps what was sent before it is checked."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.sent: dict[str, Principal] = {}

    def remembered(self, credentials: Credentials) -> Principal | None:
        return self.sent.get(credentials.value)

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        pair = self.pair(credentials)
        self.sent[credentials.value] = Principal(pair[0] if pair else "alice")
        return await super().authenticate(credentials)


@noticed_by(WRONG)
class RemembersTheNameAlone(PretendAuthenticator):
    """Lets in whoever names somebody who has signed in."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.known: dict[str, Principal] = {}

    def remembered(self, credentials: Credentials) -> Principal | None:
        pair = self.pair(credentials)
        return self.known.get(pair[0]) if pair else None

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        found = await super().authenticate(credentials)
        if found is not None:
            self.known[found.user] = found
        return found


@noticed_by("test_a_user_there_is_none_of_is_kept_out")
class MakesAccountsForWhoeverComes(PretendAuthenticator):
    """Knows everybody."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        pair = self.pair(credentials)
        if pair is not None and pair[1] and await self.person(pair[0]) is None:
            return Principal(pair[0])
        return await super().authenticate(credentials)


@noticed_by("test_another_users_password_lets_nobody_in")
class TakesAnybodysPassword(PretendAuthenticator):
    """Looks for the password, whoever's it is."""

    async def check(self, person: Person | None, password: str) -> bool:
        return person is not None and any(
            one.password == password for one in self.directory.people.values()
        )


@noticed_by("test_an_empty_secret_lets_nobody_in")
class LetsInAnEmptyPassword(PretendAuthenticator):
    """As a directory does that takes it for a bind of nobody."""

    async def check(self, person: Person | None, password: str) -> bool:
        return await super().check(person, password) or (person is not None and not password)


@noticed_by("test_an_empty_secret_lets_nobody_in")
class TakesNothingForTheFirstUser(PretendAuthenticator):
    """Finds somebody in an empty text."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        if not credentials.value:
            return self.told(self.directory.people["alice"])
        return await super().authenticate(credentials)


@noticed_by("test_what_is_malformed_lets_nobody_in")
class RaisesWhatIsMalformed(PretendAuthenticator):
    """Does not expect that what is sent may be no base64."""

    def pair(self, credentials: Credentials) -> tuple[str, str] | None:
        user, _, password = base64.b64decode(credentials.value).decode().partition(":")
        return user, password


@noticed_by("test_what_is_malformed_lets_nobody_in")
class PassesOverWhatIsMalformed(PretendAuthenticator):
    """Reads base64 as far as it goes, and passes over what is none."""

    def pair(self, credentials: Credentials) -> tuple[str, str] | None:
        text = credentials.value.rstrip("\0").encode(errors="replace")
        try:
            user, _, password = base64.b64decode(text).decode(errors="replace").partition(":")
        except ValueError:
            return None
        return user, password


def _altered(name: str, words: str, alter: object, test: str = LETTER) -> None:
    """Enter an authenticator that alters a password before it is compared."""

    async def check(self: PretendAuthenticator, person: Person | None, password: str) -> bool:
        if person is not None:
            person = replace(person, password=alter(person.password))  # type: ignore[operator]
        return await PretendAuthenticator.check(self, person, alter(password))  # type: ignore[operator]

    noticed_by(test)(type(name, (PretendAuthenticator,), {"check": check, "__doc__": words}))


_altered("CutsPasswords", "Compares eight letters.", lambda text: text[:8])
_altered("StripsPasswords", "Passes over blanks.", lambda text: text.strip(" "))
_altered("FoldsPasswords", "Passes over capitals.", lambda text: text.casefold())
_altered("EndsPasswordsAtNul", "As C does.", lambda text: text.partition("\0")[0])


class _AltersNames(PretendAuthenticator):
    """Looks for a name that it makes of the one that was sent."""

    def altered(self, user: str) -> str:
        """Return the name that is looked for."""
        raise NotImplementedError

    async def person(self, user: str) -> Person | None:
        return await super().person(self.altered(user))


@noticed_by("test_a_name_in_other_letters_is_another_name")
class FoldsNames(_AltersNames):
    """Takes ALICE for alice, whose source tells them apart."""

    def altered(self, user: str) -> str:
        return user.lower()


@noticed_by("test_a_name_in_other_letters_is_another_name")
class FoldsNamesAndTellsThem(PretendAuthenticator):
    """Lets ALICE in beside alice: two users of one person."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        pair = self.pair(credentials)
        person = await self.person(pair[0].lower()) if pair else None
        if pair is None or not await self.check(person, pair[1]) or person is None:
            return None
        return replace(self.told(person), user=pair[0])


@noticed_by("test_a_name_in_other_letters_is_another_name")
class TellsNamesToWhoeverGuesses(PretendAuthenticator):
    """Says how a name is written before it looks at the password."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        pair = self.pair(credentials)
        if pair and pair[0] != pair[0].lower() and await self.person(pair[0].lower()):
            raise NameRefused(pair[0], f"it is written {pair[0].lower()!r}")
        return await super().authenticate(credentials)


@noticed_by(LETTER)
class StripsNames(_AltersNames):
    """Passes over blanks and ends of lines."""

    def altered(self, user: str) -> str:
        return user.strip()


@noticed_by("test_a_name_of_the_source_is_never_cut_or_changed")
class CutsNames(PretendAuthenticator):
    """Makes one name of two people's: bob, and Bob of another house."""

    def told(self, person: Person) -> Principal:
        return replace(person.principal(), user=person.user.partition("@")[0].lower())


@noticed_by("test_schemes_that_it_does_not_name_let_nobody_in")
class AnswersForAnyScheme(PretendAuthenticator):
    """Does not look at the scheme."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        return await super().authenticate(replace(credentials, scheme="basic"))


@noticed_by(SCHEMES)
class NamesNoScheme(PretendAuthenticator):
    """Is never asked."""

    schemes = ()


@noticed_by(SCHEMES)
class NamesItsSchemeInCapitals(PretendAuthenticator):
    """Is never asked either."""

    schemes = ("Basic",)


@noticed_by(SCHEMES)
class NamesAnotherScheme(PretendAuthenticator):
    """Reads one scheme and names another."""

    schemes = ("negotiate",)


@noticed_by("test_where_it_comes_from_makes_nobody_somebody_else")
class TrustsThisMachine(PretendAuthenticator):
    """Asks nobody for a password who calls from here, as all do behind a proxy."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        pair = self.pair(credentials)
        if credentials.peer == "127.0.0.1" and pair is not None:
            person = await self.person(pair[0])
            return None if person is None else self.told(person)
        return await super().authenticate(credentials)


@noticed_by("test_many_who_sign_in_at_a_time_are_told_apart")
class MixesThemUp(PretendAuthenticator):
    """Keeps who is signing in where the next one is kept, too."""

    latest: Person

    async def check(self, person: Person | None, password: str) -> bool:
        if person is not None:
            self.latest = person
        return await super().check(person, password)

    def told(self, person: Person) -> Principal:
        return self.latest.principal() if hasattr(self, "latest") else person.principal()


@noticed_by("test_a_refusal_takes_as_long_for_an_unknown_user_as_for_a_wrong_secret")
class AnswersQuickerForUnknownUsers(PretendAuthenticator):
    """Has nothing to check of whom it does not know."""

    async def check(self, person: Person | None, password: str) -> bool:
        return person is not None and await super().check(person, password)


@noticed_by("test_a_refusal_takes_as_long_for_an_unknown_user_as_for_a_wrong_secret")
class LooksLongerForUnknownUsers(PretendAuthenticator):
    """Looks in another place before it gives up."""

    async def check(self, person: Person | None, password: str) -> bool:
        if person is None:
            await asyncio.sleep(0.02)
        return await super().check(person, password)


def _tells(name: str, words: str, **changed: object) -> None:
    """Enter an authenticator that tells something else of everybody."""

    def told(self: PretendAuthenticator, person: Person) -> Principal:
        return replace(person.principal(), **changed)  # type: ignore[arg-type]

    noticed_by(RIGHT)(type(name, (PretendAuthenticator,), {"told": told, "__doc__": words}))


_tells("TellsAnotherName", "Adds the realm.", user="alice@EXAMPLE.ORG")
_tells("TellsNoName", "Knows nobody's name.", user="")
_tells("TellsAListOfGroups", "Tells groups as a list.", groups=["physics"])
_tells("TellsNoGroups", "Forgets groups.", groups=())
_tells("TellsAdminInWords", "Tells admin as its source does.", admin="false")
_tells("TellsThatNobodyIsAdmin", "Has no admins.", admin=False)
_tells("TellsSecondsOfDays", "Tells seconds in place of milliseconds.", expires_at=1_900_000_000)
_tells("PassesOffASignInAsAToken", "Names a token that there is none of.", token_id="t1")


@noticed_by(RIGHT)
class TellsADictionary(PretendAuthenticator):
    """Hands on what its source says."""

    def told(self, person: Person) -> Principal:
        return {"name": person.user}  # type: ignore[return-value]


class NotAskable(PretendAuthenticator):
    """Is sound but for what it was not asked."""

    identity = Authenticator.identity


noticed_by("test_it_can_be_asked_by_name_or_says_that_it_cannot")(NotAskable)
