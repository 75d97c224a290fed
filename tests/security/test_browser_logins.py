"""Logins of browsers without a browser: what was sealed for one is good for no other way, no other
installation and no later hour; guesses are slowed; a session is over when its source says so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.fernet import Fernet

from gateway.authenticators.browser import Begun, BrowserSignIn, LoginFailed, code_in, code_request
from gateway.authenticators.contract import Authenticator, AuthenticatorUnavailable
from gateway.proxy.http.access import SessionGrant
from gateway.proxy.http.standing import CHECK_S, Standing
from gateway.server.core.errors import IdentityUnavailable, SignInsSlowed
from gateway.server.core.login_pages import LoginRefused, safe_place
from gateway.server.core.model import Principal, Session, Token
from gateway.server.core.user_names import rule_of
from gateway.server.security.browsers import PATIENCE_MS, BrowserLogins
from gateway.server.security.proofs import ASK_S, KEPT_S, Proofs
from gateway.server.security.secrets import Keyring
from gateway.server.security.sign_in import SignInDesk
from gateway.server.security.sources import Part, Sources

BACK = "https://dask.example.org/login/one/callback"
UID = "c" + "a" * 20


class Pages(Authenticator):
    """Signs in whoever brings the code `code of USER`."""

    schemes = ("bearer",)
    at_once = False
    signs_in_browsers = True
    away = False

    async def begin_login(self, redirect_uri: str, state: str) -> Begun:
        """Return where a browser goes."""
        if self.away:
            raise AuthenticatorUnavailable("it is away")
        return code_request("https://login.example.org/auth", "gateway", redirect_uri, state)

    async def finish_login(
        self, redirect_uri: str, kept: Mapping[str, str], answer: Mapping[str, str]
    ) -> BrowserSignIn:
        """Return who has come back."""
        assert redirect_uri == BACK
        assert len(kept["verifier"]) >= 43  # RFC 7636, 4.1
        if self.away:
            raise AuthenticatorUnavailable("it is away")
        code = code_in(answer)
        if not code.startswith("code of "):
            raise LoginFailed("It is no code.")
        return BrowserSignIn(Principal(code.removeprefix("code of ")), f"proof of {code}")

    async def still(self, proof: str) -> Principal | None:
        """Return who a sign-in belongs to."""
        return Principal(proof.removeprefix("proof of code of "))


class House:
    """An installation with two ways."""

    def __init__(self, *keys: str) -> None:
        self.now = 1_000_000
        self.one, self.two = Pages(), Pages()
        sources = Sources(
            [Part("one", self.one, rule_of("")), Part("two", self.two, rule_of("{user}@two"))],
            same_people=True,
        )
        self.keyring = Keyring(list(keys) or [Fernet.generate_key().decode()])
        self.logins = BrowserLogins(sources, self.keyring, lambda: self.now)
        self.logins.by(SignInDesk(sources, sleep=_at_once), lambda found: found)

    async def begun(self, goes_to: str = "") -> tuple[str, str]:
        """Begin a login; return its state and what is sealed."""
        begun = await self.logins.begin("one", BACK, goes_to)
        return parse_qs(urlsplit(begun.url).query)["state"][0], begun.sealed

    async def finish(self, sealed: str, way: str = "one", **answer: str) -> Any:
        """Come back."""
        return await self.logins.finish(way, sealed, answer, "192.0.2.1")


async def _at_once(_: float) -> None:
    """Wait for nothing."""


async def test_a_login_ends_in_who_has_come_back_and_a_sealed_proof() -> None:
    house = House()
    state, sealed = await house.begun("/clusters/x")
    assert "verifier" not in sealed
    found = await house.finish(sealed, code="code of alice", state=state)
    assert (found.principal.user, found.principal.way) == ("alice", "one")
    assert found.goes_to == "/clusters/x"
    assert "proof" not in found.proof
    still = await house.logins.still("one", found.proof)
    assert still is not None
    assert still.user == "alice"
    assert await house.logins.still("nothing", found.proof) is None
    assert await house.logins.still("one", "no proof") is None
    assert [page.way for page in house.logins.pages()] == ["one", "two"]


async def test_what_is_sealed_is_for_one_login_one_way_one_house_and_ten_minutes() -> None:
    house, stranger = House(), House()
    state, sealed = await house.begun()
    other_state, _ = await house.begun()
    right = {"code": "code of alice"}
    for given in (
        {"state": other_state},
        {"state": ""},
        {},
        {"state": state + "x"},
        {"state": "é\udcff"},
    ):
        with pytest.raises(LoginRefused, match="not begun in this browser"):
            await house.finish(sealed, **right, **given)
    for way, text in (("two", sealed), ("nothing", sealed), ("one", ""), ("one", "x" * 5000)):
        with pytest.raises(LoginRefused, match="not begun in this browser"):
            await house.finish(text, way, **right, state=state)
    with pytest.raises(LoginRefused):
        await stranger.finish(sealed, **right, state=state)
    house.now += PATIENCE_MS
    with pytest.raises(LoginRefused, match="too long ago"):
        await house.finish(sealed, **right, state=state)
    house.now -= 1
    assert (await house.finish(sealed, **right, state=state)).principal.user == "alice"


async def test_another_server_of_the_installation_finishes_what_one_has_begun() -> None:
    key = Fernet.generate_key().decode()
    one, other = House(key), House(key)
    state, sealed = await one.begun()
    assert (await other.finish(sealed, code="code of alice", state=state)).principal.user == "alice"


async def test_names_that_can_be_no_users_are_told_and_guesses_are_slowed() -> None:
    house = House()
    state, sealed = await house.begun()
    with pytest.raises(LoginRefused, match="cannot be used here"):
        await house.finish(sealed, code="code of Not A Name", state=state)
    with pytest.raises(LoginRefused, match="refused there"):
        await house.finish(sealed, error="access_denied", state=state)
    with pytest.raises(LoginRefused, match="no code"):
        await house.finish(sealed, code="guess", state=state)
    slowed = False
    for _ in range(100):
        try:
            await house.finish(sealed, code="guess", state=state)
        except LoginRefused:
            continue
        except SignInsSlowed:
            slowed = True
            break
    assert slowed


async def test_a_source_that_is_away_is_no_refusal_and_keeps_no_other_away() -> None:
    house = House()
    state, sealed = await house.begun()
    house.one.away = True
    with pytest.raises(IdentityUnavailable) as told:
        await house.finish(sealed, code="code of alice", state=state)
    assert told.value.metadata["provider"] == "one"
    with pytest.raises(IdentityUnavailable):
        await house.begun()
    await house.logins.begin("two", BACK, "")
    house.one.away = False
    assert (await house.finish(sealed, code="code of alice", state=state)).principal.user == "alice"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (f"/clusters/{UID}", True),
        (f"/clusters/{UID}/", True),
        (f"/clusters/{UID}/status", True),
        (f"/clusters/{UID}/info/main/workers.html", True),
        ("", False),
        ("/", False),
        ("//evil.example.org", False),
        (f"https://evil.example.org/clusters/{UID}", False),
        (f"/clusters/{UID}//evil.example.org", False),
        (f"/clusters/{UID}/../../login", False),
        (f"/clusters/{UID}/.hidden", False),
        (f"/clusters/{UID}/status?ticket=x", False),
        (f"/clusters/{UID}/%2e%2e/x", False),
        (f"/clusters/{UID}/a\r\nb", False),
        (f"/clusters/{UID}/status\n", False),
        (f"/clusters/{UID}/" + "a" * 600, False),
    ],
)
def test_a_login_leads_to_dashboards_alone(text: str, right: bool) -> None:
    assert safe_place(text) == (text if right else "")


def token(proof: str = "sealed", user: str = "alice") -> Token:
    """Return a session's token."""
    session = Session("one", 2**50, proof=proof)
    return Token("id", user, b"", expires_at=2**50, session=session)


class Source:
    """Says whose a sign-in is, and counts how often it is asked."""

    def __init__(self) -> None:
        self.answer: Principal | Exception | None = Principal("alice")
        self.asked = 0
        self.now = 0.0
        self.proofs = Proofs(self.still, 100.0, lambda: self.now)

    async def still(self, way: str, proof: str) -> Principal | None:
        """Return whose it is."""
        assert (way, proof) == ("one", "sealed")
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_a_session_stands_as_long_as_its_source_says_so_and_is_asked_about_seldom() -> None:
    source = Source()
    assert await source.proofs.holds(token(proof=""))
    assert source.asked == 0
    assert all(await asyncio.gather(*(source.proofs.holds(token()) for _ in range(20))))
    assert source.asked == 1
    source.now += KEPT_S - 1
    assert await source.proofs.holds(token())
    assert source.asked == 1
    source.now += 1
    source.answer = None
    assert not await source.proofs.holds(token())
    source.now += KEPT_S
    source.answer = Principal("mallory")  # another person's sign-in is not this user's
    assert not await source.proofs.holds(token())


async def test_while_the_source_is_away_a_session_goes_on_for_a_bounded_time() -> None:
    source = Source()
    source.answer = AuthenticatorUnavailable("away")
    with pytest.raises(AuthenticatorUnavailable):
        await source.proofs.holds(token())
    source.answer = Principal("alice")
    assert await source.proofs.holds(token())
    source.answer = AuthenticatorUnavailable("away")
    source.now += 99.0
    assert await source.proofs.holds(token())
    source.now += 1.0
    with pytest.raises(AuthenticatorUnavailable):
        await source.proofs.holds(token())
    source.answer = None
    assert not await source.proofs.holds(token())
    source.answer = AuthenticatorUnavailable("away")
    source.now += KEPT_S
    assert not await source.proofs.holds(token())  # what was over stays over


@pytest.mark.parametrize("out_at", range(0, 45, 4))
async def test_who_logs_out_at_the_source_is_out_within_a_minute(out_at: int) -> None:
    """Edge and server each keep what they were told: looked at once a second, whenever that is."""
    source = Source()

    class Server:
        """What the edge asks, which asks the source."""

        async def check(self, grants: Sequence[SessionGrant]) -> Sequence[bool | None]:
            """Return whether sessions hold."""
            return [await source.proofs.holds(token()) for _ in grants]

    standing = Standing(Server(), lambda: source.now, lambda: int(source.now * 1000))
    grant = SessionGrant(UID, "alice", 2**50, "a session")
    standing.begun(grant)
    while source.now < out_at:
        source.now += 1.0
        assert await standing.holds(grant)
    source.answer = None
    while await standing.holds(grant):
        source.now += 1.0
        assert source.now - out_at <= KEPT_S + CHECK_S
    # a source may take its time besides
    assert KEPT_S + CHECK_S + ASK_S < 60
