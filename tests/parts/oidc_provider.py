"""A real OpenID provider (npm's oidc-provider), and somebody who fills in its forms."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import html
import os
import pathlib
import re
import secrets
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import aiohttp
import pytest
from yarl import URL

from tests.parts import missing, program
from tests.parts.jupyterhub import Wire
from tests.ports import free_ports

HERE = pathlib.Path(__file__).parent / "oidc"
CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
PARTS = pathlib.Path(CACHE) / "daskgateway" / "parts" / "oidc"
INSTALL = "scripts/install_parts.sh"
START_S = 60.0
AUDIENCE = "dask-gateway"
ROBOT, ROBOT_SECRET = "robot", "a secret of the robot: %+/"
REDIRECT = "http://127.0.0.1/callback"
_FORM = re.compile(r'<form[^>]*action="(?P<action>[^"]*)"[^>]*>(?P<body>.*?)</form>', re.DOTALL)
_INPUT = re.compile(r"<input(?P<words>[^>]*)>")


class OpenIDProvider:
    """The provider, which is called by the address of a wire to it; and what a test asks of it."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.port, self.front = free_ports(2)
        self.issuer = f"http://127.0.0.1:{self.front}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        if not (PARTS / "node_modules" / "oidc-provider").is_dir():
            missing("npm's oidc-provider", INSTALL)
        node = program("node", INSTALL)
        with (self.directory / "provider.log").open("wb") as log:
            self._process = subprocess.Popen(
                [node, str(HERE / "provider.mjs"), str(PARTS), self.issuer, str(self.port)],
                cwd=self.directory,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    async def answering(self) -> None:
        """Wait until it answers."""
        async with asyncio.timeout(START_S), aiohttp.ClientSession() as session:
            while True:
                assert self._process is not None
                log = self.directory / "provider.log"
                assert self._process.poll() is None, log.read_text()[-3000:]
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"http://127.0.0.1:{self.port}/jwks") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.1)

    async def order(self, name: str, **words: Any) -> None:
        """Have something changed: people, remove, rotate, client."""
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{self.port}/test/{name}"
            async with session.post(url, json=words) as answer:
                assert answer.status == 204, await answer.text()

    async def robot_token(self, client: str = ROBOT, secret: str = ROBOT_SECRET) -> str:
        """Return an access token of a program's own."""
        async with aiohttp.ClientSession() as session:
            return str(
                (
                    await self.token(
                        session,
                        {
                            "grant_type": "client_credentials",
                            "client_id": client,
                            "client_secret": secret,
                        },
                    )
                )["access_token"]
            )

    async def token(
        self, session: aiohttp.ClientSession, form: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """Return what is given for a grant."""
        async with session.post(f"{self.issuer}/token", data=form) as answer:
            told: dict[str, Any] = await answer.json()
            assert answer.status == 200, told
            return told

    async def tokens(self, user: str, client: str = "cli", **more: str) -> Mapping[str, Any]:
        """Return what somebody gets who signs in with a browser, for a program of this machine."""
        verifier = secrets.token_urlsafe(48)
        asked = {
            "client_id": client,
            "redirect_uri": REDIRECT,
            "response_type": "code",
            "scope": "openid",
            "state": "a state",
            "code_challenge_method": "S256",
            "code_challenge": challenge(verifier),
            **more,
        }
        async with person() as session:
            found = await walk(session, str(URL(f"{self.issuer}/auth").with_query(asked)), user)
            answer = parse_qs(urlsplit(found).query)
            return await self.token(
                session,
                {
                    "grant_type": "authorization_code",
                    "client_id": client,
                    "code": answer["code"][0],
                    "redirect_uri": REDIRECT,
                    "code_verifier": verifier,
                },
            )


def challenge(verifier: str) -> str:
    """Return what a verifier is promised by (RFC 7636, S256)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@contextlib.asynccontextmanager
async def person() -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody with a browser of their own."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


async def walk(
    session: aiohttp.ClientSession,
    url: str,
    user: str,
    until: Sequence[str] = (REDIRECT,),
    fill: Callable[[str, str], dict[str, str]] | None = None,
) -> str:
    """Follow redirects and fill in the provider's forms until an address begins with one of
    `until`, which is returned and not visited; or until a page has no form, whose address is
    returned. `fill` makes a form's fields of its HTML and the user."""
    form: dict[str, str] | None = None
    for _ in range(40):
        if url.startswith(tuple(until)):
            return url
        method = "GET" if form is None else "POST"
        async with session.request(
            method, URL(url, encoded=True), data=form, allow_redirects=False
        ) as answer:
            text = await answer.text()
            if answer.status in (301, 302, 303, 307):
                url, form = urljoin(url, answer.headers["Location"]), None
                continue
        assert answer.status == 200, f"{answer.status} at {url}: {text[:2000]}"
        found = _FORM.search(text)
        if found is None:
            return url
        url = urljoin(url, html.unescape(found["action"]))
        form = (fill or filled)(found["body"], user)
    raise AssertionError(f"no end of forms at {url}")


def filled(body: str, user: str) -> dict[str, str]:
    """Return a form's fields as somebody fills them in."""
    form = {}
    for one in _INPUT.finditer(body):
        words = dict(re.findall(r'(\w+)="([^"]*)"', one["words"]))
        if "name" in words:
            form[words["name"]] = html.unescape(words.get("value", ""))
    if "login" in form:
        form |= {"login": user, "password": "any"}
    return form


@pytest.fixture(scope="module")
def started_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenIDProvider]:
    """A provider for a module's tests."""
    provider = OpenIDProvider(tmp_path_factory.mktemp("oidc"))
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()


@contextlib.asynccontextmanager
async def wired(provider: OpenIDProvider) -> AsyncIterator[Wire]:
    """Carry what is sent to the provider's address to it."""
    await provider.answering()
    wire = Wire(provider.port)
    wire.port = provider.front
    await wire.start()
    try:
        yield wire
    finally:
        await wire.stop()
