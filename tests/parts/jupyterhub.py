"""A real JupyterHub, of which the API is used: no proxy and no servers of users."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.authenticators.contract import Credentials
from tests.parts import missing

START_S = 90.0
CONFIG = '''
from jupyterhub.proxy import Proxy


class NoProxy(Proxy):
    """Keeps routes in memory: the API is asked directly."""

    should_start = False

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.kept = {{}}

    async def add_route(self, routespec, target, data):
        self.kept[routespec] = {{"routespec": routespec, "target": target, "data": data}}

    async def delete_route(self, routespec):
        self.kept.pop(routespec, None)

    async def get_all_routes(self):
        return dict(self.kept)


c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.bind_url = "http://127.0.0.1:{front}/"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.db_url = "sqlite:///{directory}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{directory}/cookie_secret"
c.JupyterHub.authenticator_class = "null"
c.JupyterHub.spawner_class = "simple"
c.JupyterHub.services = [
    dict(name="daskgateway", api_token="{service}"),
    dict(name="tester", api_token="{tester}"),
    dict(name="robot", api_token="{robot}"),
]
c.JupyterHub.load_roles = [
    dict(name="user", scopes=["self", "access:services!service=daskgateway"]),
    dict(
        name="gateway-role",
        services=["daskgateway"],
        scopes=["list:users", "read:users", "read:users:groups"],
    ),
    dict(name="robot-role", services=["robot"], scopes=["access:services!service=daskgateway"]),
    dict(name="admin", services=["tester"]),
]
'''


class Hub:
    """The Hub, and what a test asks of it."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.port, self._front = _free_port(), _free_port()
        self.service, self.tester, self.robot = (secrets.token_hex(16) for _ in range(3))
        self.process: subprocess.Popen[bytes] | None = None
        self.tokens: dict[str, tuple[str, str]] = {}  # id and text, by user

    @property
    def api(self) -> str:
        """Address of the API."""
        return f"http://127.0.0.1:{self.port}/hub/api"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        config = self.directory / "jupyterhub_config.py"
        config.write_text(CONFIG.format(front=self._front, **vars(self)))
        log = (self.directory / "hub.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", str(config)],
            cwd=self.directory,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "JUPYTERHUB_CRYPT_KEY": "", "PYTHONWARNINGS": "ignore"},
        )
        log.close()

    async def answering(self) -> None:
        """Wait until it answers."""
        async with asyncio.timeout(START_S):
            while True:
                assert self.process is not None
                assert self.process.poll() is None, (self.directory / "hub.log").read_text()[-3000:]
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(self._call, "GET", "", None)
                    return
                await asyncio.sleep(0.1)

    def stop(self) -> None:
        """End it."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return what the API answers to an administrator."""
        return await asyncio.to_thread(self._call, method, path, body)

    def _call(self, method: str, path: str, body: object) -> Any:
        request = urllib.request.Request(
            f"{self.api}/{path}".rstrip("/"),
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.tester}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    async def change(self, user: str, *, admin: bool, groups: Sequence[str]) -> None:
        """Add somebody, or change who is there."""
        if await self._there(user):
            await self.ask("PATCH", f"users/{user}", {"admin": admin})
        else:
            await self.ask("POST", f"users/{user}")
            await self.ask("PATCH", f"users/{user}", {"admin": admin})
        known = {one["name"]: one["users"] for one in await self.ask("GET", "groups")}
        for group in groups:
            if group not in known:
                await self.ask("POST", f"groups/{group}", {"users": []})
                known[group] = []
        for group, users in known.items():
            if group in groups and user not in users:
                await self.ask("POST", f"groups/{group}/users", {"users": [user]})
            elif group not in groups and user in users:
                await self.ask("DELETE", f"groups/{group}/users", {"users": [user]})

    async def _there(self, user: str) -> bool:
        try:
            await self.ask("GET", f"users/{user}")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return False
            raise
        return True

    async def remove(self, user: str) -> None:
        """Remove somebody."""
        await self.ask("DELETE", f"users/{user}")
        self.tokens.pop(user, None)

    async def token(self, user: str, **fields: object) -> tuple[str, str]:
        """Return id and text of a new token."""
        made = await self.ask("POST", f"users/{user}/tokens", {"note": "a test", **fields})
        return made["id"], made["token"]

    async def show(self, user: str) -> Credentials:
        """Return what somebody sends."""
        if user not in self.tokens:
            self.tokens[user] = await self.token(user)
        return bearer(self.tokens[user][1])

    async def wrong(self, user: str) -> Credentials:
        """Return a token of nobody."""
        return bearer(secrets.token_hex(16))

    async def renew(self, user: str) -> None:
        """Revoke somebody's token, and make another."""
        number, _ = self.tokens.pop(user)
        await self.ask("DELETE", f"users/{user}/tokens/{number}")

    async def expired(self, user: str) -> Credentials:
        """Return a token that has expired."""
        _, text = await self.token(user, expires_in=1)
        async with asyncio.timeout(30):
            while await asyncio.to_thread(self._good, text):  # noqa: ASYNC110 (the Hub tells not)
                await asyncio.sleep(0.2)
        return bearer(text)

    def _good(self, text: str) -> bool:
        request = urllib.request.Request(
            f"{self.api}/user", headers={"Authorization": f"token {text}"}
        )
        try:
            urllib.request.urlopen(request, timeout=30).close()
        except urllib.error.HTTPError as error:
            error.close()
            return False
        return True


def bearer(text: str) -> Credentials:
    """Return a token as it is sent."""
    return Credentials("bearer", text, "192.0.2.1")


@pytest.fixture(scope="module")
def started_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A Hub for a module's tests."""
    if importlib.util.find_spec("jupyterhub") is None:
        missing("jupyterhub", "pip install -e '.[test]'")
    hub = Hub(tmp_path_factory.mktemp("hub"))
    hub.start()
    try:
        yield hub
    finally:
        hub.stop()


Liar = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Wire:
    """Carries bytes to the Hub, until it is cut, holds them back, is slow, or somebody else answers
    in the Hub's place."""

    def __init__(self, port: int) -> None:
        self._there = port
        self._server: asyncio.Server | None = None
        self._flows: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._late_s = 0.0
        self._liar: Liar | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more, and cut what is connected."""
        if self._server is not None:
            self._server.close()
            await self._end_flows()
            await self._server.wait_closed()
            self._server = None

    @asynccontextmanager
    async def cut(self) -> AsyncIterator[None]:
        """Refuse connections."""
        await self.stop()
        try:
            yield
        finally:
            await self.start()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Accept connections, and carry nothing."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    @asynccontextmanager
    async def slow(self) -> AsyncIterator[None]:
        """Carry each answer half a second late."""
        self._late_s = 0.5
        try:
            yield
        finally:
            self._late_s = 0.0

    @asynccontextmanager
    async def lying(self, liar: Liar) -> AsyncIterator[None]:
        """Have somebody else answer, on new connections: those there are end."""
        self._liar = liar
        await self._end_flows()
        try:
            yield
        finally:
            self._liar = None
            await self._end_flows()

    async def _end_flows(self) -> None:
        flows = list(self._flows)
        for flow in flows:
            flow.cancel()
        await asyncio.gather(*flows, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._flows.add(task)
        far = None
        try:
            if self._liar is not None:
                await self._liar(reader, writer)
                return
            back, far = await asyncio.open_connection("127.0.0.1", self._there)
            await asyncio.gather(self._pass(reader, far), self._pass(back, writer, late=True))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._flows.discard(task)
            for one in (writer, far):
                if one is not None:
                    one.close()

    async def _pass(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, late: bool = False
    ) -> None:
        while piece := await source.read(65536):
            await self._open.wait()
            if late:
                await asyncio.sleep(self._late_s)
            target.write(piece)
            await target.drain()
        target.close()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
