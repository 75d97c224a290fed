"""Failed sign-ins are limited at every door, by address and by what they name, with the time of the
next try; and nobody is kept out by what others do, elsewhere or beside."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.fernet import Fernet

from gateway.authenticators.browser import Begun, BrowserSignIn, LoginFailed, code_in, code_request
from gateway.authenticators.contract import Authenticator, Credentials, SignInRefused
from gateway.server.core.errors import CredentialsInvalid, SignInsSlowed
from gateway.server.core.login_pages import LoginRefused
from gateway.server.core.model import Principal, Scope, Token
from gateway.server.core.sign_ins import ADDRESS, PAIR
from gateway.server.core.user_names import rule_of
from gateway.server.security import sign_in, tokens
from gateway.server.security.browsers import BrowserLogins
from gateway.server.security.doors import Doors
from gateway.server.security.secrets import Keyring
from gateway.server.security.sources import Part, Sources
from gateway.server.store.memory import MemoryStore
from gateway.wire import basic_credentials
from tests.waiting import comes

HERE, THERE = "192.0.2.1", "198.51.100.9"
BACK = "https://dask.example.org/login/site/callback"
NOW = 1_800_000_000_000


class Site(Authenticator):
    """Takes `right` for a password, a bearer token, a ticket and a code, in each way of saying
    no."""

    schemes = ("basic", "bearer", "negotiate")
    at_once = False
    signs_in_browsers = True

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Return who this is."""
        if credentials.value.startswith("right") or credentials.value == basic("right"):
            return Principal("alice")
        if credentials.scheme == "negotiate":
            raise SignInRefused("the ticket has expired")
        return None

    async def identity(self, user: str) -> Principal | None:
        """Return who a user is."""
        return Principal(user)

    async def begin_login(self, redirect_uri: str, state: str) -> Begun:
        """Return where a browser goes."""
        return code_request("https://login.example.org/auth", "gateway", redirect_uri, state)

    async def finish_login(
        self, redirect_uri: str, kept: Mapping[str, str], answer: Mapping[str, str]
    ) -> BrowserSignIn:
        """Return who has come back."""
        if code_in(answer) != "right":
            raise LoginFailed("It is no code.")
        return BrowserSignIn(Principal("alice"))

    async def still(self, proof: str) -> Principal | None:
        """Return whose a sign-in is."""
        return Principal("alice")


def basic(password: str, user: str = "alice") -> str:
    """Return a password as it is sent."""
    return basic_credentials(user, password).partition(" ")[2]


class House:
    """The doors of a site."""

    def __init__(self) -> None:
        self.now, self.slept, self.store = 1000.0, list[float](), MemoryStore()
        self.sources = Sources([Part("site", Site(), rule_of(""))])
        self.doors = Doors(self.sources, self.store, None, b"", lambda: NOW)  # type: ignore[arg-type]
        self.doors.desk = sign_in.SignInDesk(self.sources, lambda: self.now, self._sleep)
        keyring = Keyring([Fernet.generate_key().decode()])
        self.logins = BrowserLogins(self.sources, keyring, lambda: NOW)
        self.logins.by(self.doors.desk, lambda found: found)
        self.begun: dict[str, tuple[str, str]] = {}
        self.minted: dict[tuple[str, str], str] = {}

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def shows(self, scheme: str, value: str, address: str) -> str:
        """Show credentials; return whose they are."""
        return (await self.doors.principal(scheme, value, address)).user

    async def token(self, kind: str, secret: str, address: str) -> str:
        """Show a token of the gateway's own: one for each secret."""
        if not self.minted:
            await self.store.open()
        if (kind, secret) not in self.minted:
            minted = tokens.mint(kind)
            self.minted[kind, secret] = minted.text
            if secret == "right":
                kept = Token(
                    minted.id,
                    "alice",
                    minted.secret_hash,
                    scopes=frozenset(Scope),
                    expires_at=NOW + 10**6,
                )
                await self.store.transact(lambda tx: tx.put_token(kept))
        return await self.shows("bearer", self.minted[kind, secret], address)

    async def comes_back(self, code: str, address: str) -> str:
        """Come back from a login page: each code is of a login of its own."""
        if code not in self.begun:
            begun = await self.logins.begin("site", BACK, "")
            self.begun[code] = (parse_qs(urlsplit(begun.url).query)["state"][0], begun.sealed)
        state, sealed = self.begun[code]
        answer = {"state": state, "code": code}
        return (await self.logins.finish("site", sealed, answer, address)).principal.user


@dataclass(frozen=True)
class Door:
    """How a secret is shown at a door: house, secret, address."""

    name: str
    show: Callable[[House, str, str], Awaitable[str]]


DOORS = [
    Door("password", lambda house, secret, at: house.shows("basic", basic(secret), at)),
    Door("bearer", lambda house, secret, at: house.shows("bearer", secret, at)),
    Door("ticket", lambda house, secret, at: house.shows("negotiate", secret, at)),
    Door("API token", lambda house, secret, at: house.token("api", secret, at)),
    Door("session", lambda house, secret, at: house.token("session", secret, at)),
    Door("browser", lambda house, secret, at: house.comes_back(secret, at)),
]
each_door = pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)


async def tried(door: Door, house: House, secret: str, address: str = HERE) -> Any:
    """Return who is let in, or the refusal."""
    try:
        return await door.show(house, secret, address)
    except (CredentialsInvalid, LoginRefused, SignInsSlowed) as error:
        return error


@each_door
async def test_who_fails_again_and_again_is_told_when_to_come_back(door: Door) -> None:
    house = House()
    for _ in range(PAIR.free + 1):
        assert isinstance(await tried(door, house, "wrong"), CredentialsInvalid | LoginRefused)
    told = await tried(door, house, "wrong")
    assert isinstance(told, SignInsSlowed)
    assert told.retry_after_s == pytest.approx(PAIR.first_s * 2)
    house.now += PAIR.first_s * 2 + 0.1
    assert isinstance(await tried(door, house, "wrong"), CredentialsInvalid | LoginRefused)
    assert isinstance(await tried(door, house, "wrong"), SignInsSlowed)


@each_door
async def test_many_guesses_of_one_address_are_answered_late_and_what_is_right_is_not(
    door: Door,
) -> None:
    house = House()
    for number in range(ADDRESS.free + 8):
        # a name's own limit is another test's
        await tried(DOORS[1] if door.name == "password" else door, house, f"wrong {number}")
    assert len(house.slept) == 8
    assert max(house.slept) == ADDRESS.most_s
    house.slept.clear()
    assert await tried(door, house, "right") == "alice"
    assert house.slept == []
    await tried(door, house, "wrong", THERE)
    assert house.slept == []


@each_door
async def test_where_too_many_refusals_are_on_their_way_one_is_told_when_to_come_back(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, awake = House(), asyncio.Event()
    monkeypatch.setattr(sign_in, "LATE", 2)

    async def asleep(_: float) -> None:
        await awake.wait()

    monkeypatch.setattr(house.doors.desk, "_sleep", asleep)
    for number in range(ADDRESS.free + 1):
        house.doors.desk._signs.failed(HERE, f"x{number}", house.now)
    late = [asyncio.ensure_future(tried(door, house, f"wrong {number}")) for number in range(2)]
    try:
        await comes(lambda: house.doors.desk._late[HERE] == 2)
        assert isinstance(await tried(door, house, "another"), SignInsSlowed)
        assert not isinstance(await tried(door, house, "another", THERE), SignInsSlowed)
    finally:
        awake.set()
        await asyncio.gather(*late)


@each_door
async def test_nobody_is_kept_out_by_what_others_do_elsewhere(door: Door) -> None:
    house = House()
    for number in range(60):
        await tried(door, house, "wrong", f"10.0.0.{number}")
        await tried(door, house, "no", THERE)
    assert await tried(door, house, "right") == "alice"


@pytest.mark.parametrize("door", DOORS[1:], ids=lambda door: door.name)
async def test_a_neighbour_who_shows_what_names_nobody_keeps_nobody_out(door: Door) -> None:
    """Such as a program that goes on with a token that was revoked, on the machine of a Hub."""
    house = House()
    for _ in range(60):
        await tried(door, house, "wrong")
    assert isinstance(await tried(door, house, "wrong"), SignInsSlowed)
    assert await tried(door, house, "right") == "alice"
