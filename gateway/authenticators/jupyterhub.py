"""Who somebody is, by a token of a JupyterHub: a user's own, or that of a user's server.

The Hub is asked over its REST API, and nothing of JupyterHub is imported. Whom a token belongs to
is asked with the token itself; who a user is now, with the token of the service that the gateway is
in the Hub. What is said of a token is kept for `cache_ttl_s`, so a revoked one counts no longer.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
from traitlets import Bool, Dict, Float, Set, Unicode

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
    NameRefused,
    Sessions,
    why_no_groups,
)
from gateway.configfile import ConfigurationError
from gateway.server.core.model import Principal

logger = logging.getLogger(__name__)

KEPT = 10_000  # tokens that were right
MAX_TOKEN = 1024  # letters; the Hub's own have 32
MAX_NAME = 255  # letters of a user's name in the Hub
MAX_ANSWER_BYTES = 4 * 1024 * 1024  # a user of many groups and servers has some KiB


@dataclass(frozen=True, slots=True)
class _Right:
    """Whose a token was, and until when that is remembered (on the monotonic clock)."""

    principal: Principal
    until: float


class JupyterHubAuthenticator(Authenticator):
    """Users of a JupyterHub, by its tokens."""

    schemes = ("bearer", "token")
    description = "an API token of JupyterHub"
    client_way = "jupyterhub"
    sessions = (
        Sessions.NEVER
    )  # the Hub takes tokens back one by one, and that counts within seconds
    at_a_time = 16

    api_url = Unicode(
        "",
        help="Address of the Hub's API, such as http://127.0.0.1:8081/hub/api. Empty: that of"
        " JUPYTERHUB_API_URL, which the Hub sets for the services that it starts.",
    ).tag(config=True)
    api_token = Unicode(
        "",
        help="Token of the service that the gateway is in the Hub, with the scopes read:users and"
        " read:users:groups: by it users are asked about by name. Empty: that of"
        " JUPYTERHUB_API_TOKEN; without any, users' tokens of the gateway act with no groups and"
        " not as admins'.",
    ).tag(config=True)
    service_name = Unicode(
        "daskgateway",
        help="Name of that service. Tokens must have the scope access:services!service=NAME, or"
        " access:services.",
    ).tag(config=True)
    hub_admins = Bool(False, help="Whether admins of the Hub may act for every user here.").tag(
        config=True
    )
    admins = Set(Unicode(), help="Users of the Hub that may act for every user.").tag(config=True)
    admin_groups = Set(
        Unicode(), help="Groups of the Hub whose members may act for every user."
    ).tag(config=True)
    services = Dict(
        Unicode(),
        help="Users, as the Hub would name them, whom services of the Hub are here. Others are"
        " kept out.",
    ).tag(config=True)
    cache_ttl_s = Float(
        30.0, min=0, max=60, help="Seconds that what the Hub said of a token is remembered."
    ).tag(config=True)
    timeout_s = Float(5.0, min=0.1, max=30, help="Seconds that the Hub has to answer.").tag(
        config=True
    )
    browser_url = Unicode(
        "",
        help="Address of the Hub as browsers reach it, such as https://hub.example.org/hub: there"
        " people sign in with a browser. Empty: nobody does. The service's oauth_redirect_uri in"
        " the Hub is PUBLIC_URL/login/jupyterhub/callback, with this gateway's public_url.",
    ).tag(config=True)
    client_id = Unicode(
        "",
        help="What the gateway is called at the Hub's login. Empty: that of JUPYTERHUB_CLIENT_ID,"
        " which the Hub sets for the services that it starts, or service-NAME of the service.",
    ).tag(config=True)
    at_once = Bool(
        True,
        help="Whether browsers are sent to the Hub without a question, where that is the only"
        " login page there is.",
    ).tag(config=True)

    def problems(self) -> list[str]:
        """Return what is wrong with the Hub's addresses, one line each."""
        url, found, of = self._url(), [], "c.JupyterHubAuthenticator"
        if not url:
            found.append(f"{of}.api_url: must be set, such as http://127.0.0.1:8081/hub/api")
        elif not _is_address(url):
            found.append(
                f"{of}.api_url: must look like http://127.0.0.1:8081/hub/api, not {url!r:.200}"
            )
        if self.browser_url and not _is_address(self.browser_url):
            found.append(
                f"{of}.browser_url: must look like https://hub.example.org/hub, not"
                f" {self.browser_url!r:.200}"
            )
        if self.browser_url and not self._token():
            found.append(
                f"{of}.api_token: must be set where browser_url is: it is the secret by which the"
                " Hub knows this service at its login"
            )
        return found

    async def open(self) -> None:
        """Make ready to ask; the Hub need not answer yet."""
        if wrong := self.problems():
            raise ConfigurationError("\n".join(wrong))
        self._right: OrderedDict[bytes, _Right] = OrderedDict()
        self._key = os.urandom(32)  # no token stays in memory
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self.timeout_s), cookie_jar=aiohttp.DummyCookieJar()
        )

    async def close(self) -> None:
        """End the connections."""
        await self._session.close()

    @property
    def askable(self) -> bool:
        """Whether there is a token to ask about users with."""
        return bool(self._token())

    def remembered(self, credentials: Credentials) -> Principal | None:
        """Return the user whose token this was within `cache_ttl_s`."""
        if credentials.scheme not in self.schemes:
            return None
        known = self._right.get(self._mark(credentials.value))
        return known.principal if known is not None and known.until > time.monotonic() else None

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Return the user whose token this is, if it may be shown to this service."""
        token = credentials.value
        plain = token.isascii() and token.isalnum() and len(token) <= MAX_TOKEN
        if credentials.scheme not in self.schemes or not plain:
            return None
        mark, asked_at = self._mark(token), time.monotonic()
        self._right.pop(mark, None)
        principal = await self._of_token(token)
        if principal is None:
            return None
        self._right[mark] = _Right(principal, asked_at + self.cache_ttl_s)
        while len(self._right) > KEPT:
            self._right.popitem(last=False)
        return principal

    async def _of_token(self, token: str) -> Principal | None:
        told = await self._asked("user", token)
        if told is None:
            return None
        wanted = {f"access:services!service={self.service_name}", "access:services"}
        if not wanted & set(_texts(told, "scopes")):
            logger.warning(
                "a token of %.100r in JupyterHub is kept out: it has no scope"
                " access:services!service=%s",
                told.get("name"),
                self.service_name,
            )
            return None
        return self._principal(told)

    async def identity(self, user: str) -> Principal | None:
        """Return who a user of the Hub is now; a service's user is its service."""
        if not self.askable:
            return await super().identity(user)
        if user in self.services.values():
            return Principal(user, user in self.admins)
        if not user or len(user) > MAX_NAME or not user.isprintable() or user in (".", ".."):
            return None
        told = await self._asked(f"users/{quote(user, safe='')}", self._token(), missing=404)
        if told is None:
            return None
        found = self._principal(told)
        name = told["name"]
        if name.lower() != user.lower():
            raise AuthenticatorUnavailable("JupyterHub tells of another user than was asked about")
        return found if found.user == user else None

    # For browsers

    @property
    def signs_in_browsers(self) -> bool:
        """Whether it is known where browsers reach the Hub."""
        return bool(self.browser_url)

    async def begin_login(self, redirect_uri: str, state: str) -> Begun:
        """Return where a browser goes: the Hub lets in whom it knows without a question."""
        endpoint = f"{self.browser_url.rstrip('/')}/api/oauth2/authorize"
        return code_request(endpoint, self._client(), redirect_uri, state)

    async def finish_login(
        self, redirect_uri: str, kept: Mapping[str, str], answer: Mapping[str, str]
    ) -> BrowserSignIn:
        """Return who has come back. It stands as long as the Hub takes the token that it gives for
        that: until its user logs out there."""
        form = code_grant(code_in(answer), redirect_uri, kept)
        form |= {"client_id": self._client(), "client_secret": self._token()}
        given = await self._answered("POST", "oauth2/token", {}, form)
        token = given.get("access_token") if given is not None else None
        if not isinstance(token, str):
            raise LoginFailed("JupyterHub does not take the code. Begin anew.")
        found = await self._of_token(token)
        if found is None:
            raise LoginFailed("JupyterHub does not let you use this gateway.")
        return BrowserSignIn(found, token)

    async def still(self, proof: str) -> Principal | None:
        """Return whose the token of a browser's sign-in is, as long as the Hub takes it."""
        return await self._of_token(proof)

    def _client(self) -> str:
        known = self.client_id or os.environ.get("JUPYTERHUB_CLIENT_ID", "")
        return known or f"service-{self.service_name}"

    # What is asked

    def _url(self) -> str:
        return (self.api_url or os.environ.get("JUPYTERHUB_API_URL", "")).rstrip("/")

    def _token(self) -> str:
        return self.api_token or os.environ.get("JUPYTERHUB_API_TOKEN", "")

    def _mark(self, token: str) -> bytes:
        return hashlib.blake2b(
            token.encode(errors="surrogatepass"), digest_size=16, key=self._key
        ).digest()

    def _principal(self, told: Mapping[str, Any]) -> Principal:
        """Return what the Hub's words mean here."""
        name = told.get("name")
        if not isinstance(name, str) or not name:
            raise AuthenticatorUnavailable("JupyterHub tells a user without a name")
        if told.get("kind") == "service":
            if name not in self.services:
                raise NameRefused(
                    name,
                    "it is a service of JupyterHub; the administrator may name whom it is here in"
                    " c.JupyterHubAuthenticator.services",
                )
            return Principal(self.services[name], self.services[name] in self.admins)
        if "groups" not in told:
            raise AuthenticatorUnavailable(
                f"JupyterHub does not tell the groups of {name!r:.100}: the service"
                f" {self.service_name!r} needs the scope read:users:groups"
            )
        groups = tuple(sorted(_texts(told, "groups")))
        if why := why_no_groups(groups):
            raise AuthenticatorUnavailable(f"JupyterHub tells of {name!r:.100} {why}")
        admin = (
            name in self.admins
            or not self.admin_groups.isdisjoint(groups)
            or (self.hub_admins and told.get("admin") is True)
        )
        return Principal(name, admin, groups)

    async def _asked(self, path: str, token: str, missing: int = 403) -> dict[str, Any] | None:
        """Return what the Hub answers, None where it answers that there is nothing:
        AuthenticatorUnavailable for everything else."""
        return await self._answered("GET", path, {"Authorization": f"token {token}"}, None, missing)

    async def _answered(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None = None,
        missing: int = 0,
    ) -> dict[str, Any] | None:
        try:
            async with self._session.request(
                method,
                f"{self._url()}/{path}",
                headers={"Accept": "application/json", **headers},
                data=form,
                allow_redirects=False,
            ) as answer:
                status = answer.status
                if status == missing or (form is not None and status in (400, 401)):
                    if status == 401:
                        logger.error(
                            "JupyterHub does not know this service at its login: the service's"
                            " api_token, or its oauth_client_id, is another there"
                        )
                    return None
                if status != 200:
                    raise AuthenticatorUnavailable(_words(status, path))
                told = json.loads(await _body(answer))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise AuthenticatorUnavailable(
                f"JupyterHub does not answer: {type(error).__name__}"
            ) from None  # the error may tell the request, and so the token
        except (ValueError, RecursionError):
            raise AuthenticatorUnavailable("JupyterHub answers what is no JSON") from None
        if not isinstance(told, dict):
            raise AuthenticatorUnavailable("JupyterHub answers with something else than a user")
        return told


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query
    except ValueError:
        return False


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """Return an answer's body; AuthenticatorUnavailable if it has no end."""
    body = bytearray()
    async for piece in answer.content.iter_chunked(64 * 1024):
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise AuthenticatorUnavailable("JupyterHub answers without end")
    return bytes(body)


def _texts(told: Mapping[str, Any], key: str) -> list[str]:
    value = told.get(key)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise AuthenticatorUnavailable(f"JupyterHub tells {key} that are no list of texts")
    return value


def _words(status: int, path: str) -> str:
    """Return what an answer means that is neither a user nor that there is none."""
    if status == 403:
        return (
            "JupyterHub does not let this service ask about users: its token is wrong, or has not"
            " the scopes read:users and read:users:groups"
        )
    kind = "its API is not at that address" if status in (301, 302, 404) else "it fails"
    return f"JupyterHub answers {status}: {kind} ({path.partition('/')[0]})"
