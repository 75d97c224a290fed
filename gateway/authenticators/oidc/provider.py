"""An OpenID provider as the gateway asks it: over HTTP, each answer bounded in size and time.

Whatever is no answer is AuthenticatorUnavailable: an outage of the provider is nobody's wrong
password.
"""

from __future__ import annotations

import json
import logging
import math
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlsplit

import aiohttp

from gateway.authenticators.contract import AuthenticatorUnavailable
from gateway.networks import is_loopback

logger = logging.getLogger(__name__)

WELL_KNOWN = "/.well-known/openid-configuration"
FRESH_S = 3600.0  # after which what the provider says of itself is asked anew
ASK_AGAIN_S = 10.0  # after it did not answer
MAX_ANSWER_BYTES = 1024 * 1024
MAX_URL = 2048  # letters


class Refused(Exception):
    """The provider does not give a token for what it was shown."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a provider says of itself (OpenID Connect Discovery, RFC 8414)."""

    issuer: str
    jwks_uri: str
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    userinfo_endpoint: str = ""
    tells_issuer: bool = False  # with each answer to a browser (RFC 9207)


class Provider:
    """One provider."""

    def __init__(
        self,
        issuer: str,
        timeout_s: float,
        context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`context`: by which its certificates are verified, None for the system's."""
        self._issuer, self._clock = issuer, clock
        self._known: Description | None = None
        self._asked_at = self._failed_at = -math.inf
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(ssl=context if context is not None else True),
            trust_env=True,
        )

    async def close(self) -> None:
        """End the connections."""
        await self._session.close()

    async def description(self) -> Description:
        """Return what it says of itself, as of the last hour; what it said before, while it does
        not answer."""
        now = self._clock()
        due = now - self._asked_at >= FRESH_S and now - self._failed_at >= ASK_AGAIN_S
        if self._known is not None and not due:
            return self._known
        try:
            told = await self._asked("GET", self._issuer.rstrip("/") + WELL_KNOWN)
            self._known = read_description(told, self._issuer)
            self._asked_at = self._clock()
        except AuthenticatorUnavailable:
            self._failed_at = self._clock()
            if self._known is None:
                raise
        return self._known

    async def keys(self) -> Any:
        """Return the keys that it publishes."""
        return await self._asked("GET", (await self.description()).jwks_uri)

    async def person_of(self, token: str) -> Mapping[str, Any]:
        """Return what it says of who a token was given for."""
        endpoint = (await self.description()).userinfo_endpoint
        return await self._asked("GET", endpoint, {"Authorization": f"Bearer {token}"})

    async def token(
        self, form: Mapping[str, str], client_id: str, client_secret: str
    ) -> Mapping[str, Any]:
        """Return what it gives for a code or another grant; Refused if it gives nothing."""
        endpoint = (await self.description()).token_endpoint
        if not endpoint:
            raise AuthenticatorUnavailable("the identity provider tells no token_endpoint")
        headers, sent = {}, dict(form)
        if client_secret:  # RFC 6749, 2.3.1: each is encoded as in a form first
            pair = aiohttp.BasicAuth(quote_plus(client_id), quote_plus(client_secret))
            headers["Authorization"] = pair.encode()
        else:
            sent["client_id"] = client_id
        return await self._asked("POST", endpoint, headers, sent)

    async def _asked(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> Mapping[str, Any]:
        try:
            async with self._session.request(
                method,
                url,
                headers={"Accept": "application/json", **(headers or {})},
                data=form,
                allow_redirects=False,
            ) as answer:
                status, body = answer.status, await _body(answer)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise AuthenticatorUnavailable(
                f"the identity provider does not answer: {type(error).__name__}"
            ) from None  # the error may tell the request, and so a secret
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            told = None
        path = urlsplit(url).path
        if form is not None and 400 <= status < 500 and status != 429:
            raise Refused(_words(told, status))
        if status != 200:
            raise AuthenticatorUnavailable(f"the identity provider answers {status} at {path}")
        if not isinstance(told, Mapping):
            raise AuthenticatorUnavailable(
                f"the identity provider answers no JSON object at {path}"
            )
        return told


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """Return an answer's body; AuthenticatorUnavailable if it has no end."""
    body = bytearray()
    async for piece in answer.content.iter_chunked(64 * 1024):
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise AuthenticatorUnavailable("the identity provider answers without end")
    return bytes(body)


def _words(told: Any, status: int) -> str:
    """Return an error of OAuth as a log may have it: the word for it alone."""
    error = told.get("error") if isinstance(told, Mapping) else None
    plain = isinstance(error, str) and len(error) <= 60 and error.isascii() and error.isprintable()
    return f"{status} {error}" if plain else str(status)


def read_description(told: Mapping[str, Any], issuer: str) -> Description:
    """Return what a provider says of itself; AuthenticatorUnavailable if it is another one, or
    leads where no secret may be sent."""
    if told.get("issuer") != issuer:
        raise AuthenticatorUnavailable(
            f"the identity provider calls itself {told.get('issuer')!r:.200}, and"
            f" c.OIDCAuthenticator.issuer says {issuer!r:.200}: they must be equal to the letter"
        )

    def endpoint(name: str) -> str:
        value = told.get(name, "")
        if value and why_no_address(value):
            raise AuthenticatorUnavailable(
                f"the identity provider's {name} {why_no_address(value)}, not {value!r:.200}"
            )
        return str(value)

    if not told.get("jwks_uri"):
        raise AuthenticatorUnavailable("the identity provider tells no jwks_uri")
    return Description(
        issuer,
        endpoint("jwks_uri"),
        endpoint("authorization_endpoint"),
        endpoint("token_endpoint"),
        endpoint("userinfo_endpoint"),
        told.get("authorization_response_iss_parameter_supported") is True,
    )


def why_no_address(url: object) -> str:
    """Return what is wrong with an address of a provider, empty if nothing: secrets go there, so
    they are encrypted but on this machine."""
    right = "must look like https://login.example.org"
    if (
        not isinstance(url, str)
        or len(url) > MAX_URL
        or not url.isascii()
        or not url.isprintable()
        or " " in url
    ):
        return right
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return right
    if parts.scheme not in ("https", "http") or not host or parts.username or parts.fragment:
        return right
    if parts.scheme == "http" and not is_loopback(host):
        return "must be https, unless it is on this machine"
    return ""
