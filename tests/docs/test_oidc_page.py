"""The page about OpenID providers, followed against a real one: its configuration, its commands and
its programs as they stand; only names, addresses and secrets are those here."""

from __future__ import annotations

import asyncio
import pathlib
import re
import sys
from collections.abc import Sequence

import pytest

from tests.docs.pages import blocks
from tests.docs.test_sign_in_pages import GATEWAY, QUICKLY, checked, environment, started
from tests.e2e.gateway_process import GatewayProcess
from tests.parts import terminal
from tests.parts.oidc_provider import (
    ROBOT,
    ROBOT_SECRET,
    OpenIDProvider,
    person,
    started_provider,
    walk,
    wired,
)

__all__ = ["started", "started_provider"]
pytestmark = pytest.mark.timeout(300)
ISSUER, SHOW = "https://login.example.org/realms/main", "\nprint(gateway.whoami().user)"


async def ran(
    words: Sequence[str], home: pathlib.Path, user: str = "", **more: str
) -> tuple[int | None, str, str]:
    """Run a program; `user` enters the code that it shows. Return how it ended and what it said."""

    async def enter(address: str) -> None:
        async with person() as browser:
            await walk(browser, address, user)

    return await terminal.ran(words, environment(home, **more), enter if user else None)


async def test_openid(
    started_provider: OpenIDProvider, tmp_path: pathlib.Path, started: list[GatewayProcess]
) -> None:
    provider = started_provider
    settings, use, in_browsers, device, robot = blocks("oidc", "python")
    [login] = blocks("oidc", "{code-block} sh")
    [section] = blocks("oidc", "yaml")
    settings = f"{settings}{in_browsers}{device}".replace(ISSUER, provider.issuer)
    settings = settings.replace("daskgateway-cli", "cli").replace("nightly-job", ROBOT)
    served = GatewayProcess(tmp_path, settings, QUICKLY)
    started.append(served)
    written = served.config.read_text()
    edge = re.search(r"c.Proxy.address = '(.*)'", written)
    assert edge is not None
    served.config.write_text(written.replace(GATEWAY, f"http://{edge[1]}"))

    def here(text: str) -> str:
        text = text.replace(GATEWAY, served.address).replace(ISSUER, provider.issuer)
        return text.replace("nightly-job", ROBOT)

    async with wired(provider):
        await provider.order("people", user="alice", groups=["researchers", "dask-admins"])
        await provider.order("people", user="mallory", groups=["others"])
        assert await asyncio.to_thread(checked, served) == ""
        await asyncio.to_thread(served.start)
        code, out, error = await ran(["bash", "-euc", here(login)], tmp_path, "alice")
        assert code == 0, error
        told = r"signed in as alice\nalice \(admin\)\n.*`daskgateway login` at .*signed in by oidc,"
        assert re.match(told, out), out
        assert out.endswith("signed out\n")
        # by a token that another program shows, who is in a group that is let in
        for user, words in (("alice", "alice\n"), ("mallory", "does not accept")):
            token = (await provider.tokens(user))["access_token"]
            script = f"access_token = {token!r}\n{here(use)}{SHOW}"
            code, out, error = await ran([sys.executable, "-c", script], tmp_path)
            assert (code == 0, words in out + error) == (user == "alice", True), error
        script = f"client_secret = {ROBOT_SECRET!r}\n{here(robot)}{SHOW}"
        code, out, error = await ran([sys.executable, "-c", script], tmp_path)
        assert (code, out) == (0, "robot-nightly\n"), error
        (tmp_path / "dask").mkdir()
        (tmp_path / "dask" / "gateway.yaml").write_text(here(section))
        script = f"from gateway import Gateway\ngateway = Gateway(){SHOW}"
        configured = {"DASK_CONFIG": str(tmp_path / "dask"), "NIGHTLY_SECRET": ROBOT_SECRET}
        code, out, error = await ran([sys.executable, "-c", script], tmp_path, **configured)
        assert (code, out) == (0, "robot-nightly\n"), error
