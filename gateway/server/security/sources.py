"""The site's identity sources as one authenticator: several, asked in turn, whose people's names
become users' names by the site's rule.

Two people never become one user: patterns are one-to-one, names that are known beforehand are
compared, and what a function says is written down (accounts.py).
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.authenticators.contract import (
    Authenticator,
    AuthenticatorUnavailable,
    Credentials,
    IdentityNotTold,
    NameRefused,
    SignInRefused,
    short_stamp,
    why_unsound,
)
from gateway.server.core import user_names
from gateway.server.core.model import Principal
from gateway.server.core.sign_in_options import API_TOKEN, SignInOption
from gateway.server.core.user_names import Rule, user_of
from gateway.server.security.accounts import Accounts
from gateway.server.store.contract import Store

logger = logging.getLogger(__name__)

KEPT = 10_000  # users whose stamps are kept, where there are several sources
SPENT_BY = 40  # letters that stand for whom something was used, beside users' tickets
TAKEN = "another person is called that here already; ask the administrator"


@dataclass(frozen=True, slots=True)
class Part:
    """One identity source: how the configuration calls it, and how its names become users'."""

    label: str
    authenticator: Authenticator
    rule: Rule

    def why_not(self, name: str) -> str:
        """Return why a name of this source cannot be a user's; empty if it can."""
        try:
            user_of(self.rule, name)
        except ValueError as error:
            return str(error)
        return ""


class Sources(Authenticator):
    """Them all."""

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        same_people: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`same_people`: whether equal users of different sources are the same people."""
        super().__init__()
        self._parts, self._same, self._now = tuple(parts), same_people, now
        self._accounts: Accounts | None = None
        # by user: the stamps of each source, where several may know a user, and of each that
        # tells nothing of the user by name: None
        self._stamps: OrderedDict[str, dict[str, str | None]] = OrderedDict()
        members = self.members
        self.schemes = tuple(dict.fromkeys(itertools.chain(*(one.schemes for one in members))))
        found = dict.fromkeys(one.challenge for one in members if one.challenge)
        self.challenge = ", ".join(found)
        self.at_a_time = max(one.at_a_time for one in members)
        self.identity_kept_s = min(one.identity_kept_s for one in members)
        self.identity_outage_s = min(one.identity_outage_s for one in members)
        self.sign_in_holds_s = min(one.sign_in_holds_s for one in members)
        for part in self._parts:
            part.authenticator.why_not = part.why_not
            part.authenticator.any_case = part.rule.any_case

    @property
    def parts(self) -> tuple[Part, ...]:
        """The identity sources that it consists of."""
        return self._parts

    async def claimed(self, part: Part, told: Principal) -> Principal:
        """Return somebody whom a source tells under the user's name; NameRefused. What nobody can
        be is AuthenticatorUnavailable."""
        return await self._claimed(part, _sound(part, told))

    @property
    def members(self) -> list[Authenticator]:
        """The authenticators that it consists of."""
        return [part.authenticator for part in self._parts]

    def options(self) -> tuple[SignInOption, ...]:
        """Return by what one may sign in, in the order in which it is tried; nothing secret."""
        told = [
            SignInOption(
                part.label,
                part.authenticator.description or type(part.authenticator).__name__,
                tuple(part.authenticator.schemes),
                part.authenticator.client_way,
                part.authenticator.sessions,
                part.authenticator.device_login,
            )
            for part in self._parts
        ]
        return (*told, API_TOKEN)

    @property
    def askable(self) -> bool:
        """Whether any of them can be asked by name. Who signs in by one that cannot is given an
        end."""
        return any(part.authenticator.askable for part in self._parts)

    def problems(self) -> list[str]:
        """Return what is wrong with them, and by which of them two people could become one user."""
        wrong = [line for part in self._parts for line in part.authenticator.problems()]
        for part in self._parts:
            listed = user_names.doubled(part.rule, part.authenticator.listed())
            wrong += [f"c.DaskGateway.user_name: {part.label}: {line}" for line in listed]
        pairs = () if self._same else itertools.combinations(self._parts, 2)
        for one, other in pairs:
            if why := user_names.together(one.rule, other.rule):
                wrong.append(
                    f"c.DaskGateway.user_name: {one.label} and {other.label}: {why}; give each"
                    " authenticator patterns of its own, or set c.DaskGateway.same_people = True"
                    " if users of equal names are the same people"
                )
        return wrong

    def keep_in(self, store: Store) -> None:
        """Name where it is written down whose a user's name is, and what was used once."""
        self._accounts = Accounts(store)

        async def once(once_id: str, whose: str, seconds: float) -> bool:
            now = int(self._now() * 1000)
            until = now + int(seconds * 1000)
            spent_by = hashlib.sha256(whose.encode()).hexdigest()[:SPENT_BY]
            return await store.transact(lambda tx: tx.spend(once_id, spent_by, until, now))

        for part in self._parts:
            part.authenticator.once = once

    async def open(self) -> None:
        """Open them all, or none."""
        opened: list[Authenticator] = []
        try:
            for part in self._parts:
                await part.authenticator.open()
                opened.append(part.authenticator)
        except BaseException:
            for one in reversed(opened):
                await one.close()
            raise

    async def close(self) -> None:
        """Close them all, whatever one of them says."""
        errors: list[Exception] = []
        for part in reversed(self._parts):
            try:
                await part.authenticator.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def remembered(self, credentials: Credentials) -> Principal | None:
        """Return who this is if a source remembers it, and whose the name is need not be read."""
        for part in self._reading(credentials.scheme):
            told = part.authenticator.remembered(credentials)
            if told is None:
                continue
            try:
                user = self._user(part, told.user)
            except NameRefused:
                return None
            if part.rule.one_way and (
                self._accounts is None or self._accounts.known(part.label, user) != told.user
            ):
                return None
            return self._named(part, told, user)
        return None

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Return who this is by the first source that knows; NameRefused if one does whose name
        for it cannot be a user's."""
        refused: NameRefused | None = None
        useless: SignInRefused | None = None
        away: AuthenticatorUnavailable | None = None
        for part in self._reading(credentials.scheme):
            try:
                told = await part.authenticator.authenticate(credentials)
                if told is not None:
                    return await self.claimed(part, told)
            except NameRefused as error:
                refused = refused or error
            except SignInRefused as error:
                useless = useless or error
            except AuthenticatorUnavailable as error:
                logger.warning("%s does not answer: %s", part.label, error)
                error.provider = error.provider or part.label
                away = away or error
        if refused is not None:
            raise refused
        if away is not None:
            raise away
        if useless is not None:
            raise useless
        return None

    async def identity(self, user: str) -> Principal | None:
        """Return who a user is by the first source that knows; IdentityNotTold if one that cannot
        be asked may."""
        first: Principal | None = None
        untold, stamps = False, dict[str, str | None]()
        for part in self._parts:
            try:
                found = await self._asked(part, user)
            except IdentityNotTold:
                untold, stamps[part.label] = True, None
                continue
            except AuthenticatorUnavailable as error:
                if first is None:
                    error.provider = error.provider or part.label
                    raise
                # who signed in by it stays, as while it is away in any case
                before = self._stamps.get(user, {})
                stamps |= {one: said for one, said in before.items() if one == part.label}
                continue
            if found is not None:
                named = self._named(part, found, user)
                stamps[part.label] = named.stamp
                first = first or named
                if not self._same:
                    break
        if len(self._parts) > 1:
            self._keep(user, stamps)
        if first is None and untold:
            raise IdentityNotTold
        return first

    def stands(self, opened: Principal, now: Principal) -> bool:
        """Whether a sign-in is still good, by whichever source it was; by one that tells nothing by
        name it is, until it ends."""
        if opened.stamp == now.stamp:
            return True
        stamps = self._stamps.get(opened.user, {})
        return opened.stamp in stamps.values() or self._untold(opened, stamps)

    def holds_untold(self, opened: Principal) -> bool:
        """Whether a sign-in was by a source that tells nothing by name: of one that does, its user
        is gone."""
        if len(self._parts) == 1:
            return self._parts[0].authenticator.holds_untold(opened)
        return self._untold(opened, self._stamps.get(opened.user, {}))

    def _untold(self, opened: Principal, stamps: Mapping[str, str | None]) -> bool:
        label = opened.way or opened.stamp.partition(":")[0]
        if label not in stamps or stamps[label] is not None:
            return False
        stamp = opened.stamp.removeprefix(f"{label}:")
        return any(
            part.authenticator.holds_untold(replace(opened, stamp=stamp))
            for part in self._parts
            if part.label == label
        )

    def _reading(self, scheme: str) -> list[Part]:
        return [part for part in self._parts if scheme in part.authenticator.schemes]

    def _user(self, part: Part, name: str) -> str:
        """Return the user that a person of a source is, by the rule and by what is known."""
        try:
            user = user_of(part.rule, name)
        except ValueError as error:
            raise NameRefused(name, str(error)) from None
        if part.rule.folds and (twins := self._listed(part, user)) and twins != [name]:
            if len(twins) > 1:
                logger.error(
                    "c.DaskGateway.user_name: %s: %s would all be %r; each is kept out",
                    part.label,
                    ", ".join(map(user_names.shown, twins)),
                    user,
                )
            raise NameRefused(name, TAKEN)
        return user

    def _listed(self, part: Part, user: str) -> list[str]:
        """Return the names of a source that are known beforehand and become a user."""
        return [
            name
            for name in part.authenticator.listed()
            if not part.why_not(name) and user_of(part.rule, name) == user
        ]

    async def _claimed(self, part: Part, told: Principal) -> Principal:
        user = self._user(part, told.user)
        if part.rule.one_way and self._accounts is not None:

            def still(name: str) -> bool:
                return not part.why_not(name) and user_of(part.rule, name) == user

            owner = await self._accounts.claim(part.label, user, told.user, still)
            if owner != told.user:
                logger.error(
                    "c.DaskGateway.user_name: %s: %s would be %r, who is %s; kept out",
                    part.label,
                    user_names.shown(told.user),
                    user,
                    user_names.shown(owner),
                )
                raise NameRefused(told.user, TAKEN)
        return self._named(part, told, user)

    async def _asked(self, part: Part, user: str) -> Principal | None:
        """Return what a source says of a user; None if it knows none who would be called so."""
        if not part.authenticator.askable:
            raise IdentityNotTold
        name = part.rule.name(user)
        if part.rule.folds:
            listed = self._listed(part, user)
            if len(listed) > 1:
                return None
            name = listed[0] if listed else name
        if part.rule.one_way and self._accounts is not None:
            name = await self._accounts.owner(part.label, user) or name
        told = None if name is None else await part.authenticator.identity(name)
        return None if told is None else _sound(part, told)

    def _named(self, part: Part, told: Principal, user: str) -> Principal:
        """Return somebody under the user's name; of several sources with a stamp that tells which
        it was, and with an end where the source cannot be asked."""
        if len(self._parts) == 1:
            return replace(told, user=user, way=part.label)
        expires_at, stamp = told.expires_at, f"{part.label}:{told.stamp}"
        if not part.authenticator.askable:
            latest = int((self._now() + part.authenticator.sign_in_holds_s) * 1000)
            expires_at = min(expires_at or latest, latest)
        stamp = short_stamp(stamp)
        return replace(told, user=user, stamp=stamp, expires_at=expires_at, way=part.label)

    def _keep(self, user: str, stamps: dict[str, str | None]) -> None:
        self._stamps[user] = stamps
        self._stamps.move_to_end(user)
        while len(self._stamps) > KEPT:
            self._stamps.popitem(last=False)


def _sound(part: Part, told: Principal) -> Principal:
    """Return what a source tells, if somebody can be that: it would stand in the database, and in
    answers."""
    if why := why_unsound(told):
        raise AuthenticatorUnavailable(f"{part.label} tells {why}")
    return told
