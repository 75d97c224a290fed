"""Users of a real JupyterHub, by their tokens: the suite, and what the Hub has of its own."""

from __future__ import annotations

import asyncio
import os
import pathlib
import ssl
import sys
from collections.abc import AsyncIterator
from functools import partial

import pytest

from gateway.authenticators.conformance import Conformance, Source
from gateway.authenticators.contract import (
    Authenticator,
    AuthenticatorUnavailable,
    Credentials,
    IdentityNotTold,
    NameRefused,
)
from gateway.authenticators.jupyterhub import JupyterHubAuthenticator
from gateway.configfile import ConfigurationError
from gateway.server.core.model import Principal
from tests.authenticators import liars
from tests.listening import listening
from tests.parts.client_certificates import Authority
from tests.parts.jupyterhub import Hub, Wire, bearer, started_hub

__all__ = ["started_hub"]
CANNOT = {
    "names": "a token names nobody before the Hub is asked",
    "passwords": "there are tokens only",
    "replayed": "a token is sent with every call",
    "ending": "accounts of the Hub have no end",
    "odd": "the Hub itself makes small letters of names",
    "stamps": "a user has many tokens, and the Hub tells by name of none",
    "off_by": "the Hub alone judges whether a token has expired",
}
BOB = {"name": "bob", "groups": [], "admin": True, "scopes": ["access:services"]}
# what no user of a Hub can be, by what it is
LIES = {
    "a number for a name": {**BOB, "name": 7},
    "no name": {**BOB, "name": ""},
    "a list of names": {**BOB, "name": ["bob"]},
    "null for a name": {**BOB, "name": None},
    "a text for groups": {**BOB, "groups": "physics"},
    "numbers for groups": {**BOB, "groups": [7]},
    "null for groups": {**BOB, "groups": None},
    "no groups at all": {"name": "bob", "scopes": ["access:services"]},
    "groups of a million": {**BOB, "groups": ["g"] * 1_000_000},
    "six thousand groups": {**BOB, "groups": [f"group-{n}" for n in range(6000)]},
    "a group of a million letters": {**BOB, "groups": ["g" * 1_000_000]},
    "a group without a name": {**BOB, "groups": [""]},
    "NUL in a group": {**BOB, "groups": ["phys\0ics"]},
    "half a letter in a group": {**BOB, "groups": ["\ud800"]},
}
# and of tokens alone
LIES_OF_TOKENS = {
    "a table for scopes": {**BOB, "scopes": {"access:services": 1}},
    "a text for scopes": {**BOB, "scopes": "access:services"},
}


def authenticator(hub: Hub, port: int | None = None, **settings: object) -> JupyterHubAuthenticator:
    """Return an authenticator of a Hub, over a wire if there is one."""
    where = hub.api if port is None else f"http://127.0.0.1:{port}/hub/api"
    given = {"api_token": hub.service, "hub_admins": True, "cache_ttl_s": 0.2, "timeout_s": 2.0}
    return JupyterHubAuthenticator(api_url=where, **{**given, **settings})


class TestJupyterHub(Conformance):
    """The suite."""

    @pytest.fixture
    async def source(self, started_hub: Hub) -> AsyncIterator[Source]:
        await started_hub.answering()
        wire = Wire(started_hub.port)
        await wire.start()

        async def again() -> Authenticator:
            return authenticator(started_hub, wire.port)

        source = Source(
            await again(),
            again=again,
            add=started_hub.change,
            show=started_hub.show,
            wrong=started_hub.wrong,
            change=started_hub.change,
            remove=started_hub.remove,
            renew=started_hub.renew,
            expired=started_hub.expired,
            outage=wire.cut,
            hang=wire.held,
            slow=wire.slow,
            lies={
                **{what: partial(wire.lying, liar) for what, liar in liars.LIES.items()},
                **{what: partial(wire.lying, liars.telling(told)) for what, told in LIES.items()},
            },
            impostor=partial(wire.lying, liars.telling(BOB)),
            names=False,
            passwords=False,
            stamps=False,
            cannot=CANNOT,
            fresh_s=30.0,
        )
        try:
            await source.open()
            yield source
            await source.close()
        finally:
            for user in [one["name"] for one in await started_hub.ask("GET", "users")]:
                await started_hub.remove(user)
            await wire.stop()


@pytest.fixture
async def hub(started_hub: Hub) -> Hub:
    """A Hub that answers, with alice."""
    await started_hub.answering()
    await started_hub.change("alice", admin=True, groups=("physics",))
    return started_hub


async def told_by(one: Authenticator, credentials: Credentials) -> Principal | None:
    """Return who somebody is by an authenticator that is opened for that alone."""
    await one.open()
    try:
        return await one.authenticate(credentials)
    finally:
        await one.close()


async def test_a_token_without_the_scope_of_this_service_lets_nobody_in(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    _, narrow = await hub.token("alice", scopes=["read:users:name!user=alice"])
    assert await told_by(authenticator(hub), bearer(narrow)) is None
    assert "'alice' in JupyterHub is kept out: it has no scope access:services" in caplog.text
    assert narrow not in caplog.text
    _, right = await hub.token("alice", scopes=["access:services!service=daskgateway"])
    found = await told_by(authenticator(hub), bearer(right))
    assert found is not None
    assert (found.user, found.groups) == ("alice", ("physics",))
    assert await told_by(authenticator(hub, service_name="another"), bearer(right)) is None


async def test_admins_are_those_of_the_hub_of_a_group_or_of_the_configuration(hub: Hub) -> None:
    token = await hub.show("alice")
    for settings, admin in (
        ({"hub_admins": True}, True),
        ({"hub_admins": False}, False),
        ({"hub_admins": False, "admin_groups": {"physics"}}, True),
        ({"hub_admins": False, "admin_groups": {"chemistry"}}, False),
        ({"hub_admins": False, "admins": {"alice"}}, True),
    ):
        one = authenticator(hub, **settings)
        await one.open()
        try:
            for found in (await one.authenticate(token), await one.identity("alice")):
                assert found is not None
                assert found.admin is admin, settings
        finally:
            await one.close()


async def test_a_service_of_the_hub_is_whom_the_administrator_says(hub: Hub) -> None:
    with pytest.raises(NameRefused, match="'robot': it is a service of JupyterHub"):
        await told_by(authenticator(hub), bearer(hub.robot))
    one = authenticator(hub, services={"robot": "nightly"})
    await one.open()
    try:
        assert await one.authenticate(bearer(hub.robot)) == Principal("nightly")
        assert await one.identity("nightly") == Principal("nightly")
    finally:
        await one.close()


async def test_a_wrong_token_of_the_service_is_an_outage_and_says_what_is_wrong(hub: Hub) -> None:
    one = authenticator(hub, api_token="0" * 32)
    await one.open()
    try:
        assert await one.authenticate(await hub.show("alice")) is not None
        with pytest.raises(AuthenticatorUnavailable, match="its token is wrong, or has not the"):
            await one.identity("alice")
    finally:
        await one.close()


async def test_without_a_token_of_the_service_nobody_is_asked_about_by_name(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN", raising=False)
    one = authenticator(hub, api_token="")
    assert not one.askable
    with pytest.raises(IdentityNotTold):
        await one.identity("alice")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", hub.service)
    assert one.askable


@pytest.mark.parametrize("told", LIES_OF_TOKENS.values(), ids=LIES_OF_TOKENS)
async def test_scopes_that_cannot_be_read_are_an_outage_and_let_nobody_in(
    hub: Hub, told: dict[str, object]
) -> None:
    wire = Wire(hub.port)
    await wire.start()
    try:
        async with wire.lying(liars.telling(told)):
            with pytest.raises(AuthenticatorUnavailable, match=r"^JupyterHub tells scopes"):
                await told_by(authenticator(hub, wire.port), bearer("a" * 32))
    finally:
        await wire.stop()


ASKING = """
import asyncio, sys
from gateway.authenticators.contract import Credentials
from gateway.authenticators.jupyterhub import JupyterHubAuthenticator

async def ask():
    one = JupyterHubAuthenticator(api_url=sys.argv[1], api_token="s", timeout_s=30.0)
    await one.open()
    try:
        print((await one.authenticate(Credentials("bearer", "a" * 32, "192.0.2.1"))).user)
    finally:
        await one.close()

asyncio.run(ask())
"""


@pytest.mark.parametrize("trusted", [True, False])
async def test_the_authority_of_a_hub_over_tls_is_what_the_environment_names(
    trusted: bool, tmp_path: pathlib.Path
) -> None:
    site = Authority(tmp_path, "site")
    pair = site.server("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    there = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    if trusted:
        there["SSL_CERT_FILE"] = str(site.path)
    async with listening(liars.telling(BOB), ssl=context) as port:
        asking = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", ASKING, f"https://127.0.0.1:{port}/hub/api"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=there,
        )
        out, error = await asking.communicate()
    if trusted:
        assert out == b"bob\n", error
    else:
        assert b"AuthenticatorUnavailable: JupyterHub" in error


@pytest.mark.parametrize("url", ["", "hub", "ftp://hub/api", "http://", "http://[::1/hub"])
async def test_an_address_that_is_none_is_told_at_the_start(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUPYTERHUB_API_URL", raising=False)
    one = JupyterHubAuthenticator(api_url=url)
    assert "c.JupyterHubAuthenticator.api_url: must" in one.problems()[0]
    with pytest.raises(ConfigurationError, match="api_url"):
        await one.open()
