"""What a token's claims mean, without any provider."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.authenticators.contract import AuthenticatorUnavailable, NameRefused
from gateway.authenticators.oidc import claims
from gateway.authenticators.oidc.claims import Reading
from gateway.authenticators.oidc.keys import fits, signing_keys, taken_apart
from gateway.authenticators.oidc.provider import read_description, why_no_address
from gateway.server.core.model import Principal

AUDIENCE, CLIENT = "dask-gateway", "daskgateway-login"


@pytest.mark.parametrize(
    ("header", "told", "words"),
    [
        ({"typ": "at+jwt"}, {}, ""),
        ({"typ": "application/at+JWT"}, {}, ""),
        ({"typ": "JWT"}, {"scope": "openid"}, ""),
        ({}, {}, ""),
        ({"typ": "JWT"}, {"typ": "Bearer"}, ""),  # as Keycloak has it
        ({"typ": "JWT"}, {"typ": "ID"}, "of type 'id'"),
        ({"typ": "JWT"}, {"typ": "Refresh"}, "of type 'refresh'"),
        ({"typ": "JWT"}, {"nonce": "n"}, "ID or logout token"),
        ({"typ": "JWT"}, {"at_hash": "h"}, "ID or logout token"),
        ({"typ": "JWT"}, {"events": {}}, "ID or logout token"),
        ({"typ": "logout+jwt"}, {}, "its type is 'logout+jwt'"),
        ({"typ": "dpop+jwt"}, {}, "its type is 'dpop+jwt'"),
        ({"typ": 7}, {}, "its type is '7'"),
        ({"typ": "at+jwt"}, {"cnf": {"jkt": "x"}}, "bound to a key"),
    ],
)
def test_only_an_access_token_lets_its_bearer_in(
    header: dict[str, Any], told: dict[str, Any], words: str
) -> None:
    why = claims.why_no_access_token(header, told, AUDIENCE, CLIENT)
    assert words in why
    assert bool(why) == bool(words)


def test_where_audience_and_client_are_one_a_token_must_have_a_scope() -> None:
    assert claims.why_no_access_token({"typ": "JWT"}, {}, CLIENT, CLIENT)
    assert not claims.why_no_access_token({"typ": "JWT"}, {"scp": "read"}, CLIENT, CLIENT)
    assert not claims.why_no_access_token({"typ": "JWT"}, {"typ": "Bearer"}, CLIENT, CLIENT)


def test_groups_are_a_claim_or_a_path_and_what_cannot_be_read_is_not_taken_for_none() -> None:
    told = {
        "groups": ["physics", "atlas", "physics"],
        "realm_access": {"roles": ["user"]},
        "https://example.org/groups": "one",
        "wrong": {"a": 1},
        "numbers": [1],
        "many": ["x"] * 1001,
        "long": ["x" * 300],
        "empty": [""],
    }
    assert claims.groups_of(told, "groups") == ("atlas", "physics")
    assert claims.groups_of(told, "realm_access.roles") == ("user",)
    assert claims.groups_of(told, "https://example.org/groups") == ("one",)
    assert claims.groups_of(told, "realm_access.nothing") == ()
    assert claims.groups_of(told, "groups.deeper") == ()
    assert claims.groups_of(told, "") == ()
    for name in ("wrong", "numbers", "many", "long", "empty"):
        with pytest.raises(AuthenticatorUnavailable, match=name):
            claims.groups_of(told, name)


def named(told: dict[str, Any], **settings: Any) -> Principal | None:
    """Return who somebody is."""
    return claims.principal({"sub": "0815", **told}, Reading(**settings), 1000)


def test_users_are_named_by_the_claim_that_the_site_names() -> None:
    assert named({"preferred_username": "alice"}) == Principal("alice", expires_at=1000)
    for told in ({}, {"preferred_username": ""}, {"preferred_username": 7}):
        with pytest.raises(NameRefused, match="username_claim"):
            named(told)
    found = named({}, username_claim="sub")
    assert found is not None
    assert found.user == "0815"
    email = {"email": "alice@example.org"}
    for verified in (None, False, "true"):
        with pytest.raises(NameRefused, match="has not verified"):
            named({**email, "email_verified": verified}, username_claim="email")
    found = named({**email, "email_verified": True}, username_claim="email")
    assert found is not None
    assert found.user == "alice@example.org"


def test_admins_are_named_or_of_a_group() -> None:
    alice = {"preferred_username": "alice", "groups": ["physics"]}
    for settings, admin in (
        ({}, False),
        ({"admins": frozenset({"alice"})}, True),
        ({"admins": frozenset({"bob"})}, False),
        ({"admin_groups": frozenset({"physics"})}, True),
    ):
        found = named(alice, **settings)
        assert found is not None
        assert found.admin is admin
    assert named(alice, allowed_groups=frozenset({"chemistry"})) is None


@pytest.mark.parametrize(
    "told",
    [
        {"sub": "robot", "client_id": "robot"},  # RFC 9068
        {"sub": "6f2", "azp": "robot", "preferred_username": "service-account-robot"},  # Keycloak
    ],
)
def test_a_program_of_its_own_is_who_the_site_says(told: dict[str, str]) -> None:
    found = claims.principal(told, Reading(robots={"robot": "nightly"}), 1000)
    assert found is not None
    assert found.user == "nightly"
    assert claims.robot_of(told) == "robot"
    with pytest.raises(NameRefused, match="robots"):
        claims.principal(told, Reading(robots={"another": "nightly"}), 1000)
    assert not claims.robot_of({**told, "sub": "0815", "preferred_username": "alice"})


def test_keys_that_sign_are_taken_and_all_others_passed_over() -> None:
    with pytest.raises(AuthenticatorUnavailable, match="no set"):
        signing_keys({"keys": "none"})
    with pytest.raises(AuthenticatorUnavailable, match="no key that signs"):
        signing_keys({"keys": [{"kty": "oct", "k": "c2VjcmV0"}, {"kty": "RSA"}, 7, {}]})
    with pytest.raises(AuthenticatorUnavailable, match="no set"):
        signing_keys({"keys": [{}] * 100})
    assert fits({"kty": "RSA"}, "PS256")
    assert not fits({"kty": "RSA", "alg": "RS256"}, "PS256")
    assert not fits({"kty": "EC", "crv": "P-384"}, "ES256")


def test_what_is_no_token_is_not_taken_apart() -> None:
    for text in ("", "a.b.c", "..", "é.b.c", "a" * 20000, "a.b", "a.b.c.d"):
        assert taken_apart(text, ["RS256"]) is None


def test_a_provider_is_who_it_says_and_nothing_leads_where_secrets_are_in_clear_text() -> None:
    issuer = "https://login.example.org"
    told = {"issuer": issuer, "jwks_uri": f"{issuer}/jwks", "token_endpoint": f"{issuer}/token"}
    assert read_description(told, issuer).token_endpoint == f"{issuer}/token"
    for wrong, words in (
        ({**told, "issuer": "https://evil.example.org"}, "must be equal"),
        ({**told, "token_endpoint": "http://login.example.org/token"}, "must be https"),
        ({**told, "token_endpoint": ["x"]}, "token_endpoint must look like"),
        ({**told, "jwks_uri": ""}, "no jwks_uri"),
        ({}, "must be equal"),
    ):
        with pytest.raises(AuthenticatorUnavailable, match=words):
            read_description(wrong, issuer)
    for right in ("http://127.0.0.1:8080/realms/x", "http://[::1]:1/", "http://localhost"):
        assert not why_no_address(right)
    for wrong_url in (
        "http://127.0.0.1.evil.org",
        "ftp://x",
        "https://",
        "https://a b",
        "https://x:y",
    ):
        assert why_no_address(wrong_url)
