"""Keycloak, as docs/keycloak.md has it set up, word by word: people with a browser, from a terminal
and by other programs' tokens, a robot; what its administrator does, and while it is away."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import dask.config
import jwt
import pytest
import yaml

from gateway import Gateway
from gateway.client.calls import grants
from gateway.client.calls.errors import AuthenticationFailed, Unavailable
from gateway.client.calls.grants import DeviceCode, Grant, Program
from gateway.client.calls.logins import Login, LoginFile, made
from tests.docs.pages import blocks, run
from tests.e2e.gateway_process import GatewayProcess
from tests.parts import terminal
from tests.parts.keycloak import Keycloak, browser, filled, keycloak, started_keycloak
from tests.parts.oidc_provider import walk
from tests.ports import free_port

__all__ = ["keycloak", "started_keycloak"]
pytestmark = pytest.mark.timeout(900)
GATEWAY, ISSUER = "https://dask.example.org", "https://login.example.org/realms/main"
CLI = "daskgateway-cli"


@dataclass
class Site:
    """What the page's reader has at its end."""

    gateway: GatewayProcess
    robot_secret: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, started_keycloak: Keycloak) -> Iterator[Site]:
    """A gateway and its Keycloak, by the page's own lines."""
    started_keycloak.start()
    place = tmp_path_factory.mktemp("site")
    address = f"http://127.0.0.1:{free_port()}"
    for name, text in zip(("gateway", "cli", "robot"), blocks("keycloak", "json"), strict=True):
        (place / f"{name}.json").write_text(text.replace(GATEWAY, address))
    commands = blocks("keycloak", "console")[0].replace(
        "https://login.example.org", started_keycloak.address
    )
    commands = commands.replace("--user admin", "--user root-of-keycloak")
    done = run(commands, place, **started_keycloak.kcadm(place))
    assert done.returncode == 0, done.stderr
    gateway_secret, robot_secret = re.findall(r'"secret" : "([^"]+)"', done.stdout)
    [settings] = blocks("keycloak", "{code-block} python")
    settings = settings.replace(GATEWAY, address).replace(ISSUER, started_keycloak.issuer)
    settings = settings.replace("the secret of daskgateway", gateway_secret)
    started_keycloak.tokens("alice")  # its first answers are its slowest
    served = GatewayProcess(
        place,
        settings,
        f"c.Proxy.address = {urlsplit(address).netloc!r}",
        "c.OIDCAuthenticator.timeout_s = 30",
        "c.DaskGateway.drain_s = 0.5",
    )
    checked = daskgateway(place, "check-config", "--config", str(served.config))
    assert (checked.returncode, checked.stderr) == (0, ""), checked
    try:
        served.start()
        yield Site(served, robot_secret)
    finally:
        served.end()


def daskgateway(
    home: pathlib.Path, *words: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command as somebody with this home directory."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *words],
        env={**os.environ, "HOME": str(home), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def who(address: str, token: str, **settings: Any) -> tuple[str, bool, list[str]]:
    """Return whom a gateway takes the bearer of a token for."""
    with dask.config.set({"gateway": {"retry-for": "30s", **settings}}):
        with Gateway(address, auth=token) as gateway:
            caller = gateway.whoami()
            return caller.user, caller.admin, sorted(caller.groups)


async def test_people_sign_in_with_a_browser_by_a_code_and_pkce(
    keycloak: Keycloak, site: Site
) -> None:
    address = site.gateway.address
    for user, let_in in (("alice", True), ("guest", False)):
        async with browser(keycloak) as person:
            back = f"{address}/login/oidc/callback"
            found = await walk(person, f"{address}/login/oidc/begin", user, (back,), filled)
            assert "code=" in found
            assert "iss=" in found
            async with person.get(found) as answer:
                text = await answer.text()
            assert (f"signed in as <b>{user}</b>" in text) is let_in, text
            if not let_in:
                assert "You are in none of the groups" in text
                continue
            async with person.get(found) as answer:  # a code is good once
                assert answer.status == 403
            async with person.get(f"{address}/login") as answer:
                assert "signed in as <b>alice</b>" in await answer.text()


async def test_the_pages_commands_sign_in_from_a_terminal_and_out(
    keycloak: Keycloak, site: Site, tmp_path: pathlib.Path
) -> None:
    [login, whoami, logout] = [
        line.removeprefix("$ daskgateway ").replace(GATEWAY, site.gateway.address).split()
        for line in blocks("keycloak", "{code-block} console")[0].splitlines()
    ]

    async def enter(shown: str) -> None:
        async with browser(keycloak) as person:
            await walk(person, shown, "carol", ("nowhere",), filled)

    words = [sys.executable, "-m", "gateway", *login]
    mine = {**os.environ, "HOME": str(tmp_path)}
    code, out, error = await terminal.ran(words, mine, enter)
    assert (code, out) == (0, "signed in as carol\n"), error
    told = await asyncio.to_thread(daskgateway, tmp_path, *whoami)
    assert told.stdout.splitlines()[0].startswith("carol"), told
    assert "signed in by oidc, until " in told.stdout
    # another refresh token comes with each renewal, and the old one is good for nothing
    file = LoginFile(tmp_path / ".config/daskgateway/logins.json")
    before = file.read(site.gateway.address)
    assert isinstance(before, Login)
    file.keep(site.gateway.address, made(before.program, ended(before.grant), "oidc"))
    told = await asyncio.to_thread(daskgateway, tmp_path, *whoami)
    assert told.returncode == 0, told
    after = file.read(site.gateway.address)
    assert isinstance(after, Login)
    assert after.grant.refresh_token not in ("", before.grant.refresh_token)
    told = await asyncio.to_thread(daskgateway, tmp_path, *logout)
    assert (told.returncode, told.stdout) == (0, "signed out\n"), told
    with pytest.raises(grants.Refused, match="invalid_grant"):
        await asyncio.to_thread(grants.renewed, after.program, after.grant.refresh_token)


def ended(grant: Grant) -> Grant:
    """Return a grant whose access token has ended."""
    return Grant("ended", 0.0, grant.refresh_token)


def test_slow_down_is_honoured(keycloak: Keycloak, site: Site) -> None:
    program = Program(keycloak.issuer, "patient-cli")
    code = grants.device_code(program)
    waited: list[float] = []

    class Enough(Exception):
        """It has been seen."""

    def wait(span_s: float) -> None:
        """Wait for less than is promised, while somebody else polls: then that is too soon."""
        waited.append(span_s)
        if len(waited) == 2:
            raise Enough
        assert poll(keycloak, program.client_id, code) == "authorization_pending"

    with pytest.raises(Enough):
        grants.entered(program, code, wait)
    assert waited == [30.0, 35.0]


async def test_an_administrators_logout_ends_a_sign_in_from_a_terminal(
    keycloak: Keycloak, site: Site, tmp_path: pathlib.Path
) -> None:
    program = Program(keycloak.issuer, CLI, "openid offline_access")
    code = await asyncio.to_thread(grants.device_code, program)
    async with browser(keycloak) as person:
        await walk(person, code.address_with_code, "alice", ("nowhere",), filled)
    grant = await asyncio.to_thread(grants.entered, program, code)
    user, admin, groups = await asyncio.to_thread(who, site.gateway.address, grant.access_token)
    assert (user, admin, groups) == ("alice", False, ["/researchers"])
    file = LoginFile(tmp_path / ".config/daskgateway/logins.json")
    file.keep(site.gateway.address, made(program, ended(grant), "oidc"))
    await asyncio.to_thread(keycloak.logged_out, "alice")
    told = await asyncio.to_thread(
        daskgateway, tmp_path, "whoami", "--address", site.gateway.address
    )
    assert told.returncode == 1
    assert "`daskgateway login` again" in told.stderr, told


def poll(keycloak: Keycloak, client_id: str, code: DeviceCode) -> str:
    """Ask once for what a device code gives; return the word for why it is nothing."""
    form = {
        "grant_type": grants.DEVICE_CODE,
        "device_code": code.device_code,
        "client_id": client_id,
        "code_verifier": code.verifier,
    }
    try:
        keycloak.token(form)
    except urllib.error.HTTPError as error:
        with error:
            return str(json.load(error)["error"])
    raise AssertionError("nobody has entered the code yet")


def test_tokens_of_other_programs_say_who_over_grpc_and_http_if_they_are_meant_for_it(
    keycloak: Keycloak, site: Site
) -> None:
    address = site.gateway.address
    given = keycloak.tokens("carol")
    right = given["access_token"]
    carol = ("carol", True, ["/dask-admins", "/researchers"])
    assert who(address, right) == carol
    assert who(address, right, transport="http") == carol
    curl = shutil.which("curl")
    assert curl is not None, "apt-get install curl"
    said = subprocess.run(
        [
            *(curl, "-sS", "--fail-with-body", "-H", f"Authorization: Bearer {right}"),
            *("-H", "content-type: application/json", "-d", "{}"),
            f"{address}/daskgateway.v1.CredentialService/WhoAmI",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert json.loads(said.stdout)["user"] == "carol"
    for wrong in (
        keycloak.tokens("carol", "elsewhere")["access_token"],
        given["id_token"],
        given["refresh_token"],
        keycloak.tokens("guest")["access_token"],  # who is in no group that is let in
        right[:-8],
    ):
        with pytest.raises(AuthenticationFailed):
            who(address, wrong)
    log = (site.gateway.directory / "server.log").read_text()
    assert "and c.OIDCAuthenticator.audience is 'dask-gateway'" in log
    assert "'guest' is in none of c.OIDCAuthenticator.allowed_groups" in log


def test_a_robot_is_configured_as_on_the_page_and_an_unlisted_one_is_kept_out(
    keycloak: Keycloak, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTLY_SECRET", site.robot_secret)
    [text] = blocks("keycloak", "yaml")
    text = text.replace(GATEWAY, site.gateway.address).replace(ISSUER, keycloak.issuer)
    with dask.config.set(yaml.safe_load(text)), Gateway() as gateway:
        assert gateway.whoami().user == "robot-nightly"
    form = {
        "grant_type": "client_credentials",
        "client_id": "unlisted-job",
        "client_secret": "a secret of a job that nobody has listed",
    }
    with pytest.raises(AuthenticationFailed, match=r"c\.OIDCAuthenticator\.robots"):
        who(site.gateway.address, keycloak.token(form)["access_token"])


def test_a_new_key_is_seen_at_once_and_one_that_was_taken_away_counts_no_more(
    keycloak: Keycloak, site: Site
) -> None:
    address = site.gateway.address
    old = keycloak.tokens("alice")["access_token"]
    kind = "org.keycloak.keys.KeyProvider"
    [realm] = {one["parentId"] for one in keycloak.admin("GET", f"/components?type={kind}")}
    before = [
        one["id"]
        for one in keycloak.admin("GET", f"/components?type={kind}")
        if one["providerId"] == "rsa-generated"
    ]
    new_key = {
        "name": "another",
        "providerId": "rsa-generated",
        "providerType": kind,
        "parentId": realm,
        "config": {"priority": ["200"], "algorithm": ["RS256"]},
    }
    keycloak.admin("POST", "/components", new_key)
    for one in before:
        keycloak.admin("DELETE", f"/components/{one}")
    new = keycloak.tokens("alice")["access_token"]
    assert jwt.get_unverified_header(new)["kid"] != jwt.get_unverified_header(old)["kid"]
    assert who(address, new)[0] == "alice"
    with pytest.raises(AuthenticationFailed):
        who(address, old)


def test_while_keycloak_is_away_sessions_go_on_and_who_signs_in_is_told(
    keycloak: Keycloak, site: Site, tmp_path: pathlib.Path
) -> None:
    address = site.gateway.address
    alice = keycloak.tokens("alice")["access_token"]
    with Gateway(address, auth=alice) as gateway:
        token = gateway.create_token("of alice").secret
    keycloak.stop()
    # what is signed by keys that are known counts
    assert who(address, alice)[0] == "alice"
    assert who(address, token)[0] == "alice"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{address}/login/oidc/callback?code=x&state=y", timeout=60)
    with caught.value:
        assert caught.value.code == 403
    told = daskgateway(tmp_path, "login", "--address", address)
    assert told.returncode == 1
    assert (
        f"the identity provider {urlsplit(keycloak.address).netloc} is not reached" in told.stderr
    )
    # of a server that has never had its keys
    site.gateway.stop()
    site.gateway.start()
    with pytest.raises(Unavailable, match="oidc"):
        who(address, alice, **{"retry-for": "1s"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{address}/login/oidc/begin", timeout=60)
    with caught.value:
        assert (caught.value.code, "oidc" in caught.value.read().decode()) == (503, True)
    assert who(address, token)[0] == "alice"
