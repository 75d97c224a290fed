"""Who people are now: asked anew, kept for a while, bridged while nobody answers."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Iterator

import pytest

from gateway.authenticators.contract import AuthenticatorUnavailable
from gateway.server.core.errors import (
    CredentialsInvalid,
    IdentityUnavailable,
)
from gateway.server.core.model import Principal, Scope
from gateway.server.security import identities, tokens
from gateway.server.security.identities import Identities
from tests.security.asked import ADMIN, Clock, a_token, doors_of
from tests.security.people import People, Unasked
from tests.waiting import comes


async def test_what_a_token_may_do_is_asked_of_the_authenticator_and_not_remembered_for_longer_than_a_minute() -> (  # noqa: E501
    None
):
    people, clock = People(ADMIN), Clock()
    doors, store = await doors_of(people, clock)
    text = await a_token(store)
    assert await doors.principal("bearer", text, "") == Principal(
        "alice",
        True,
        ("physics",),
        expires_at=10**12,
        token_id=tokens.parse(text)[1],  # type: ignore[index]
    )
    people.people["alice"] = Principal("alice", groups=("chemistry",))
    clock.s += 59
    assert (await doors.principal("bearer", text, "")).admin  # known for a minute at most
    await comes(lambda: len(people.asked) == 2)  # and asked for ahead of that
    found = await doors.principal("bearer", text, "")
    assert (found.admin, found.groups) == (False, ("chemistry",))
    clock.s += 60
    del people.people["alice"]
    with pytest.raises(CredentialsInvalid):
        await doors.principal("bearer", text, "")
    people.people["alice"] = ADMIN
    clock.s += 61
    assert (await doors.principal("bearer", text, "")).admin


@pytest.mark.parametrize("stamp", ["x" * 5000, "é" * 20, "\udcff", "a\nb"])
async def test_whatever_an_authenticator_stamps_a_sign_in_with_travels(stamp: str) -> None:
    people, clock = People(Principal("alice", stamp=stamp)), Clock()
    doors, _ = await doors_of(people, clock)
    opened = await doors.principal("basic", "alice", "")
    assert 0 < len(opened.stamp) <= 32
    assert opened.stamp.isascii()
    assert await doors.present(opened) is not None
    people.people["alice"] = Principal("alice", stamp=stamp + "x")
    clock.s += 21
    assert await doors.present(opened) is None


async def test_a_token_has_no_scope_that_its_user_has_not() -> None:
    people, clock = (
        People(Principal("alice", scopes=frozenset({Scope.CLUSTERS_READ, Scope.TOKENS}))),
        Clock(),
    )
    doors, store = await doors_of(people, clock)
    text = await a_token(store, scopes=frozenset({Scope.CLUSTERS_READ, Scope.CLUSTERS_WRITE}))
    assert (await doors.principal("bearer", text, "")).scopes == {Scope.CLUSTERS_READ}


async def test_a_user_whose_account_has_ended_is_nobody() -> None:
    clock = Clock()
    people = People(Principal("alice", expires_at=clock.ms() + 5000))
    doors, store = await doors_of(people, clock)
    text = await a_token(store)
    assert (await doors.principal("bearer", text, "")).expires_at == clock.ms() + 5000
    assert (await doors.principal("basic", "alice", "")).expires_at == clock.ms() + 5000
    clock.s += 5
    for scheme, value in (("bearer", text), ("basic", "alice")):
        with pytest.raises(CredentialsInvalid):
            await doors.principal(scheme, value, "")


async def test_while_the_authenticator_does_not_answer_what_was_known_holds_and_then_nobody_is_told_that_the_token_is_wrong() -> (  # noqa: E501
    None
):
    people, clock = People(ADMIN, identity_outage_s=600.0), Clock()
    doors, store = await doors_of(people, clock)
    text, never_seen = await a_token(store), await a_token(store, "bob")
    assert (await doors.principal("bearer", text, "")).admin
    people.away = True
    clock.s += 300
    assert (await doors.principal("bearer", text, "")).admin
    with pytest.raises(IdentityUnavailable):
        await doors.principal("bearer", never_seen, "")
    asked = len(people.asked)
    for _ in range(100):  # nor is it asked with every call
        assert (await doors.principal("bearer", text, "")).admin
    assert len(people.asked) == asked
    clock.s += 300
    with pytest.raises(IdentityUnavailable):
        await doors.principal("bearer", text, "")
    people.away = False
    clock.s += identities.ASK_AGAIN_S
    assert (await doors.principal("bearer", text, "")).admin


@pytest.mark.parametrize(
    "fault", [RuntimeError("a fault of a plugin"), TimeoutError(), OSError("no route")]
)
async def test_a_fault_of_the_authenticator_is_an_outage_and_no_verdict(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(People):
        async def identity(self, user: str) -> Principal | None:
            raise fault

    doors, store = await doors_of(Faulty(ADMIN), Clock())
    with pytest.raises(IdentityUnavailable):
        await doors.principal("bearer", await a_token(store), "")
    assert "the authenticator" in caplog.text


async def test_an_authenticator_that_hangs_holds_up_nobody_who_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(identities, "ASK_S", 0.05)
    people, clock = People(ADMIN), Clock()
    doors, store = await doors_of(people, clock)
    text = await a_token(store)
    await doors.principal("bearer", text, "")
    people.answering.clear()
    clock.s += 30
    assert (await doors.principal("bearer", text, "")).admin
    assert await asyncio.gather(*(doors.principal("bearer", text, "") for _ in range(10)))
    await comes(lambda: not doors.identities._asking)
    assert people.asked == ["alice", "alice"]  # once for all who wanted to know
    clock.s += 300
    # after a wait of ASK_S: longer than a minute nothing is believed unasked
    assert (await doors.principal("bearer", text, "")).admin


async def test_who_is_asked_about_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "KEPT", 10)
    people = People()
    known = Identities(people, lambda: 0)
    for number in range(50):
        assert await known.of(f"user{number}") is None
    people.away = True
    for number in range(50):
        with pytest.raises(AuthenticatorUnavailable):
            await known.of(f"other{number}")
    assert len(known._known) == 10
    assert known._asking == {}


async def test_of_a_user_who_cannot_be_asked_about_a_token_is_an_ordinary_users_and_lives_no_longer_than_the_sign_in_holds() -> (  # noqa: E501
    None
):
    clock = Clock()
    doors, store = await doors_of(Unasked(ADMIN, sign_in_holds_s=3600.0), clock)
    signed_in = await doors.principal("basic", "alice", "")
    assert (signed_in.admin, signed_in.groups, signed_in.expires_at) == (
        True,
        ("physics",),
        clock.ms() + 3_600_000,
    )
    found = await doors.principal("bearer", await a_token(store), "")
    assert (found.admin, found.groups) == (False, ())
    assert await doors.present(signed_in) == signed_in  # what it opened goes on
    clock.s += 3600
    assert await doors.present(signed_in) is None


async def test_an_authenticator_cannot_pass_a_sign_in_off_as_a_token() -> None:
    doors, _ = await doors_of(People(dataclasses.replace(ADMIN, token_id="x")), Clock())
    assert (await doors.principal("basic", "alice", "")).token_id == ""


async def test_an_authenticator_cannot_pass_one_user_off_as_another() -> None:
    class Confused(People):
        async def identity(self, user: str) -> Principal | None:
            return Principal("root", admin=True, token_id="x")

    doors, store = await doors_of(Confused(), Clock())
    assert (await doors.principal("bearer", await a_token(store), "")).user == "alice"
    assert await doors.person("bob") == Principal("bob", admin=True)


@pytest.fixture(autouse=True)
def files_are_ones_own() -> Iterator[None]:
    """Whoever runs the tests may let others read what they write; a users' file may not be so."""
    before = os.umask(0o077)
    yield
    os.umask(before)
