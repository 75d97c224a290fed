"""A directory (a real slapd) that says that users or groups are at another one: that is no verdict
on anybody, and the log says what to change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.authenticators.conformance.source import basic
from gateway.authenticators.contract import AuthenticatorUnavailable
from gateway.server.core.user_names import Same
from gateway.server.security.sources import Part, Sources
from tests.authenticators.test_ldap import People, alice, made, people, told
from tests.parts.slapd import GROUPS, PEOPLE, SUFFIX, Slapd, slapd

__all__ = ["alice", "people", "slapd"]
THERE = "ldap://ldap.other.example.org"
AWAY = f"ou=away,{SUFFIX}"
BY_NAME = {"user_base": "", "user_dn": f"uid={{user}},{AWAY}"}
pytestmark = pytest.mark.usefixtures("alice")


@contextlib.contextmanager
def referring(slapd: Slapd, where: str, to: str) -> Iterator[None]:
    """Have the directory say that an entry and what is below it are at another one."""
    name = where.partition(",")[0].partition("=")[2]
    slapd.change(
        f"dn: {where}\nchangetype: add\nobjectClass: referral\nobjectClass: extensibleObject\n"
        f"ou: {name}\nref: {to}\n"
    )
    try:
        yield
    finally:
        slapd.remove(where, referral=True)


@pytest.mark.parametrize(
    "settings",
    [{"user_base": AWAY}, {"user_base": f"ou=people,{AWAY}"}, BY_NAME, {"user_base": "dc=other"}],
    ids=["the base", "above the base", "by name", "another tree"],
)
async def test_users_who_are_elsewhere_are_an_outage_and_no_wrong_password(
    slapd: Slapd, people: People, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    one = Sources([Part("ldap", made(slapd, **settings), Same())])
    with referring(slapd, AWAY, f"{THERE}/{AWAY}"):
        await one.open()
        try:
            for credentials in (await people.show("alice"), basic("nobody", "any word")):
                with pytest.raises(AuthenticatorUnavailable, match="shows no entry") as caught:
                    await one.authenticate(credentials)
                assert caught.value.provider == "ldap"
            with pytest.raises(AuthenticatorUnavailable):  # and no end of what is open
                await one.identity("alice")
        finally:
            await one.close()
    where = "user_dn" if "user_dn" in settings else "user_base"
    assert f"where {where} says that users are: it is elsewhere (a referral)" in caplog.text


async def test_where_a_part_of_the_users_is_elsewhere_the_others_sign_in(
    slapd: Slapd, people: People
) -> None:
    one = made(slapd)
    with referring(slapd, f"ou=branch,{PEOPLE}", f"{THERE}/ou=branch,{PEOPLE}"):
        await one.open()
        try:
            found = await one.authenticate(await people.show("alice"))
            assert found is not None
            assert await one.authenticate(await people.wrong("alice")) is None
            assert await one.identity("alice") is not None
            for call in (one.authenticate(basic("carol", "any word")), one.identity("carol")):
                with pytest.raises(AuthenticatorUnavailable) as caught:
                    await call
                assert f"is at {THERE}:389/ou=branch,{PEOPLE} (a referral)" in str(caught.value)
        finally:
            await one.close()


async def test_active_directorys_own_parts_hold_nobody(slapd: Slapd, people: People) -> None:
    """It refers to them whatever is looked for from its top."""
    one = made(slapd, user_base=SUFFIX)
    parts = ("DC=DomainDnsZones", "DC=ForestDnsZones", "CN=Configuration")
    with contextlib.ExitStack() as stack:
        for number, part in enumerate(parts):
            stack.enter_context(
                referring(slapd, f"ou=part{number},{SUFFIX}", f"{THERE}/{part},{SUFFIX}")
            )
        await one.open()
        try:
            found = await one.authenticate(await people.show("alice"))
            assert found is not None
            assert await one.authenticate(basic("carol", "any word")) is None
            assert await one.identity("carol") is None
        finally:
            await one.close()


@pytest.mark.parametrize(
    ("group_base", "words"),
    [
        (SUFFIX, f"a part of it is at {THERE}:389/{AWAY} (a referral)"),
        (AWAY, f"shows no entry '{AWAY}'"),
        (f"ou=misspelt,{SUFFIX}", "is written otherwise, or may not be read, and nobody has"),
    ],
)
async def test_groups_that_are_elsewhere_count_for_nothing_and_the_log_says_so_once(
    slapd: Slapd,
    people: People,
    caplog: pytest.LogCaptureFixture,
    group_base: str,
    words: str,
) -> None:
    one = made(slapd, group_base=group_base)
    with referring(slapd, AWAY, f"{THERE}/{AWAY}"), caplog.at_level(logging.ERROR):
        await one.open()
        try:
            for _ in range(3):
                found = await one.authenticate(await people.show("alice"))
                assert found is not None
                assert found.groups == (("physics",) if group_base == SUFFIX else ())
        finally:
            await one.close()
    assert caplog.text.count(words) == 1, caplog.text


async def test_whoever_is_in_no_group_is_that_in_silence(
    slapd: Slapd, people: People, caplog: pytest.LogCaptureFixture
) -> None:
    await people.change("bob", admin=False, groups=())
    found = await told(made(slapd, group_base=GROUPS), await people.show("bob"))
    assert (found.user, found.groups) == ("bob", ())
    assert await told(made(slapd), basic("nobody", "any word")) is None
    assert "group_base" not in caplog.text


async def test_a_right_password_without_an_entry_to_be_seen_is_no_wrong_password(
    slapd: Slapd, people: People
) -> None:
    """As where users may not read their own entries, and nobody else looks."""
    await asyncio.to_thread(slapd.add, "blind", "Secret-of-blind")
    people.passwords["blind"] = "Secret-of-blind"
    own = {"bind_dn": "", "bind_password_file": "", "group_base": "", "admin_groups": set[str]()}
    one = made(slapd, user_base="", user_dn=f"uid={{user}},{PEOPLE}", **own)
    with pytest.raises(AuthenticatorUnavailable, match="shows no entry of the user"):
        await told(one, basic("blind", "Secret-of-blind"))
    assert await told(one, basic("blind", "not-the-password")) is None
