"""Hadoop's web services behind Kerberos: a server that asks as Hadoop's filter does, and a real
KDC."""

from __future__ import annotations

import base64
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from gateway.backends.contract import BackendUnavailable
from gateway.backends.yarn import spnego
from gateway.backends.yarn.rest import Rest
from gateway.backends.yarn.spnego import SignIn
from tests.parts.kerberos import Realm, realm
from tests.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
realm = realm
COOKIE = 'hadoop.auth="u=alice&p=alice@TEST.REALM&t=kerberos&e=1&s=abc="'


@dataclass
class Guarded:
    """A ResourceManager's web service behind Hadoop's filter."""

    realm: Realm
    port: int
    cookies: bool = True
    signed_in: list[str] = field(default_factory=list)  # by token
    asked: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        """Answer who has signed in, or has the cookie of a sign-in."""
        self.asked += 1
        if self.cookies and COOKIE in request.headers.get("Cookie", ""):
            return web.json_response({"apps": None})
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Negotiate":
            return web.Response(status=401, headers={"WWW-Authenticate": "Negotiate"})
        gssapi: Any = importlib.import_module("gssapi")
        own = gssapi.Credentials(usage="accept", store={"keytab": f"FILE:{self.realm.keytab}"})
        context = gssapi.SecurityContext(creds=own, usage="accept")
        context.step(base64.b64decode(token))
        self.signed_in.append(str(context.initiator_name))
        return web.json_response({"apps": None}, headers={"Set-Cookie": f"{COOKIE}; HttpOnly"})


@asynccontextmanager
async def guarded(realm: Realm, **how: Any) -> AsyncIterator[Guarded]:
    """Such a server."""
    server = Guarded(realm, free_port(), **how)
    app = web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", server.port).start()
        yield server
    finally:
        await runner.cleanup()


async def ask(port: int, sign_in: SignIn, times: int = 1) -> None:
    """Ask for the listing."""
    rest = Rest([f"http://127.0.0.1:{port}"], 30.0, sign_in=sign_in)
    try:
        for _ in range(times):
            assert await rest.live("dgw1") == []
    finally:
        await rest.close()


async def test_one_sign_in_by_a_keytab_serves_many_questions(realm: Realm) -> None:
    sign_in = SignIn("alice@TEST.REALM", str(realm.client_keytab("alice")), 30.0)
    async with guarded(realm) as server:
        await ask(server.port, sign_in, times=3)
    assert server.signed_in == ["alice@TEST.REALM"]
    assert server.asked == 4


async def test_without_cookies_each_question_is_signed(realm: Realm) -> None:
    sign_in = SignIn("alice@TEST.REALM", str(realm.client_keytab("alice")), 30.0)
    async with guarded(realm, cookies=False) as server:
        await ask(server.port, sign_in, times=2)
    assert server.signed_in == ["alice@TEST.REALM"] * 2


async def test_the_ticket_cache_of_the_environment_is_used_without_a_keytab(
    realm: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRB5CCNAME", realm.cache("bob"))
    async with guarded(realm) as server:
        await ask(server.port, SignIn("", "", 30.0))
    assert server.signed_in == ["bob@TEST.REALM"]


async def test_who_has_no_ticket_is_told(realm: Realm) -> None:
    async with guarded(realm) as server:
        with pytest.raises(BackendUnavailable, match=r"Kerberos: no ticket for HTTP/127\.0\.0\.1"):
            await ask(server.port, SignIn("", "", 30.0))


async def test_a_kdc_that_hangs_is_given_up(realm: Realm) -> None:
    sign_in = SignIn("bob@TEST.REALM", str(realm.client_keytab("bob")), 1.0)
    async with guarded(realm) as server:
        with realm.hung(), pytest.raises(BackendUnavailable, match=r"no ticket .* within 1 s"):
            await ask(server.port, sign_in)


@pytest.mark.parametrize(
    ("status", "challenge", "asked"),
    [
        (401, "Negotiate", True),
        (401, "PseudoAuth, Negotiate", True),
        (401, "negotiate abc=", True),
        (401, "Basic realm=x", False),
        (401, "", False),
        (200, "Negotiate", False),
    ],
)
def test_what_asks_for_kerberos(status: int, challenge: str, asked: bool) -> None:
    assert spnego.asks(status, challenge) is asked
