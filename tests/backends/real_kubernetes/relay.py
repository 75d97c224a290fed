"""A small relay in front of the API server, which does what a bad network or a busy server does:
watches that are cut, late, repeated or incomplete, and answers of its own.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import random
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from tests.parts.kubernetes import Kubernetes

# of one hop only, or made anew by this one
HOP = {"host", "connection", "transfer-encoding", "content-length", "content-encoding"}
MAX_BYTES = 2**26


@dataclass(frozen=True)
class Lies:
    """What is done to the events of a watch; chances of 0 to 1 each."""

    lost: float = 0.0
    repeated: float = 0.0
    replayed: float = 0.0  # an older one comes once more
    late_s: float = 0.0  # at most


class Relay:
    """Between a backend and the API server."""

    def __init__(self, kube: Kubernetes) -> None:
        self._kube = kube
        self.calls: list[tuple[float, str, str]] = []  # when, method, path
        self.answers: list[tuple[str, str, int]] = []  # method, path, status
        self.busy = 0  # creations of pods that are answered 429
        self.retry_after_s = 1
        self.watches = True  # False: a watch is cut as soon as it is asked for
        self.held: list[str] = []  # versions from which watches were asked for, while they wait
        self.free = asyncio.Event()  # cleared: a watch is passed on only once it is set
        self.free.set()
        self.expired = 0  # watches that the API server has ended with 410
        self.lies = Lies()
        self._chance = random.Random(7)
        self._cleanly = False
        self._watching: set[asyncio.Task[object]] = set()
        self.url = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Relay]:
        """Listen on a free port of 127.0.0.1."""
        app = web.Application(client_max_size=MAX_BYTES)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        trust = ssl.create_default_context(cafile=str(self._kube.pki.ca))
        connector = aiohttp.TCPConnector(ssl=trust, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self._session:
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
                yield self
            finally:
                await runner.cleanup()

    def kubeconfig(self, of: pathlib.Path, path: pathlib.Path) -> str:
        """Write a kubeconfig like another, but by way of this relay."""
        config = json.loads(of.read_text())
        config["clusters"][0]["cluster"] = {"server": self.url}
        path.write_text(json.dumps(config))
        return str(path)

    def cut(self, *, cleanly: bool = False) -> None:
        """End the watches that there are: in the midst, or as the API server does now and then."""
        self._cleanly = cleanly
        for task in list(self._watching):
            task.cancel()

    def made(self) -> int:
        """Return how many pods were made by way of here."""
        return len(
            [1 for method, path, status in self.answers if (method, status) == ("POST", 201)]
        )

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        self.calls.append((time.monotonic(), request.method, request.path))
        if self.busy and request.method == "POST" and request.path.endswith("/pods"):
            self.busy -= 1
            status = {"kind": "Status", "reason": "TooManyRequests", "message": "try again later"}
            headers = {"Retry-After": str(self.retry_after_s)}
            return web.json_response(status, status=429, headers=headers)
        if request.query.get("watch") == "true" and not self.free.is_set():
            self.held.append(request.query["resourceVersion"])
            await self.free.wait()
        headers = {
            name: value for name, value in request.headers.items() if name.lower() not in HOP
        }
        headers["Accept-Encoding"] = "identity"
        try:
            async with self._session.request(
                request.method,
                self._kube.server + request.raw_path,
                headers=headers,
                data=await request.read(),
            ) as answer:
                self.answers.append((request.method, request.path, answer.status))
                told = one_hop(answer.headers)
                if request.query.get("watch") == "true" and answer.status == 200:
                    return await self._watch(request, answer, told)
                return web.Response(status=answer.status, headers=told, body=await answer.read())
        except aiohttp.ClientError:
            if request.transport is not None:  # as if nobody were there
                request.transport.abort()
            return web.Response(status=502)

    async def _watch(
        self, request: web.Request, answer: aiohttp.ClientResponse, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        task = asyncio.current_task()
        assert task is not None
        self._watching.add(task)
        try:
            if self.watches:
                async for line in self._lied(answer):
                    await response.write(line)
        except (asyncio.CancelledError, aiohttp.ClientError, ConnectionError):
            if self._cleanly and self.watches:
                return response
        finally:
            self._watching.discard(task)
        if request.transport is not None and not answer.content.at_eof():
            request.transport.abort()
        return response

    async def _lied(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        held: list[bytes] = []
        async for line in answer.content:
            lies, chance = self.lies, self._chance.random
            self.expired += b'"type":"ERROR"' in line and b'"code":410' in line
            if chance() < lies.lost:
                continue
            held = [*held[-50:], line]
            if lies.late_s:
                await asyncio.sleep(lies.late_s * chance())
            if chance() < lies.replayed:
                yield self._chance.choice(held)
            yield line
            if chance() < lies.repeated:
                yield line


def one_hop(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers that are passed on."""
    return {name: value for name, value in headers.items() if name.lower() not in HOP}
