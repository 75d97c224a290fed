"""How a program without a browser gets tokens of an OpenID provider: by a code that its user enters
elsewhere (RFC 8628), by what it was given before, or by a secret of its own (RFC 6749, 4.4 and 6).

Knows HTTP and the provider, and nothing of the gateway.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit, urlunsplit

from gateway.client.calls import errors, forward_proxy
from gateway.networks import is_loopback

WELL_KNOWN = "/.well-known/openid-configuration"
TIMEOUT_S = 15.0
MAX_ANSWER_BYTES = 1024 * 1024
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
INTERVAL_S, SLOWER_S, MAX_INTERVAL_S = 5.0, 5.0, 60.0  # RFC 8628, 3.2 and 3.5
DEFAULT_LIFE_S = 60.0  # of an access token whose end is not told
MAX_DEVICE_S = 1800.0  # a code is not waited for any longer


@dataclass(frozen=True)
class Program:
    """What this program is to a provider."""

    issuer: str
    client_id: str
    scope: str = "openid"
    client_secret: str = ""

    def __repr__(self) -> str:
        return f"Program({self.issuer!r}, {self.client_id!r})"


@dataclass(frozen=True)
class Grant:
    """What a provider gave."""

    access_token: str
    expires_at: float  # s since the epoch
    refresh_token: str = ""  # empty if there is none: then it cannot be renewed

    def __repr__(self) -> str:
        return f"Grant(expires_at={self.expires_at:.0f})"


@dataclass(frozen=True)
class DeviceCode:
    """What a user enters in a browser, and what is asked for meanwhile."""

    address: str  # where it is entered
    user_code: str
    address_with_code: str  # the same address with the code in it; empty if there is none
    expires_in_s: float
    interval_s: float
    device_code: str
    verifier: str

    def __repr__(self) -> str:
        return f"DeviceCode({self.address!r})"


class Refused(errors.AuthenticationFailed):
    """The provider gives nothing for what it was shown; `error` is its word for why."""

    def __init__(self, message: str, error: str = "", **told: Any) -> None:
        super().__init__(message, **{"code": "UNAUTHENTICATED", **told})
        self.error = error


def device_code(program: Program) -> DeviceCode:
    """Return what the user is to enter, and where."""
    endpoint = _endpoint(program.issuer, "device_authorization_endpoint")
    verifier = secrets.token_urlsafe(48)
    digest = hashlib.sha256(verifier.encode()).digest()
    told = _posted(
        endpoint,
        program,
        {
            "scope": program.scope,
            # some providers ask for PKCE here as well
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        },
    )
    return DeviceCode(
        _address(told, "verification_uri", endpoint),
        _text(told, "user_code", endpoint),
        _address(told, "verification_uri_complete", endpoint)
        if told.get("verification_uri_complete")
        else "",
        min(_seconds(told, "expires_in", MAX_DEVICE_S), MAX_DEVICE_S),
        min(max(_seconds(told, "interval", INTERVAL_S), 1.0), MAX_INTERVAL_S),
        _text(told, "device_code", endpoint),
        verifier,
    )


def entered(
    program: Program,
    code: DeviceCode,
    wait: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Grant:
    """Return what is given once the user has entered the code; AuthenticationFailed if the user
    does not, or refuses."""
    endpoint, interval_s = _endpoint(program.issuer, "token_endpoint"), code.interval_s
    ends_at = clock() + code.expires_in_s
    form = {
        "grant_type": DEVICE_CODE,
        "device_code": code.device_code,
        "code_verifier": code.verifier,
    }
    while clock() + interval_s < ends_at:
        wait(interval_s)
        try:
            return _granted(_posted(endpoint, program, form), endpoint)
        except errors.Unreachable:
            interval_s = min(interval_s * 2, MAX_INTERVAL_S)  # RFC 8628, 3.5
        except Refused as refused:
            if refused.error == "slow_down":
                interval_s = min(interval_s + SLOWER_S, MAX_INTERVAL_S)
            elif refused.error == "access_denied":
                raise Refused("the sign-in was refused in the browser", refused.error) from None
            elif refused.error != "authorization_pending":
                raise
    raise Refused("nobody entered the code in time; begin anew", "expired_token")


def renewed(program: Program, refresh_token: str) -> Grant:
    """Return another access token; Refused if the sign-in is over."""
    endpoint = _endpoint(program.issuer, "token_endpoint")
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    found = _granted(_posted(endpoint, program, form), endpoint)
    return (
        found if found.refresh_token else Grant(found.access_token, found.expires_at, refresh_token)
    )


def of_its_own(program: Program) -> Grant:
    """Return an access token of the program's own, by its secret."""
    endpoint = _endpoint(program.issuer, "token_endpoint")
    form = {"grant_type": "client_credentials", "scope": program.scope}
    return _granted(_posted(endpoint, program, form), endpoint)


def forgotten(program: Program, refresh_token: str) -> bool:
    """Have the provider forget what it gave; whether it says it has."""
    endpoint = _endpoint(program.issuer, "revocation_endpoint", needed=False)
    if not endpoint or not refresh_token:
        return False
    form = {"token": refresh_token, "token_type_hint": "refresh_token"}
    try:
        _posted(endpoint, program, form, empty=True)
    except (Refused, errors.Unreachable):
        return False
    return True


def _granted(told: Mapping[str, Any], where: str) -> Grant:
    refresh = told.get("refresh_token")
    return Grant(
        _text(told, "access_token", where),
        time.time() + _seconds(told, "expires_in", DEFAULT_LIFE_S),
        refresh if isinstance(refresh, str) else "",
    )


def _endpoint(issuer: str, name: str, *, needed: bool = True) -> str:
    """Return an address that the provider tells of itself, of which it must be sure who it is."""
    where = issuer.rstrip("/") + WELL_KNOWN
    _check(where, "the identity provider's issuer")
    told = _json(_opened(where, {}), where)
    if told.get("issuer") != issuer:
        raise errors.GatewayError(
            f"the identity provider at {issuer} calls itself {told.get('issuer')!r:.200}: nothing"
            " is sent to it",
            code="FAILED_PRECONDITION",
        )
    if not told.get(name):
        if not needed:
            return ""
        words = {"device_authorization_endpoint": ": it lets nobody sign in by a code"}
        raise errors.GatewayError(
            f"the identity provider {issuer} tells no {name}{words.get(name, '')}",
            code="FAILED_PRECONDITION",
        )
    return _address(told, name, where)


def _posted(
    endpoint: str, program: Program, form: Mapping[str, str], *, empty: bool = False
) -> Mapping[str, Any]:
    """Return what is answered to a form; Refused."""
    headers, sent = {}, dict(form)
    if program.client_secret:  # RFC 6749, 2.3.1
        pair = f"{quote_plus(program.client_id)}:{quote_plus(program.client_secret)}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        sent["client_id"] = program.client_id
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    body = _opened(endpoint, headers, urlencode(sent))
    return {} if empty else _json(body, endpoint)


def _opened(url: str, headers: Mapping[str, str], form: str | None = None) -> bytes:
    """Return an answer's body; Refused, or Unreachable. Redirects are not followed: what is sent to
    a provider is sent to nobody else."""
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    place = parts.netloc
    try:
        context = ssl.create_default_context() if secure else None
        with contextlib.closing(
            forward_proxy.connection(url, host, port, TIMEOUT_S, context)
        ) as connection:
            path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
            method = "GET" if form is None else "POST"
            connection.request(
                method, path, body=form, headers={"Accept": "application/json", **headers}
            )
            answer = connection.getresponse()
            status, body = answer.status, answer.read(MAX_ANSWER_BYTES + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise errors.Unreachable(
            f"the identity provider {place} is not reached: {why}", code="UNAVAILABLE"
        ) from None
    if form is not None and 400 <= status < 500 and status != 429:
        raise _refused(body, place, status)
    if not 200 <= status < 300:
        raise errors.Unreachable(
            f"the identity provider {place} answers {status}", code="UNAVAILABLE"
        )
    if len(body) > MAX_ANSWER_BYTES:
        raise errors.Unreachable(
            f"the identity provider {place} answers without end", code="UNAVAILABLE"
        )
    return body


def _refused(body: bytes, host: str, status: int) -> Refused:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    error = str(told.get("error") or "")[:60] if isinstance(told, Mapping) else ""
    words = str(told.get("error_description") or "")[:300] if isinstance(told, Mapping) else ""
    why = ": ".join(one for one in (error or f"status {status}", words) if one)
    return Refused(f"the identity provider {host} refuses: {why}", error)


def _json(body: bytes, where: str) -> Mapping[str, Any]:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, Mapping):
        raise errors.Unreachable(f"{where} answers no JSON object", code="UNAVAILABLE")
    return told


def _text(told: Mapping[str, Any], name: str, where: str) -> str:
    value = told.get(name)
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
        raise errors.Unreachable(f"{where} answers without {name}", code="UNAVAILABLE")
    return value


def _address(told: Mapping[str, Any], name: str, where: str) -> str:
    value = _text(told, name, where)
    _check(value, f"{name} of {where}")
    return value


def _seconds(told: Mapping[str, Any], name: str, usual: float) -> float:
    value = told.get(name)
    right = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9
    return float(value) if right and value is not None else usual


def _check(url: str, what: str) -> None:
    """Raise InsecureAddress for an address that secrets would travel to in clear text."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    secure = bool(host) and (
        parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    )
    if not secure:
        raise errors.InsecureAddress(
            f"{what} must be https://, not {url!r:.200}: nothing was sent there",
            code="FAILED_PRECONDITION",
        )
