"""Users of an OpenID provider, by access tokens that it signs: those of other programs, of the
gateway's own client, of robots.

Nobody is asked about a token: its signature proves it, by keys that are kept (keys.py). So what it
says holds until it expires, as the provider means it to; `max_token_life_s` bounds that.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import secrets
import ssl
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from traitlets import Bool, Dict, Float, List, Set, Unicode

from gateway.authenticators.browser import (
    Begun,
    BrowserSignIn,
    LoginFailed,
    code_grant,
    code_in,
    code_request,
)
from gateway.authenticators.contract import (
    Authenticator,
    AuthenticatorUnavailable,
    Credentials,
    DeviceLogin,
    NameRefused,
    SignInRefused,
)
from gateway.authenticators.oidc import claims as claims_of
from gateway.authenticators.oidc.claims import Reading
from gateway.authenticators.oidc.provider import Description, Provider, Refused, why_no_address
from gateway.configfile import ConfigurationError
from gateway.server.core.model import Principal

if TYPE_CHECKING:
    from gateway.authenticators.oidc.keys import Keys

logger = logging.getLogger(__name__)

KEPT = 10_000  # tokens that were right
KEPT_S = 30.0  # for so long one is remembered
INSTALL = "pip install 'dask-gateway-grpc[oidc]'"


@dataclass(frozen=True, slots=True)
class _Right:
    """Whose a token was, and until when that is remembered (on the monotonic clock)."""

    principal: Principal
    until: float


class OIDCAuthenticator(Authenticator):
    """Users of an OpenID provider."""

    schemes = ("bearer",)
    description = "an access token of the site's identity provider"
    client_way = "oidc"
    at_a_time = 64  # a token costs no question

    issuer = Unicode(
        "",
        help="The provider's issuer, to the letter as it stands in its tokens and at"
        " ISSUER/.well-known/openid-configuration: such as https://login.example.org/realms/main.",
    ).tag(config=True)
    audience = Unicode(
        "",
        help="What the provider names as `aud` in access tokens that are meant for this gateway."
        " Tokens for others let nobody in.",
    ).tag(config=True)
    algorithms = List(
        Unicode(),
        ["RS256", "ES256"],
        help="Algorithms by which tokens may be signed: RS, PS and ES with 256, 384 or 512, EdDSA.",
    ).tag(config=True)
    username_claim = Unicode(
        "preferred_username",
        help="Claim that names the user: one that no two people have, and that nobody chooses"
        " freely at the provider. With dots: a path.",
    ).tag(config=True)
    groups_claim = Unicode(
        "groups",
        help="Claim that lists the user's groups, such as `groups`, or a path: realm_access.roles."
        " Empty for no groups.",
    ).tag(config=True)
    admins = Set(Unicode(), help="Users of the provider that may act for every user.").tag(
        config=True
    )
    admin_groups = Set(
        Unicode(), help="Groups of the provider whose members may act for every user."
    ).tag(config=True)
    allowed_groups = Set(
        Unicode(), help="Groups whose members alone are let in. Empty: whoever has a token."
    ).tag(config=True)
    robots = Dict(
        Unicode(),
        help="Users, as the provider would name them, whom programs with client credentials are"
        " here, by client id. Others are kept out.",
    ).tag(config=True)
    leeway_s = Float(
        30.0, min=0, max=300, help="Seconds by which the provider's clock may differ."
    ).tag(config=True)
    max_token_life_s = Float(
        3600.0,
        min=60,
        help="Seconds after its issue for which a token counts at most, whatever it says itself:"
        " what is taken away at the provider counts no later.",
    ).tag(config=True)
    keys_hold_s = Float(
        86400.0,
        min=600,
        help="Seconds that the provider's keys count which were fetched last, while it does not"
        " answer.",
    ).tag(config=True)
    timeout_s = Float(5.0, min=0.1, max=30, help="Seconds that the provider has to answer.").tag(
        config=True
    )
    ca_file = Unicode(
        "", help="CA bundle that the provider is verified by. Empty: the system's."
    ).tag(config=True)
    client_id = Unicode(
        "",
        help="What the gateway itself is called at the provider, for people who sign in with a"
        " browser. Empty: nobody does. Its redirect URI there is"
        " PUBLIC_URL/login/NAME/callback, NAME as in c.DaskGateway.authenticators.",
    ).tag(config=True)
    client_secret = Unicode(
        "", help="Its secret there. Empty: it is a public client, which PKCE alone protects."
    ).tag(config=True)
    scopes = List(
        Unicode(),
        ["openid", "profile"],
        help="Scopes that are asked for when somebody signs in with a browser; openid is among"
        " them.",
    ).tag(config=True)
    at_once = Bool(
        False,
        help="Whether browsers are sent to the provider without a question, where that is the only"
        " login page there is.",
    ).tag(config=True)
    device_client_id = Unicode(
        "",
        help="What the public client is called at the provider by which people sign in with"
        " `daskgateway login`. Empty: nobody does.",
    ).tag(config=True)
    device_scopes = List(
        Unicode(),
        ["openid", "offline_access"],
        help="Scopes that it asks for. Without offline_access most providers give nothing to renew"
        " a sign-in by.",
    ).tag(config=True)

    def problems(self) -> list[str]:
        """Return what is wrong with the settings, one line each."""
        if importlib.util.find_spec("jwt") is None:
            return [f"c.DaskGateway.authenticator: oidc needs PyJWT: {INSTALL}"]
        from gateway.authenticators.oidc.keys import ALGORITHMS

        found = []
        if not self.issuer:
            found.append("issuer: must be set, such as https://login.example.org")
        elif why := why_no_address(self.issuer):
            found.append(f"issuer: {why}, not {self.issuer!r:.200}")
        if not self.audience:
            found.append(
                "audience: must be set to what the provider names as aud in access tokens for this"
                " gateway"
            )
        if not self.algorithms:
            found.append("algorithms: must name one at least, such as RS256")
        for name in self.algorithms:
            if name not in ALGORITHMS:
                found.append(
                    f"algorithms: {name!r:.40} is none of {', '.join(ALGORITHMS)}; such as are"
                    " signed with a shared secret, or not at all, prove nothing here"
                )
        if not self.username_claim:
            found.append("username_claim: must be set, such as preferred_username")
        if self.client_id and "openid" not in self.scopes:
            found.append("scopes: must hold openid, by which the provider tells who somebody is")
        if self.client_secret and not self.client_id:
            found.append("client_secret: is the secret of client_id, which is not set")
        if self.ca_file:
            try:
                self._context()
            except (OSError, ssl.SSLError) as error:
                found.append(f"ca_file: {self.ca_file}: {error.strerror or error}")
        return [f"c.OIDCAuthenticator.{line}" for line in found]

    async def open(self) -> None:
        """Make ready to ask; the provider need not answer yet."""
        if wrong := self.problems():
            raise ConfigurationError("\n".join(wrong))
        from gateway.authenticators.oidc.keys import Keys

        self._reading = Reading(
            self.username_claim,
            self.groups_claim,
            frozenset(self.admins),
            frozenset(self.admin_groups),
            frozenset(self.allowed_groups),
            dict(self.robots),
        )
        self._right: OrderedDict[bytes, _Right] = OrderedDict()
        self._key = os.urandom(32)  # no token stays in memory
        self._provider = Provider(self.issuer, self.timeout_s, self._context())
        self._keys: Keys = Keys(self._provider.keys, self.keys_hold_s)

    async def close(self) -> None:
        """End the connections."""
        self._keys.close()
        await self._provider.close()

    def remembered(self, credentials: Credentials) -> Principal | None:
        """Return the user whose token this was a moment ago."""
        if credentials.scheme not in self.schemes:
            return None
        known = self._right.get(self._mark(credentials.value))
        if known is None or known.until <= time.monotonic():
            return None
        told = known.principal
        return told if told.expires_at > time.time() * 1000 else None

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Return the user that an access token was given for."""
        token = credentials.value
        if credentials.scheme not in self.schemes:
            return None
        claims = await self._verified(token, self.audience)
        if claims is None:
            return None
        header, told = claims
        if why := claims_of.why_no_access_token(header, told, self.audience, self.client_id):
            logger.warning("a token of the identity provider is refused: %s", why)
            return None
        found = self._principal(told)
        if found is not None:
            self._remember(token, found)
        return found

    # For browsers

    @property
    def signs_in_browsers(self) -> bool:
        """Whether the gateway has a name of its own at the provider."""
        return bool(self.client_id)

    @property
    def device_login(self) -> DeviceLogin | None:
        """By which client people sign in with `daskgateway login`."""
        if not self.device_client_id:
            return None
        return DeviceLogin(self.issuer, self.device_client_id, tuple(self.device_scopes))

    async def begin_login(self, redirect_uri: str, state: str) -> Begun:
        """Return where a browser goes."""
        endpoint = (await self._provider.description()).authorization_endpoint
        if not endpoint:
            raise AuthenticatorUnavailable("the identity provider tells no authorization_endpoint")
        nonce = secrets.token_urlsafe(24)
        begun = code_request(
            endpoint, self.client_id, redirect_uri, state, scope=" ".join(self.scopes), nonce=nonce
        )
        return Begun(begun.url, {**begun.kept, "nonce": nonce})

    async def finish_login(
        self, redirect_uri: str, kept: Mapping[str, str], answer: Mapping[str, str]
    ) -> BrowserSignIn:
        """Return who has come back, as the provider's ID token says."""
        description = await self._provider.description()
        code = code_in(answer, self.issuer, must_name_it=description.tells_issuer)
        form = code_grant(code, redirect_uri, kept)
        try:
            given = await self._provider.token(form, self.client_id, self.client_secret)
        except Refused as error:
            logger.warning("the identity provider gives nothing for a browser's code: %s", error)
            raise LoginFailed("The identity provider does not take the code. Begin anew.") from None
        told = await self._identified(given.get("id_token"), kept.get("nonce", ""))
        told = await self._completed(told, given.get("access_token"), description)
        try:
            found = self._principal(told)
        except SignInRefused as error:
            raise LoginFailed(f"The identity provider's answer is refused: {error.why}.") from None
        if found is None:
            raise LoginFailed("You are in none of the groups that may use this gateway.")
        # the ID token ends soon, and says nothing of when the sign-in does
        return BrowserSignIn(replace(found, expires_at=0))

    async def still(self, proof: str) -> Principal | None:
        """Return nobody: the provider is not asked about a sign-in."""
        return None

    async def _identified(self, token: object, nonce: str) -> Mapping[str, Any]:
        """Return the claims of an ID token that was given for this very login."""
        verified, why = None, "it has no ID token that the provider signed for this client"
        try:
            if isinstance(token, str):
                verified = await self._verified(token, self.client_id)
        except SignInRefused as error:
            why = error.why
        if verified is not None:
            why = claims_of.why_no_id_token(*verified, self.client_id, nonce)
        if verified is None or why:
            logger.warning("a browser's login at the identity provider is refused: %s", why)
            raise LoginFailed(
                "The identity provider's answer is not one to this login. Begin anew."
            )
        return verified[1]

    async def _completed(
        self, told: Mapping[str, Any], token: object, description: Description
    ) -> Mapping[str, Any]:
        """Return claims with those that the provider tells only if it is asked for them."""
        wanted = (self.username_claim, self.groups_claim)
        missing = any(name and claims_of.claim(told, name) is None for name in wanted)
        if not missing or not description.userinfo_endpoint or not isinstance(token, str):
            return told
        more = await self._provider.person_of(token)
        if more.get("sub") != told["sub"]:
            raise LoginFailed("The identity provider tells of two different people. Begin anew.")
        return {**more, **told}

    # What both are made of

    async def _verified(
        self, token: str, audience: str
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        """Return header and claims of a token that the provider has signed, for this audience, now;
        None for any other. SignInRefused tells what is wrong with its time;
        AuthenticatorUnavailable."""
        from gateway.authenticators.oidc import keys

        parts = keys.taken_apart(token, self.algorithms)
        if parts is None:
            return None
        header, issued_at = parts
        fitting = await self._keys.fitting(header.get("kid"), header["alg"], issued_at)
        told = keys.verified(token, header["alg"], fitting, self.issuer, audience, self.leeway_s)
        return None if told is None else (header, told)

    def _principal(self, told: Mapping[str, Any]) -> Principal | None:
        """Return who somebody is, and until when, None if nobody who is let in."""
        ends_at = min(int(told["exp"]), int(told["iat"]) + int(self.max_token_life_s))
        expires_at = int((ends_at + self.leeway_s) * 1000)
        if expires_at <= time.time() * 1000:
            raise SignInRefused(
                f"the token is older than {self.max_token_life_s:g} s, for which tokens of the"
                " identity provider count here: it has expired"
            )
        try:
            found = claims_of.principal(told, self._reading, expires_at)
        except NameRefused:
            raise
        except AuthenticatorUnavailable as error:
            logger.error("a token of the identity provider cannot be read: %s", error)
            raise
        if found is None:
            logger.warning(
                "a user of the identity provider is kept out: %.100r is in none of"
                " c.OIDCAuthenticator.allowed_groups",
                claims_of.claim(told, self.username_claim),
            )
        elif self.groups_claim in _mapping(told.get("_claim_names")):
            logger.warning(
                "the identity provider tells the groups of %.100r elsewhere, as there are many"
                " (_claim_names): they count for nothing here; let it send fewer",
                found.user,
            )
        return found

    def _remember(self, token: str, found: Principal) -> None:
        self._right[self._mark(token)] = _Right(found, time.monotonic() + KEPT_S)
        while len(self._right) > KEPT:
            self._right.popitem(last=False)

    def _mark(self, token: str) -> bytes:
        return hashlib.blake2b(
            token.encode(errors="surrogatepass"), digest_size=16, key=self._key
        ).digest()

    def _context(self) -> ssl.SSLContext | None:
        return ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
