"""LDAP against a real slapd: all promises of an authenticator, TLS, groups, and what users send."""

from __future__ import annotations

import asyncio
import pathlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import Any, ClassVar

import pytest

from gateway.authenticators import directory as authenticators
from gateway.authenticators.conformance import Conformance, Source
from gateway.authenticators.conformance.source import basic
from gateway.authenticators.contract import AuthenticatorUnavailable, Credentials, NameRefused
from gateway.authenticators.ldap import LdapAuthenticator
from gateway.configfile import ConfigurationError
from tests.authenticators import lying_directory
from tests.parts.jupyterhub import Liar, Wire
from tests.parts.slapd import GROUPS, PEOPLE, ROOT, Slapd, slapd

__all__ = ["slapd"]

ODD = "Bob@Example.ORG"
CANNOT = {
    "expired": "a password of the directory has no end of its own",
    "replayed": "a password is sent with every sign-in",
    "ending": "the directory tells no end of an account",
    "off_by": "a password has no time in it",
}


def made(slapd: Slapd, **settings: Any) -> LdapAuthenticator:
    """Return an authenticator over the directory."""
    defaults = {
        "url": slapd.url,
        "bind_dn": ROOT,
        "bind_password_file": str(slapd.password_file),
        "user_base": PEOPLE,
        "group_base": GROUPS,
        "admin_groups": {"dask-admins"},
        "stamp_attribute": "description",
        "timeout_s": 2.0,
    }
    return LdapAuthenticator(**{**defaults, **settings})


class People:
    """People of the directory, by their names, with passwords and groups."""

    def __init__(self, slapd: Slapd) -> None:
        self.slapd = slapd
        self.passwords: dict[str, str] = {}
        self.groups: dict[str, set[str]] = {}
        self.admins: set[str] = set()
        self.serial = 0

    async def change(self, user: str, *, admin: bool, groups: Sequence[str]) -> None:
        """Add somebody, or change who is there."""
        (self.admins.add if admin else self.admins.discard)(user)
        await asyncio.to_thread(self._change, user, set(groups))

    def _change(self, user: str, groups: set[str]) -> None:
        if user not in self.passwords:
            self.passwords[user] = f"Secret-{secrets.token_hex(6)}"
            self.slapd.add(user, self.passwords[user])
        for group in sorted(groups | set(self.groups)):
            new = group not in self.groups
            members = self.groups.setdefault(group, set())
            if (group in groups) != (user in members) or new:
                (members.add if group in groups else members.discard)(user)
                (self.slapd.group if new else self.slapd.regroup)(group, sorted(members))

    async def remove(self, user: str) -> None:
        """Remove somebody."""
        await asyncio.to_thread(self.slapd.remove, f"uid={user},{PEOPLE}")
        del self.passwords[user]
        for members in self.groups.values():
            members.discard(user)

    async def renew(self, user: str) -> None:
        """Give somebody another password."""
        self.serial += 1
        self.passwords[user] = f"New-{secrets.token_hex(6)}"
        await asyncio.to_thread(
            self.slapd.renew, user, self.passwords[user], f"serial {self.serial}"
        )

    async def show(self, user: str) -> Credentials:
        """Return what somebody sends."""
        return basic(user, self.passwords[user])

    async def wrong(self, user: str) -> Credentials:
        """Return the same with a wrong password."""
        return basic(user, "not-the-password")

    def clear(self) -> None:
        """Remove everybody."""
        for user in list(self.passwords):
            self.slapd.remove(f"uid={user},{PEOPLE}")
        for group in self.groups:
            self.slapd.remove(f"cn={group},{GROUPS}")
        self.passwords.clear()
        self.groups.clear()


@pytest.fixture
def people(slapd: Slapd) -> Any:
    """The directory's people, of whom nothing is left."""
    found = People(slapd)
    yield found
    found.clear()


def lasting(held: Callable[[], AbstractContextManager[None]]) -> Any:
    """Return something done to the directory as an async context manager."""

    @asynccontextmanager
    async def during() -> AsyncIterator[None]:
        manager = held()
        await asyncio.to_thread(manager.__enter__)
        try:
            yield
        finally:
            await asyncio.to_thread(manager.__exit__, None, None, None)

    return during


class TestLdap(Conformance):
    """The suite, where users are looked for."""

    settings: ClassVar[dict[str, Any]] = {}
    lies: ClassVar[Mapping[str, Liar]] = lying_directory.LIES

    @pytest.fixture
    async def source(self, slapd: Slapd, people: People) -> AsyncIterator[Source]:
        wire = Wire(slapd.port)
        await wire.start()
        url = f"ldap://127.0.0.1:{wire.port}"

        async def again() -> LdapAuthenticator:
            return made(slapd, admins=people.admins, url=url, timeout_s=1.5, **self.settings)

        @asynccontextmanager
        async def lying(liar: Liar) -> AsyncIterator[None]:
            """Lie, to an authenticator with less patience."""
            usual = source.authenticator
            hasty = made(slapd, url=url, timeout_s=0.4, **self.settings)
            await hasty.open()
            try:
                async with wire.lying(liar):
                    source.authenticator = hasty
                    yield
            finally:
                source.authenticator = usual
                await hasty.close()

        async def change(user: str, *, admin: bool, groups: Sequence[str]) -> None:
            await people.change(user, admin=admin, groups=groups)
            assert isinstance(source.authenticator, LdapAuthenticator)
            source.authenticator.admins = set(people.admins)

        source = Source(
            await again(),
            again=again,
            add=change,
            show=people.show,
            wrong=people.wrong,
            change=change,
            remove=people.remove,
            renew=people.renew,
            odd=ODD,
            outage=wire.cut,
            hang=lasting(slapd.hung),
            slow=wire.slow,
            lies={what: partial(lying, one) for what, one in self.lies.items()},
            impostor=partial(wire.lying, lying_directory.IMPOSTOR),
            cannot=CANNOT,
            deadline_s=60.0,
        )
        try:
            await people.change(ODD, admin=False, groups=())
            await source.open()
            yield source
            await source.close()
        finally:
            await wire.stop()


class TestLdapByName(TestLdap):
    """The suite, where a user's name tells the entry."""

    lies: ClassVar[Mapping[str, Liar]] = {
        what: lying_directory.LIES[what] for what in ("no uid", "NUL in a group")
    }
    settings: ClassVar[dict[str, Any]] = {"user_base": "", "user_dn": f"uid={{user}},{PEOPLE}"}


@pytest.fixture
async def alice(people: People) -> None:
    """Somebody in a group."""
    await people.change("alice", admin=False, groups=("physics",))


async def told(authenticator: LdapAuthenticator, credentials: Credentials) -> Any:
    """Open an authenticator, ask it, and close it."""
    await authenticator.open()
    try:
        return await authenticator.authenticate(credentials)
    finally:
        await authenticator.close()


@pytest.mark.usefixtures("alice")
async def test_without_an_account_of_its_own_the_user_looks_at_the_own_groups(
    slapd: Slapd, people: People
) -> None:
    own = made(
        slapd, bind_dn="", bind_password_file="", user_base="", user_dn=f"uid={{user}},{PEOPLE}"
    )
    assert not own.askable
    found = await told(own, await people.show("alice"))
    assert (found.user, found.groups) == ("alice", ("physics",))


@pytest.mark.usefixtures("alice")
async def test_an_empty_password_never_reaches_the_directory(slapd: Slapd) -> None:
    class Never(LdapAuthenticator):
        """Asks nobody."""

        async def _in_thread(self, work: Any) -> Any:
            raise AssertionError("the directory is asked")

    own = made(slapd)
    never = Never(**{name: getattr(own, name) for name in own.trait_names(config=True)})
    for password in ("", "\0", "x" * 2000, "a\0b"):
        assert await told(never, basic("alice", password)) is None


@pytest.mark.usefixtures("alice")
async def test_tls_is_used_and_the_certificate_is_verified(
    slapd: Slapd, people: People, tmp_path: pathlib.Path
) -> None:
    right = await people.show("alice")
    ca = str(slapd.ca_file)
    for settings in ({"url": slapd.tls_url}, {"start_tls": True}):
        found = await told(made(slapd, ca_file=ca, **settings), right)
        assert found.user == "alice"
        with pytest.raises(AuthenticatorUnavailable):  # which is signed by nobody it knows
            await told(made(slapd, **settings), right)


@pytest.mark.usefixtures("alice")
async def test_of_several_directories_the_next_is_asked_where_one_is_away(
    slapd: Slapd, people: People
) -> None:
    from tests.ports import free_port

    both = f"ldap://127.0.0.1:{free_port()} {slapd.url}"
    assert (await told(made(slapd, url=both), await people.show("alice"))).user == "alice"


HOSTILE = (
    "*",
    "al*",
    "alice)(uid=*",
    "*)(|(objectClass=*",
    "alice,ou=people",
    "alice+cn=x",
    "\\61lice",
    "alice\\",
    "#616c696365",
    '"alice"',
    "{user}",
    "{dn}",
    "é",
    "a" * 255,
)


@pytest.mark.parametrize("by_name", [False, True], ids=["looked-for", "by-name"])
@pytest.mark.usefixtures("alice")
async def test_nothing_that_is_sent_is_part_of_a_filter_or_a_name(
    slapd: Slapd, people: People, by_name: bool
) -> None:
    settings: dict[str, Any] = (
        {"user_base": "", "user_dn": f"uid={{user}},{PEOPLE}"} if by_name else {}
    )
    own = made(slapd, **settings)
    await own.open()
    try:
        for name in HOSTILE:
            assert await own.authenticate(basic(name, people.passwords["alice"])) is None, name
            assert await own.identity(name) is None, name
    finally:
        await own.close()


async def test_a_name_with_every_sign_is_found_and_has_its_groups(
    slapd: Slapd, people: People
) -> None:
    name = "o(*)\\b'{user}"
    people.passwords[name] = "Secret-of-signs"
    await asyncio.to_thread(slapd.add, name, "Secret-of-signs")
    try:
        found = await told(made(slapd), basic(name, "Secret-of-signs"))
        assert found.user == name
    finally:
        del people.passwords[name]
        escaped = authenticators.escaped_in_dn(name)
        await asyncio.to_thread(slapd.remove, f"uid={escaped},{PEOPLE}")


@pytest.mark.usefixtures("alice")
async def test_who_writes_the_name_otherwise_is_told_how_it_is_written(
    slapd: Slapd, people: People
) -> None:
    with pytest.raises(NameRefused, match="'alice'"):
        await told(made(slapd), basic("Alice", people.passwords["alice"]))
    assert await told(made(slapd), basic("Alice", "not-the-password")) is None
    folding = made(slapd)
    folding.any_case = True
    assert (await told(folding, basic("ALICE", people.passwords["alice"]))).user == "alice"


async def test_members_of_a_group_are_admins(slapd: Slapd, people: People) -> None:
    await people.change("alice", admin=False, groups=("dask-admins",))
    found = await told(made(slapd), await people.show("alice"))
    assert (found.admin, found.groups) == (True, ("dask-admins",))


async def test_only_members_of_allowed_groups_are_let_in(slapd: Slapd, people: People) -> None:
    await people.change("alice", admin=False, groups=("physics",))
    await people.change("bob", admin=False, groups=())
    for user, admitted in (("alice", True), ("bob", False)):
        own = made(slapd, allowed_groups={"physics"})
        assert (await told(own, await people.show(user)) is not None) is admitted


async def test_an_own_account_that_is_refused_is_an_outage_and_no_verdict(
    slapd: Slapd, people: People, tmp_path: pathlib.Path
) -> None:
    await people.change("alice", admin=False, groups=())
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-password")
    wrong.chmod(0o600)
    with pytest.raises(AuthenticatorUnavailable, match="own account"):
        await told(made(slapd, bind_password_file=str(wrong)), await people.show("alice"))


def test_check_config_tells_what_is_wrong(slapd: Slapd, tmp_path: pathlib.Path) -> None:
    def problems(**settings: Any) -> str:
        return "\n".join(made(slapd, **settings).problems())

    assert problems() == ""
    assert "url: must be set" in problems(url="")
    assert "must look like ldaps://" in problems(url="ldap.example.org")
    assert "passwords in clear text" in problems(url="ldap://ldap.example.org")
    assert problems(url="ldap://ldap.example.org", start_tls=True) == ""
    assert problems(url="ldap://ldap.example.org", clear_text=True) == ""
    assert "has TLS already" in problems(url="ldaps://ldap.example.org", start_tls=True)
    assert "set one of the two" in problems(user_base="")
    assert "set one of the two" in problems(user_dn="uid={user},dc=x")
    assert "must hold {user} once" in problems(user_base="", user_dn="uid=alice,dc=x")
    assert "bind_dn: must be set" in problems(bind_dn="", bind_password_file="")
    assert "must be a filter" in problems(user_filter="uid={user}")
    assert "must hold {user}" in problems(user_filter="(uid=alice)")
    assert "must hold {dn} or {user}" in problems(group_filter="(member=x)")
    assert "group_base: must be set" in problems(group_base="")
    assert "bind_password_file: must be set" in problems(bind_password_file="")
    assert "No such file" in problems(bind_password_file=str(tmp_path / "none"))
    (tmp_path / "open").write_text("x")
    (tmp_path / "open").chmod(0o644)
    assert "others can read it" in problems(bind_password_file=str(tmp_path / "open"))
    assert "cannot be read" in problems(ca_file=str(tmp_path / "none"))


async def test_what_is_wrong_keeps_the_server_from_starting(slapd: Slapd) -> None:
    with pytest.raises(ConfigurationError, match=r"c\.LdapAuthenticator\.url"):
        await made(slapd, url="").open()
