"""Somebody signs in from a terminal, by a code that is entered in a browser elsewhere: what is
kept, who renews it, and what is left after a logout. And a robot with a secret of its own."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import re
import stat
import sys
from collections.abc import AsyncIterator, Iterator

import dask.config
import pytest

from gateway import Gateway
from gateway.client.calls import grants
from gateway.client.calls.errors import AuthenticationFailed, GatewayError, InsecureAddress
from gateway.client.calls.grants import DeviceCode, Grant, Program, Refused
from gateway.client.calls.logins import Login, LoginFile, made
from gateway.client.calls.oidc import OIDCAuth
from tests.e2e.gateway_process import USER, GatewayProcess
from tests.parts import terminal
from tests.parts.oidc_provider import (
    AUDIENCE,
    ROBOT,
    ROBOT_SECRET,
    OpenIDProvider,
    person,
    started_provider,
    walk,
    wired,
)

__all__ = ["started_provider"]
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, started_provider: OpenIDProvider
) -> Iterator[GatewayProcess]:
    """A gateway of the provider's users."""
    made = GatewayProcess(
        tmp_path_factory.mktemp("gateway"),
        "c.DaskGateway.authenticator = 'oidc'",
        f"c.OIDCAuthenticator.issuer = {started_provider.issuer!r}",
        f"c.OIDCAuthenticator.audience = {AUDIENCE!r}",
        "c.OIDCAuthenticator.device_client_id = 'cli'",
        f"c.OIDCAuthenticator.robots = {{{ROBOT!r}: 'robot-nightly'}}",
    )
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture
async def provider(started_provider: OpenIDProvider) -> AsyncIterator[OpenIDProvider]:
    """The provider, which knows alice."""
    async with wired(started_provider):
        await started_provider.order("people", user=USER, groups=[])
        yield started_provider


async def command(home: pathlib.Path, *words: str) -> asyncio.subprocess.Process:
    """Run a command of somebody who has this home directory."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "HOME": str(home)},
    )


async def told(home: pathlib.Path, *words: str) -> tuple[int | None, str, str]:
    """Return how a command ended, and what it said."""
    process = await command(home, *words)
    out, error = await process.communicate()
    return process.returncode, out.decode(), error.decode()


async def signed_in(home: pathlib.Path, gateway: GatewayProcess, user: str) -> str:
    """Sign in as somebody does who reads the terminal; return what the command said."""

    async def enter(address: str) -> None:
        async with person() as browser:
            await walk(browser, address, user)

    words = [sys.executable, "-m", "gateway", "login", "--address", gateway.address]
    mine = {**os.environ, "HOME": str(home)}
    code, out, error = await terminal.ran(words, mine, enter)
    assert re.search(r"enter the code [A-Z0-9]{4}-[A-Z0-9]{4}", error), error
    assert code == 0, error
    return out


async def test_login_by_a_code_is_kept_renewed_by_one_at_a_time_and_forgotten(
    gateway: GatewayProcess, provider: OpenIDProvider, tmp_path: pathlib.Path
) -> None:
    at = ("--address", gateway.address)
    code, _, error = await told(tmp_path, "whoami", *at)
    assert code == 1, error
    assert await signed_in(tmp_path, gateway, USER) == f"signed in as {USER}\n"
    file = LoginFile(tmp_path / ".config/daskgateway/logins.json")
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    code, out, error = await told(tmp_path, "whoami", *at)
    assert (code, out.splitlines()[0]) == (0, USER), error
    assert "`daskgateway login` at" in out
    # it has ended meanwhile, and several come back at once: the refresh token is good once
    kept = file.read(gateway.address)
    assert isinstance(kept, Login)
    file.keep(
        gateway.address, made(kept.program, Grant("old", 0.0, kept.grant.refresh_token), "oidc")
    )
    answers = await asyncio.gather(*(told(tmp_path, "whoami", *at) for _ in range(3)))
    assert [(code, out.splitlines()[:1]) for code, out, _ in answers] == [(0, [USER])] * 3, answers
    fresh = file.read(gateway.address)
    assert isinstance(fresh, Login)
    assert fresh.grant.refresh_token != kept.grant.refresh_token
    # what is forgotten here is forgotten there
    assert (await told(tmp_path, "logout", *at))[:2] == (0, "signed out\n")
    assert json.loads(file.path.read_text()) == {}
    with pytest.raises(Refused, match="invalid_grant"):
        await asyncio.to_thread(grants.renewed, fresh.program, fresh.grant.refresh_token)
    assert (await told(tmp_path, "logout", *at))[:2] == (0, "nobody was signed in here\n")
    code, _, error = await told(tmp_path, "whoami", *at)
    assert code == 1


async def test_a_sign_in_that_is_over_says_so_and_a_file_that_others_read_is_not_used(
    gateway: GatewayProcess, provider: OpenIDProvider, tmp_path: pathlib.Path
) -> None:
    at = ("--address", gateway.address)
    file = LoginFile(tmp_path / ".config/daskgateway/logins.json")
    program = Program(provider.issuer, "cli", "openid offline_access")
    file.keep(gateway.address, made(program, Grant("old", 0.0, "no refresh token"), "oidc"))
    code, _, error = await told(tmp_path, "whoami", *at)
    assert code == 1
    assert "is over" in error
    assert "`daskgateway login` again" in error
    assert "Traceback" not in error
    file.path.chmod(0o644)
    code, _, error = await told(tmp_path, "whoami", *at)
    assert code == 2
    assert "others can read it" in error
    file.path.chmod(0o600)
    file.path.write_text("no JSON")
    code, _, error = await told(tmp_path, "whoami", *at)
    assert code == 2
    assert "login` again" in error


async def test_a_robot_shows_tokens_of_its_own(
    gateway: GatewayProcess, provider: OpenIDProvider
) -> None:
    def who() -> tuple[str, str]:
        with Gateway(gateway.address, auth=OIDCAuth(provider.issuer, ROBOT, ROBOT_SECRET)) as robot:
            told = robot.whoami()
            return told.user, told.way

    assert await asyncio.to_thread(who) == ("robot-nightly", "oidc")

    def wrong() -> str:
        with Gateway(gateway.address, auth=OIDCAuth(provider.issuer, ROBOT, "a guess")) as robot:
            return robot.whoami().user

    with pytest.raises(AuthenticationFailed, match="invalid_client"):
        await asyncio.to_thread(wrong)


async def test_a_robot_is_configured_by_the_name_of_its_way(
    gateway: GatewayProcess,
    provider: OpenIDProvider,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match="nobody has signed in at"):
        Gateway(gateway.address, auth="oidc")
    named = {"issuer": provider.issuer, "client_id": ROBOT, "client_secret": ROBOT_SECRET}

    def who() -> str:
        with Gateway(gateway.address) as robot:
            return robot.whoami().user

    with dask.config.set({"gateway.auth": {"type": "oidc", "kwargs": named}}):
        assert await asyncio.to_thread(who) == "robot-nightly"


async def test_nothing_is_sent_to_a_provider_that_is_another_or_in_clear_text(
    provider: OpenIDProvider,
) -> None:
    def at(issuer: str) -> DeviceCode:
        return grants.device_code(Program(issuer, "cli"))

    with pytest.raises(GatewayError, match="calls itself"):
        await asyncio.to_thread(at, provider.issuer.replace("127.0.0.1", "localhost"))
    with pytest.raises(InsecureAddress):
        await asyncio.to_thread(at, "http://login.example.org")


def test_polling_waits_as_it_is_told_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program("https://login.example.org", "cli")
    code = DeviceCode("https://x.org", "AB", "", 60.0, 5.0, "device", "verifier")
    answers: list[Exception | dict[str, object]] = []
    monkeypatch.setattr(grants, "_endpoint", lambda *_, **__: "https://login.example.org/token")

    def posted(*_: object, **__: object) -> dict[str, object]:
        answer = answers.pop(0) if answers else Refused("", "authorization_pending")
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(grants, "_posted", posted)
    now, waits = [0.0], list[float]()

    def wait(span_s: float) -> None:
        waits.append(span_s)
        now[0] += span_s

    answers[:] = [
        Refused("", "authorization_pending"),
        Refused("", "slow_down"),
        Refused("", "authorization_pending"),
        {"access_token": "token", "expires_in": 60},
    ]
    assert grants.entered(program, code, wait, lambda: now[0]).access_token == "token"
    assert waits == [5.0, 5.0, 10.0, 10.0]
    answers[:] = [Refused("", "access_denied")]
    with pytest.raises(Refused, match="refused in the browser"):
        grants.entered(program, code, wait, lambda: now[0])
    now[0], waits[:] = 0.0, []
    with pytest.raises(Refused, match="in time"):
        grants.entered(program, code, wait, lambda: now[0])
    assert sum(waits) <= 60.0
