"""By which keys and algorithms tokens of a real OpenID provider count, whoever makes some up, and
while the provider is away."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import jwt
import pytest

from gateway.authenticators.contract import Authenticator, AuthenticatorUnavailable
from gateway.authenticators.oidc.keys import FRESH_S, MOST_FETCHED
from gateway.server.core.model import Principal
from tests.authenticators.test_oidc import FORGER, authenticator, provider, told, wire
from tests.parts.jupyterhub import Wire, bearer
from tests.parts.oidc_provider import OpenIDProvider, started_provider

__all__ = ["provider", "started_provider", "wire"]


async def test_algorithms_are_those_of_the_configuration_alone(provider: OpenIDProvider) -> None:
    right = (await provider.tokens("alice"))["access_token"]
    header = {"kid": jwt.get_unverified_header(right)["kid"], "typ": "at+jwt"}
    claims = jwt.decode(right, options={"verify_signature": False})
    unsigned = jwt.encode(claims, "", "none", headers=header)
    # the public key, as everybody has it, could be taken for a shared secret
    shared = jwt.encode(claims, "x" * 64, "HS256", headers=header)
    assert await told(authenticator(provider), unsigned, shared) == [None, None]
    assert await told(authenticator(provider, algorithms=["ES256", "PS256"]), right) == [None]


async def test_a_new_key_counts_at_once_and_one_that_is_taken_back_no_longer(
    provider: OpenIDProvider,
) -> None:
    old = (await provider.tokens("alice"))["access_token"]
    one = authenticator(provider)
    await one.open()
    try:
        assert await one.authenticate(bearer(old)) is not None
        await provider.order("rotate", keep=True)
        new = (await provider.tokens("alice"))["access_token"]
        assert jwt.get_unverified_header(new)["kid"] != jwt.get_unverified_header(old)["kid"]
        assert await one.authenticate(bearer(new)) is not None
        assert await one.authenticate(bearer(old)) is not None
        await provider.order("rotate", keep=False)
        newest = (await provider.tokens("alice"))["access_token"]
        assert await one.authenticate(bearer(newest)) is not None
        assert await one.authenticate(bearer(old)) is None
    finally:
        await one.close()


async def test_a_key_that_was_taken_back_while_nobody_signed_in_counts_for_nobody(
    provider: OpenIDProvider,
) -> None:
    """Whoever has stolen it must not be the first who comes after a quiet night."""
    old = (await provider.tokens("alice"))["access_token"]
    one = authenticator(provider)
    await one.open()
    try:
        assert await one.authenticate(bearer(old)) is not None
        await provider.order("rotate", keep=False)
        one._right.clear()
        one._keys._fetched_at -= FRESH_S
        assert await one.authenticate(bearer(old)) is None
    finally:
        await one.close()


def forged(right: str, **words: object) -> str:
    """Return a token of a key that nobody knows."""
    claims = jwt.decode(right, options={"verify_signature": False}) | words
    return jwt.encode(claims, FORGER, "RS256", headers={"kid": f"made-up-{time.time_ns()}"})


async def test_a_flood_of_unknown_keys_asks_the_provider_a_few_times_a_minute(
    provider: OpenIDProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = (await provider.tokens("alice"))["access_token"]
    one, fetched = authenticator(provider), 0
    await one.open()
    asked = one._provider.keys

    async def counted() -> Any:
        nonlocal fetched
        fetched += 1
        return await asked()

    try:
        monkeypatch.setattr(one._keys, "_fetch", counted)
        assert await one.authenticate(bearer(right)) is not None
        now = int(time.time())
        floods = [forged(right, iat=now + number % 7) for number in range(200)]
        at_once = [_answer(one, token) for token in floods]
        answers = [
            *await asyncio.gather(*at_once),
            *[await _answer(one, token) for token in floods],
        ]
        assert not any(isinstance(answer, Principal) for answer in answers)
        assert 1 < fetched <= MOST_FETCHED + 1
        # tokens that say they are older than the last fetch cost nothing at all
        before = fetched
        assert await one.authenticate(bearer(forged(right, iat=now - 300))) is None
        assert fetched == before
        one._right.clear()
        assert await one.authenticate(bearer(right)) is not None
    finally:
        await one.close()


async def _answer(one: Authenticator, token: str) -> object:
    try:
        return await one.authenticate(bearer(token))
    except AuthenticatorUnavailable as error:
        return error


async def test_while_the_provider_is_down_the_last_good_keys_count(
    provider: OpenIDProvider, wire: Wire
) -> None:
    right = (await provider.tokens("alice"))["access_token"]
    one = authenticator(provider)
    await one.open()
    try:
        assert await one.authenticate(bearer(right)) is not None
        await provider.order("people", user="bob", groups=[])
        bobs = (await provider.tokens("bob"))["access_token"]
        async with wire.cut():
            assert await one.authenticate(bearer(bobs)) is not None
            one._keys._fetched_at -= 600.0  # they are stale, and fetched in vain
            one._right.clear()
            assert await one.authenticate(bearer(bobs)) is not None
            one._keys._fetched_at -= one.keys_hold_s
            one._right.clear()
            with pytest.raises(AuthenticatorUnavailable):
                await one.authenticate(bearer(bobs))
        async with asyncio.timeout(60):
            while not isinstance(await _answer(one, bobs), Principal):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    finally:
        await one.close()
