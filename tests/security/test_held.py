"""What is open in people's names ends with their rights; who is in the users' file."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator

import pytest

from gateway.authenticators import users_file
from gateway.authenticators.contract import AuthenticatorUnavailable, Credentials
from gateway.authenticators.password import PasswordAuthenticator, hash_password
from gateway.server.core.errors import (
    CredentialsInvalid,
    IdentityUnavailable,
    RightsChanged,
    ServiceError,
)
from gateway.server.core.model import Principal, Scope
from gateway.server.security import tokens
from gateway.server.security.doors import Doors
from gateway.server.store.memory import MemoryStore
from gateway.wire import basic_credentials
from tests.security.asked import ADMIN, Clock, a_token, doors_of
from tests.security.people import People
from tests.waiting import comes


class Held:
    """Something that is open."""

    def __init__(self, doors: Doors, principal: Principal) -> None:
        self.why: list[ServiceError] = []
        self.let_go = doors.hold(principal, self.why.append)


async def test_what_is_open_ends_with_its_token_or_its_user_or_its_right_and_nothing_else_does() -> (  # noqa: E501
    None
):
    people, clock = People(ADMIN, Principal("bob"), Principal("carol")), Clock()
    doors, store = await doors_of(people, clock)
    texts = {user: await a_token(store, user) for user in ("alice", "bob", "carol")}
    held = {
        user: Held(doors, await doors.principal("bearer", text, "")) for user, text in texts.items()
    }
    held["alice by password"] = Held(doors, await doors.principal("basic", "alice", ""))
    held["closed"] = Held(doors, await doors.principal("bearer", texts["bob"], ""))
    held["closed"].let_go()
    await doors.holds.check()
    assert [one.why for one in held.values()] == [[]] * 5
    doors.forget_token(tokens.parse(texts["bob"])[1])  # type: ignore[index]
    people.people = {"alice": Principal("alice")}
    clock.s += 21
    await doors.holds.check()
    kinds = {name: [type(why) for why in one.why] for name, one in held.items()}
    assert kinds == {
        "alice": [RightsChanged],
        # at once, and as long as it does not let go
        "bob": [CredentialsInvalid, CredentialsInvalid],
        "carol": [CredentialsInvalid],
        "alice by password": [RightsChanged],
        "closed": [],
    }
    for one in held.values():
        one.let_go()
    assert len(doors.holds) == 0


async def test_what_is_open_ends_when_its_token_was_revoked_elsewhere_or_expires() -> None:
    people, clock = People(ADMIN), Clock()
    doors, store = await doors_of(people, clock)
    revoked, brief = await a_token(store), await a_token(store, expires_at=clock.ms() + 50)
    ended = Held(doors, await doors.principal("bearer", revoked, ""))
    expired = Held(doors, await doors.principal("bearer", brief, ""))
    await comes(lambda: expired.why)
    await store.transact(lambda tx: tx.delete_token(tokens.parse(revoked)[1]))  # type: ignore[index]
    doors._api_tokens.forget(tokens.parse(revoked)[1])  # type: ignore[index]  # as it is after five seconds
    await doors.holds.check()
    assert [type(why) for why in ended.why + expired.why[:1]] == [
        CredentialsInvalid,
        CredentialsInvalid,
    ]


async def test_what_was_let_go_is_not_ended_when_its_token_expires() -> None:
    doors, store = await doors_of(People(ADMIN), Clock())
    held = Held(
        doors, await doors.principal("bearer", await a_token(store, expires_at=1_000_030), "")
    )
    held.let_go()
    await asyncio.sleep(0.1)
    assert held.why == []


async def test_what_is_open_ends_with_a_scope_that_its_user_has_no_more() -> None:
    people, clock = People(ADMIN), Clock()
    doors, store = await doors_of(people, clock)
    held = [
        Held(doors, await doors.principal(*who, ""))
        for who in (("bearer", await a_token(store)), ("basic", "alice"))
    ]
    people.people["alice"] = dataclasses.replace(ADMIN, scopes=frozenset({Scope.TOKENS}))
    clock.s += 21
    await doors.holds.check()
    assert [[type(why) for why in one.why] for one in held] == [[RightsChanged], [RightsChanged]]


async def test_what_is_open_goes_on_through_an_outage_as_long_as_calls_do() -> None:
    people, clock = People(ADMIN, identity_outage_s=600.0), Clock()
    doors, store = await doors_of(people, clock)
    held = Held(doors, await doors.principal("bearer", await a_token(store), ""))
    people.away = True
    clock.s += 500
    await doors.holds.check()
    assert held.why == []
    clock.s += 200
    await doors.holds.check()
    assert [type(why) for why in held.why] == [IdentityUnavailable]


async def test_what_a_password_opened_ends_when_it_is_changed() -> None:
    authenticator, clock = (
        PasswordAuthenticator(users={"alice": hash_password("one")}, admins={"alice"}),
        Clock(),
    )
    await authenticator.open()
    doors, _ = await doors_of(authenticator, clock)
    value = basic_credentials("alice", "one").removeprefix("Basic ")
    held = Held(doors, await doors.principal("basic", value, ""))
    clock.s += 21
    await doors.holds.check()
    assert held.why == []
    authenticator.users = {"alice": hash_password("one")}
    clock.s += 21
    await doors.holds.check()
    assert [type(why) for why in held.why] == [CredentialsInvalid]
    await authenticator.close()


@pytest.mark.parametrize("gone", [True, False])
async def test_who_is_in_the_users_file_is_somebody(
    tmp_path_factory: pytest.TempPathFactory, gone: bool
) -> None:
    path = tmp_path_factory.mktemp("users") / "users"
    path.write_text(f"alice:{hash_password('one')}\nbob:{hash_password('two')}\n")
    authenticator = PasswordAuthenticator(users_file=str(path), groups={"bob": ["physics"]})
    await authenticator.open()
    assert await authenticator.identity("carol") is None
    found = await authenticator.identity("bob")
    assert found is not None
    assert found.groups == ("physics",)
    if gone:
        path.write_text(f"alice:{hash_password('one')}\n")
    assert (await authenticator.identity("bob") is None) is gone
    await authenticator.close()


def revoking(store: MemoryStore, doors: Doors, token_id: str) -> Callable[..., object]:
    """Return a read that finds a token which is revoked before it is told."""
    plain = store.read

    async def read(fn: Callable[..., object]) -> object:
        found = await plain(fn)
        await store.transact(lambda tx: tx.delete_token(token_id))
        doors.forget_token(token_id)
        return found

    return read


async def test_a_token_revoked_while_it_is_read_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doors, store = await doors_of(People(ADMIN), Clock())
    text = await a_token(store)
    with monkeypatch.context() as patched:
        patched.setattr(store, "read", revoking(store, doors, tokens.parse(text)[1]))  # type: ignore[index]
        await doors.principal("bearer", text, "")
    with pytest.raises(CredentialsInvalid):
        await doors.principal("bearer", text, "")


@pytest.fixture(autouse=True)
def files_are_ones_own() -> Iterator[None]:
    """Whoever runs the tests may let others read what they write; a users' file may not be so."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def write_users(path: pathlib.Path) -> None:
    """Write a file of alice and bob."""
    path.write_text("".join(f"{user}:{HASH}\n" for user in ("alice", "bob")))


async def users_of(path: pathlib.Path, **settings: object) -> PasswordAuthenticator:
    """Return an authenticator with alice and bob in a file."""
    write_users(path)
    made = PasswordAuthenticator(users_file=str(path), **settings)
    await made.open()
    return made


HASH = hash_password("one")


@pytest.mark.parametrize("fault", ["gone", "a line that is none", "no text", "a directory"])
async def test_a_users_file_that_cannot_be_read_is_told_once_and_bridged_for_so_long(
    tmp_path: pathlib.Path,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path, clock = tmp_path / "users", Clock()
    authenticator = await users_of(path, identity_outage_s=600.0, users={"carol": HASH})
    monkeypatch.setattr(users_file, "monotonic", clock)
    path.unlink()
    if fault == "a directory":
        path.mkdir()
    elif fault != "gone":
        path.write_bytes({"a line that is none": b"alice\n", "no text": b"\xff\xfe"}[fault])
    for _ in range(20):
        assert await authenticator.identity("alice") is not None
        assert await authenticator.identity("dave") is None
    assert caplog.text.count("users_file: ") == 1
    clock.s += 601
    with pytest.raises(AuthenticatorUnavailable):  # whether there still is an alice nobody knows
        await authenticator.identity("alice")
    value = basic_credentials("alice", "one").removeprefix("Basic ")
    with pytest.raises(AuthenticatorUnavailable):
        await authenticator.authenticate(Credentials("basic", value, ""))
    assert await authenticator.identity("carol") is not None  # who does not stand in the file
    path.rmdir() if fault == "a directory" else path.unlink(missing_ok=True)
    path.write_text(f"alice:{HASH}\n")
    assert await authenticator.identity("alice") is not None
    assert await authenticator.identity("bob") is None
    assert "is read again" in caplog.text
    await authenticator.close()


async def test_a_users_file_that_is_just_being_written_removes_nobody(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "users"
    authenticator = await users_of(path)
    path.write_text("")  # as an editor leaves it for a moment
    assert await authenticator.identity("alice") is not None
    os.utime(path, (0, 0))  # since long ago
    assert await authenticator.identity("alice") is None
    path.write_text(f"alice:{HASH}\n")
    assert await authenticator.identity("alice") is not None
    path.write_text("# nobody\n")
    assert await authenticator.identity("alice") is None
    await authenticator.close()


async def test_a_users_file_whose_time_was_set_back_is_read_all_the_same(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "users"
    authenticator = await users_of(path)
    before = path.stat()
    with path.open("r+") as file:
        file.write(f"carol:{HASH[:-1]}")  # in place
        file.truncate()
        file.write("=\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert await authenticator.identity("alice") is None
    assert await authenticator.identity("carol") is not None
    await authenticator.close()
