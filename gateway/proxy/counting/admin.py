"""The admin address: /metrics for Prometheus, /healthz for probes. No login, so it is for loopback
or a network of the house."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from gateway.configfile import ConfigurationError
from gateway.proxy.counting.metrics import CONTENT_TYPE, exposition
from gateway.wire import host_port, split_host_port

Numbers = Mapping[str, Mapping[str, float]]  # by name, by process


class Admin:
    """Serves what `numbers` returns each time it is asked."""

    def __init__(self, address: str, numbers: Callable[[], Awaitable[Numbers]]) -> None:
        self._address, self._numbers = address, numbers
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=1.0
        )

    async def start(self) -> str:
        """Begin; return host:port. ConfigurationError if that cannot be."""
        place = split_host_port(self._address)
        if place is None:
            raise ConfigurationError(
                f"c.Proxy.admin_address: must be host:port, not {self._address!r}"
            )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, place[0] or None, place[1]).start()
        except OSError as error:
            raise ConfigurationError(
                f"c.Proxy.admin_address: cannot listen on {self._address}: {error.strerror}"
            ) from None
        bound: Any = self._runner.addresses[0]
        return host_port(str(bound[0]), int(bound[1]))

    async def stop(self) -> None:
        """End."""
        await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.StreamResponse:
        return web.Response(
            body=exposition(await self._numbers()), headers={"Content-Type": CONTENT_TYPE}
        )

    async def _healthz(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(dict(await self._numbers()))
