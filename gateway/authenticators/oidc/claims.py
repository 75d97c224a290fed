"""What a token of an OpenID provider says: whether it is an access token at all, and who its bearer
is. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.authenticators.contract import AuthenticatorUnavailable, NameRefused
from gateway.server.core.model import Principal

MAX_NAME = 255  # letters of a user's name
MAX_GROUPS = 1000
MAX_GROUP = 255  # letters
# header `typ` of access tokens: RFC 9068; and of providers that are older than that, where the
# rest of the token must tell
ACCESS_TYPE, PLAIN_TYPES = "at+jwt", ("jwt", "")
# payload `typ` of Keycloak's, which has one header for all its tokens
KEYCLOAK_ACCESS = "bearer"
# what stands in ID tokens alone (OpenID Connect Core, 2 and 3.3.2.11), and in logout tokens
ID_TOKEN_CLAIMS = ("nonce", "at_hash", "c_hash", "s_hash", "events")
KEYCLOAK_ROBOT = "service-account-"  # begins the name of a client's own user

Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """How an administrator wants claims read."""

    username_claim: str = "preferred_username"
    groups_claim: str = "groups"
    admins: frozenset[str] = frozenset()
    admin_groups: frozenset[str] = frozenset()
    allowed_groups: frozenset[str] = frozenset()
    robots: Mapping[str, str] = field(default_factory=dict)  # users by client


def why_no_access_token(header: Claims, claims: Claims, audience: str, client_id: str) -> str:
    """Return why a token whose signature is right does not let its bearer in here; empty if it
    does. An ID token is for the program that asked for it, and no proof to others."""
    kind = str(header.get("typ") or "").lower().removeprefix("application/")
    if kind != ACCESS_TYPE and kind not in PLAIN_TYPES:
        return f"its type is {kind!r:.40}, and that of access tokens at+jwt or JWT"
    if "cnf" in claims:
        return "it is bound to a key (cnf), which a bearer does not show"
    if kind == ACCESS_TYPE:
        return ""
    told = str(claims.get("typ") or "").lower()
    if told and told != KEYCLOAK_ACCESS:
        return f"it is a token of type {told!r:.40}, no access token"
    if strange := [name for name in ID_TOKEN_CLAIMS if name in claims]:
        return f"it is an ID or logout token: it has the claim {strange[0]}"
    if not told and audience == client_id and not ({"scope", "scp"} & set(claims)):
        return "it has no scope, as ID tokens have none, and its audience is that of ID tokens"
    return ""


def why_no_id_token(header: Claims, claims: Claims, client_id: str, nonce: str) -> str:
    """Return why a token whose signature and audience are right does not prove who has just signed
    in; empty if it does."""
    kind = str(header.get("typ") or "").lower().removeprefix("application/")
    if kind not in PLAIN_TYPES or str(claims.get("typ") or "id").lower() != "id":
        return "it is another token than an ID token"
    shown = claims.get("nonce")
    if (
        not nonce
        or not isinstance(shown, str)
        or not hmac.compare_digest(shown.encode(errors="replace"), nonce.encode())
    ):
        return "its nonce is not that of this login"
    party, audiences = claims.get("azp"), claims.get("aud")
    several = isinstance(audiences, list) and len(audiences) > 1
    if (party is not None or several) and party != client_id:
        return "it was given to another program (azp)"
    return ""


def client_of(claims: Claims) -> str:
    """Return the program that a token was given to, empty if it does not say."""
    for name in ("client_id", "azp"):
        value = claims.get(name)
        if isinstance(value, str) and value:
            return value
    return ""


def claim(claims: Claims, name: str) -> Any:
    """Return a claim by its name, or by a path with dots, such as `realm_access.roles`; None if
    there is none."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for step in name.split("."):
        if not isinstance(found, Mapping) or step not in found:
            return None
        found = found[step]
    return found


def groups_of(claims: Claims, name: str) -> tuple[str, ...]:
    """Return the groups that a claim tells, none where it is missing; AuthenticatorUnavailable for
    one that cannot be read, as nobody knows then what its bearer may do."""
    told = claim(claims, name) if name else None
    if told is None:
        return ()
    listed = [told] if isinstance(told, str) else told
    if (
        not isinstance(listed, list)
        or len(listed) > MAX_GROUPS
        or not all(isinstance(one, str) and 0 < len(one) <= MAX_GROUP for one in listed)
    ):
        raise AuthenticatorUnavailable(
            f"the claim {name!r} must be a list of at most {MAX_GROUPS} groups, each a text of at"
            f" most {MAX_GROUP} letters"
        )
    return tuple(sorted(set(listed)))


def robot_of(claims: Claims) -> str:
    """Return the program that a token stands for itself, by client credentials; empty if it stands
    for a person."""
    client = client_of(claims)
    own = claims.get("preferred_username")
    itself = claims.get("sub") == client or own == f"{KEYCLOAK_ROBOT}{client}".lower()
    return client if client and itself else ""


def principal(claims: Claims, reading: Reading, expires_at: int) -> Principal | None:
    """Return who somebody is, None if nobody who is let in. NameRefused if the name is missing;
    AuthenticatorUnavailable if what is told cannot be read."""
    groups = groups_of(claims, reading.groups_claim)
    robot = robot_of(claims)
    if robot and robot in reading.robots:
        user = reading.robots[robot]
    elif robot:
        raise NameRefused(
            robot,
            "it is a program of the identity provider; the administrator may name which user it is"
            " here in c.OIDCAuthenticator.robots",
        )
    else:
        user = _name(claims, reading.username_claim)
        if reading.allowed_groups and reading.allowed_groups.isdisjoint(groups):
            return None
    admin = user in reading.admins or not reading.admin_groups.isdisjoint(groups)
    return Principal(user, admin, groups, expires_at=expires_at)


def _name(claims: Claims, name: str) -> str:
    """Return the user's name that a claim tells."""
    told = claim(claims, name)
    if not isinstance(told, str) or not told or len(told) > MAX_NAME:
        raise NameRefused(
            str(claims.get("sub", ""))[:MAX_NAME],
            f"the identity provider tells no claim {name!r}, by which users are named here"
            " (c.OIDCAuthenticator.username_claim)",
        )
    if name == "email" and claims.get("email_verified") is not True:
        raise NameRefused(told, "the identity provider has not verified this e-mail address")
    return told
