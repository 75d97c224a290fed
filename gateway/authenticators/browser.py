"""What an authenticator promises that signs people in by a login page of its own: where a browser
is sent, and who it was that comes back. OAuth's code with PKCE (RFC 6749, 7636, 9700), which such
pages have in common, is here too.

What must be known when the browser comes back travels with the browser, sealed by the gateway: so
logins that are begun and never finished cost no memory, and any server of an installation finishes
what another has begun.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable
from urllib.parse import urlencode

from gateway.server.core.model import Principal

MAX_CODE = 4096  # letters of a code; those of known providers have some hundred


class LoginFailed(Exception):
    """The browser has come back, and nobody is signed in: the text says why, for people."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A login that a browser is sent to."""

    url: str
    #: what must be known when it comes back; no browser can read it
    kept: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class BrowserSignIn:
    """Who has come back."""

    principal: Principal
    #: by what the source is asked whether the sign-in still stands; kept sealed. Empty: it stands
    #: until it expires
    proof: str = field(default="", repr=False)


@runtime_checkable
class SignsInBrowsers(Protocol):
    """An authenticator with a login page."""

    #: where the site has only this one, browsers are sent to it without a question
    at_once: bool

    @property
    def signs_in_browsers(self) -> bool:
        """Whether it is configured to."""

    async def begin_login(self, redirect_uri: str, state: str) -> Begun:
        """Return where a browser goes. AuthenticatorUnavailable."""

    async def finish_login(
        self, redirect_uri: str, kept: Mapping[str, str], answer: Mapping[str, str]
    ) -> BrowserSignIn:
        """Return who has come back with an answer, as the source calls them. LoginFailed;
        NameRefused; AuthenticatorUnavailable.

        `answer` is the query that the browser came back with; its `state` was compared before.
        """

    async def still(self, proof: str) -> Principal | None:
        """Return who a sign-in belongs to now, None if it stands no longer.
        AuthenticatorUnavailable."""


def code_request(
    endpoint: str, client_id: str, redirect_uri: str, state: str, **more: str
) -> Begun:
    """Return a request for a code, with PKCE."""
    verifier = secrets.token_urlsafe(48)
    asked = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "state": state,
        "code_challenge": challenge(verifier),
        "code_challenge_method": "S256",
        **more,
    }
    joint = "&" if "?" in endpoint else "?"
    return Begun(f"{endpoint}{joint}{urlencode(asked)}", {"verifier": verifier})


def code_in(answer: Mapping[str, str], issuer: str = "", *, must_name_it: bool = False) -> str:
    """Return the code that a browser came back with; LoginFailed if there is none, or if another
    provider gave it (RFC 9207)."""
    named = answer.get("iss", "")
    if issuer and (
        (named or must_name_it) and not hmac.compare_digest(named.encode(), issuer.encode())
    ):
        raise LoginFailed("The answer is not that of the identity provider that was asked.")
    if error := answer.get("error", ""):
        words = "The sign-in was refused there." if error == "access_denied" else ""
        plain = error[:60] if error.isascii() and error.isprintable() else "an error"
        raise LoginFailed(words or f"The identity provider answers: {plain}.")
    code = answer.get("code", "")
    if not code or len(code) > MAX_CODE or not code.isascii() or not code.isprintable():
        raise LoginFailed("The browser came back without a code.")
    return code


def code_grant(code: str, redirect_uri: str, kept: Mapping[str, str]) -> dict[str, str]:
    """Return the form that a code is exchanged by."""
    return {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "code_verifier": kept.get("verifier", ""),
    }


def challenge(verifier: str) -> str:
    """Return what a verifier is promised by (S256)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
