"""Users of a real OpenID provider, by tokens that it signs: the suite, and what such tokens have of
their own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from gateway.authenticators.conformance import Conformance, Source
from gateway.authenticators.contract import (
    Authenticator,
    AuthenticatorUnavailable,
    Credentials,
    NameRefused,
)
from gateway.authenticators.oidc.authenticator import OIDCAuthenticator
from gateway.configfile import ConfigurationError
from gateway.server.core.model import Principal
from tests.authenticators import liars
from tests.parts.jupyterhub import Liar, Wire, bearer
from tests.parts.oidc_provider import AUDIENCE, OpenIDProvider, started_provider, wired

__all__ = ["started_provider"]
SIGNED = "what the provider has signed holds until it expires, and nobody is asked"
CANNOT = {
    "remove": SIGNED,
    "renew": SIGNED,
    "asked_by_name": "a provider can be asked about nobody by name",
    "names": "a token names nobody before it is verified",
    "passwords": "there are tokens only",
    "letter_case": "a token is signed as a whole",
    "replayed": "a token is sent with every call",
    "ending": "accounts of the provider have no end",
    "stamps": "the provider tells by name of nobody",
    "impostor": "a provider can be asked about nobody by name",
}
ADMINS = "gateway-admins"


def authenticator(provider: OpenIDProvider, **settings: Any) -> OIDCAuthenticator:
    """Return an authenticator of a provider."""
    given = {"admin_groups": {ADMINS}, "leeway_s": 0.0, "timeout_s": 2.0}
    return OIDCAuthenticator(issuer=provider.issuer, audience=AUDIENCE, **{**given, **settings})


class People:
    """Who is known to a provider, and what they send."""

    def __init__(self, provider: OpenIDProvider) -> None:
        self.provider = provider
        self.kept: dict[str, str] = {}

    async def change(self, user: str, *, admin: bool, groups: Sequence[str]) -> None:
        """Add somebody, or change who is there."""
        self.kept.pop(user, None)
        await self.provider.order("people", user=user, groups=[*groups, *([ADMINS] * admin)])

    async def show(self, user: str) -> Credentials:
        """Return an access token."""
        if user not in self.kept:
            self.kept[user] = (await self.provider.tokens(user))["access_token"]
        return bearer(self.kept[user])

    async def wrong(self, user: str) -> Credentials:
        """Return a token that somebody else has signed, and says that it is the provider's."""
        there = "alice" if user not in self.kept else user
        right = (await self.show(there)).value
        claims = jwt.decode(right, options={"verify_signature": False})
        header = jwt.get_unverified_header(right)
        claims |= {"sub": user, "preferred_username": user, "jti": str(time.time_ns())}
        return bearer(jwt.encode(claims, FORGER, "RS256", headers=header))

    async def expired(self, user: str) -> Credentials:
        """Return an access token that has expired."""
        told = await self.provider.tokens(user, "brief")
        ends_at = jwt.decode(told["access_token"], options={"verify_signature": False})["exp"]
        while time.time() < ends_at:  # noqa: ASYNC110 (a clock tells nobody)
            await asyncio.sleep(max(0.0, ends_at - time.time()))
        return bearer(told["access_token"])


FORGER = rsa.generate_private_key(65537, 2048)
OWN_KEY = RSAAlgorithm.to_jwk(FORGER.public_key(), as_dict=True)
OCTETS = {"kty": "oct", "k": "c2VjcmV0", "kid": "a", "use": "sig"}
SHORT = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)


def _lying(
    anew: Callable[..., AbstractAsyncContextManager[None]], wire: Wire, liar: Liar
) -> AbstractAsyncContextManager[None]:
    return anew(wire.lying(liar), timeout_s=0.5)


def lies_of(provider: OpenIDProvider) -> dict[str, Liar]:
    """Return what no provider can say of itself, and what are no keys, by what it is."""
    right = {"issuer": provider.issuer, "jwks_uri": f"{provider.issuer}/jwks"}
    said = {
        "another issuer": {**right, "issuer": "https://login.example.org"},
        "a list of issuers": {**right, "issuer": [provider.issuer]},
        "no keys' address": {"issuer": provider.issuer},
        "a number for the keys' address": {**right, "jwks_uri": 7},
        "an address in clear text": {**right, "jwks_uri": "http://login.example.org/jwks"},
        "a file for an address": {**right, "jwks_uri": "file:///etc/passwd"},
    }
    keys: dict[str, Any] = {
        "null for keys": {"keys": None},
        "no keys": {"keys": []},
        "numbers for keys": {"keys": [1, 2]},
        "a thousand keys": {"keys": [OWN_KEY] * 1000},
        "a shared secret for a key": {"keys": [OCTETS]},
        "a key that is too short": {"keys": [SHORT]},
        "a key with numbers for texts": {"keys": [{"kty": 1, "n": 2, "e": 3}]},
        "a key that is no number": {"keys": [{**OWN_KEY, "n": "!"}]},
        "the keys of somebody else, without end": {"keys": [{**OWN_KEY, "n": "A" * 10_000_000}]},
    }

    def told(path: str, keys: Any) -> Any:
        return keys if path == "/jwks" else right

    return {
        **{what: liars.telling(one) for what, one in said.items()},
        **{what: liars.telling(partial(told, keys=one)) for what, one in keys.items()},
    }


class _Groups(OIDCAuthenticator):
    """Tells groups without that of admins, as the suite's users have none of their own."""

    def _principal(self, told: Any) -> Principal | None:
        found = super()._principal(told)
        groups = tuple(one for one in found.groups if one != ADMINS) if found is not None else ()
        return (
            None
            if found is None
            else Principal(found.user, found.admin, groups, expires_at=found.expires_at)
        )


class TestOIDC(Conformance):
    """The suite."""

    @pytest.fixture
    async def source(self, started_provider: OpenIDProvider) -> AsyncIterator[Source]:
        async with wired(started_provider) as wire:
            people = People(started_provider)
            await people.change("Bob@Example.ORG", admin=False, groups=())

            async def again() -> Authenticator:
                return _Groups(
                    issuer=started_provider.issuer,
                    audience=AUDIENCE,
                    admin_groups={ADMINS},
                    leeway_s=0.0,
                    timeout_s=2.0,
                )

            @asynccontextmanager
            async def anew(
                during: AbstractAsyncContextManager[None], timeout_s: float = 2.0
            ) -> AsyncIterator[None]:
                """Have another answer who must ask for the keys first."""
                usual = source.authenticator
                fresh = _Groups(
                    issuer=started_provider.issuer,
                    audience=AUDIENCE,
                    admin_groups={ADMINS},
                    leeway_s=0.0,
                    timeout_s=timeout_s,
                )
                await fresh.open()
                try:
                    async with during:
                        source.authenticator = fresh
                        yield
                finally:
                    source.authenticator = usual
                    await fresh.close()

            async def off_by(user: str, seconds: float) -> Credentials:
                right = (await people.show(user)).value
                claims = jwt.decode(right, options={"verify_signature": False})
                moved = {name: claims[name] + int(seconds) for name in ("iat", "exp")}
                one = source.authenticator
                assert isinstance(one, OIDCAuthenticator)
                await one.authenticate(bearer(right))
                # as if the provider had signed it
                one._keys._known = [*one._keys._known, {**OWN_KEY, "kid": "another"}]
                header = {**jwt.get_unverified_header(right), "kid": "another"}
                return bearer(jwt.encode({**claims, **moved}, FORGER, "RS256", headers=header))

            source = Source(
                await again(),
                again=again,
                add=people.change,
                show=people.show,
                wrong=people.wrong,
                change=people.change,
                expired=people.expired,
                odd="Bob@Example.ORG",
                outage=wire.cut,
                hang=wire.held,
                slow=lambda: anew(wire.slow()),
                lies={
                    what: partial(_lying, anew, wire, liar)
                    for what, liar in {**liars.LIES, **lies_of(started_provider)}.items()
                },
                off_by=off_by,
                asked_by_name=False,
                names=False,
                passwords=False,
                letter_case=False,
                stamps=False,
                cannot=CANNOT,
            )
            await source.open()
            yield source
            await source.close()


@pytest.fixture
async def wire(started_provider: OpenIDProvider) -> AsyncIterator[Wire]:
    """The way to a provider that knows alice."""
    async with wired(started_provider) as wire:
        await started_provider.order("people", user="alice", groups=["physics"])
        yield wire


@pytest.fixture
async def provider(started_provider: OpenIDProvider, wire: Wire) -> OpenIDProvider:
    """A provider that answers."""
    return started_provider


async def told(one: Authenticator, *tokens: str) -> list[Principal | None]:
    """Return who the bearers of tokens are, by an authenticator that is opened for that alone."""
    await one.open()
    try:
        return [await one.authenticate(bearer(token)) for token in tokens]
    finally:
        await one.close()


async def test_an_id_token_is_no_access_token(
    provider: OpenIDProvider, caplog: pytest.LogCaptureFixture
) -> None:
    given = await provider.tokens("alice", nonce="a nonce")
    right, id_token = given["access_token"], given["id_token"]
    found, other = await told(authenticator(provider), right, id_token)
    assert found is not None
    assert (found.user, found.groups, found.admin) == ("alice", ("physics",), False)
    assert other is None
    # not even where the site took the program's own name for the gateway's audience
    same = OIDCAuthenticator(issuer=provider.issuer, audience="cli", leeway_s=0.0)
    assert await told(same, id_token, right) == [None, None]
    assert "it is an ID or logout token" in caplog.text
    without_nonce = (await provider.tokens("alice"))["id_token"]
    assert await told(authenticator(provider), without_nonce) == [None]


async def test_a_token_for_another_audience_or_of_another_issuer_lets_nobody_in(
    provider: OpenIDProvider, caplog: pytest.LogCaptureFixture
) -> None:
    other = await provider.robot_token("elsewhere", "a secret of another program")
    one = authenticator(provider, robots={"elsewhere": "robot-elsewhere"})
    assert await told(one, other) == [None]
    assert "it is for the audience 'another-program', and c.OIDCAuthenticator.aud" in caplog.text
    right = (await provider.tokens("alice"))["access_token"]
    stranger = OIDCAuthenticator(issuer=f"{provider.issuer}/", audience=AUDIENCE, timeout_s=2.0)
    with pytest.raises(AuthenticatorUnavailable, match="must be equal to the letter"):
        await told(stranger, right)


async def test_a_robot_is_who_the_administrator_says_and_others_are_told_why_not(
    provider: OpenIDProvider,
) -> None:
    token = await provider.robot_token()
    with pytest.raises(NameRefused, match="robots"):
        await told(authenticator(provider), token)
    (found,) = await told(authenticator(provider, robots={"robot": "robot-nightly"}), token)
    assert found is not None
    assert found.user == "robot-nightly"
    # who has made a user of the same name is no robot
    await provider.order("people", user="robot-nightly", groups=[])
    person = (await provider.tokens("robot-nightly"))["access_token"]
    (found,) = await told(authenticator(provider, robots={"robot": "other"}), person)
    assert found is not None
    assert found.user == "robot-nightly"


async def test_who_is_in_none_of_the_allowed_groups_is_kept_out_and_the_log_says_so(
    provider: OpenIDProvider, caplog: pytest.LogCaptureFixture
) -> None:
    right = (await provider.tokens("alice"))["access_token"]
    assert await told(authenticator(provider, allowed_groups={"chemistry"}), right) == [None]
    assert "'alice' is in none of c.OIDCAuthenticator.allowed_groups" in caplog.text
    assert right not in caplog.text
    (found,) = await told(authenticator(provider, allowed_groups={"physics"}), right)
    assert found is not None


async def test_a_token_counts_no_longer_than_the_site_lets_it(provider: OpenIDProvider) -> None:
    right = (await provider.tokens("alice"))["access_token"]
    claims = jwt.decode(right, options={"verify_signature": False})
    (long,) = await told(authenticator(provider), right)
    (short,) = await told(authenticator(provider, max_token_life_s=60.0), right)
    assert long is not None
    assert short is not None
    assert long.expires_at == claims["exp"] * 1000
    assert short.expires_at == (claims["iat"] + 60) * 1000


async def test_what_check_config_finds() -> None:
    for settings, words in (
        ({}, "issuer: must be set"),
        ({"issuer": "http://login.example.org"}, "issuer: must be https, unless"),
        ({"issuer": "login.example.org"}, "issuer: must look like https://"),
        ({"issuer": "https://a:b@login.example.org"}, "issuer: must look like https://"),
        ({"issuer": "https://login.example.org"}, "audience: must be set"),
        ({"algorithms": ["HS256"]}, "'HS256' is none of RS256"),
        ({"algorithms": ["none"]}, "'none' is none of RS256"),
        ({"algorithms": []}, "algorithms: must name one"),
        ({"username_claim": ""}, "username_claim: must be set"),
        ({"ca_file": "/nowhere/ca.pem"}, "ca_file: /nowhere/ca.pem: No such file"),
    ):
        one = OIDCAuthenticator(**settings)
        assert any(words in line for line in one.problems()), (settings, one.problems())
        with pytest.raises(ConfigurationError):
            await one.open()
    assert json.dumps(
        OIDCAuthenticator(issuer="https://a.example.org", audience="b").problems()
    ) == ("[]")
