"""What is served over HTTP/1.1, by path. Knows who answers what, not how; the small pages are here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import grpc
from aiohttp import web

from gateway.proxy.bridge import Bridge, failure
from gateway.proxy.config import Proxy
from gateway.proxy.dashboards import Dashboards, page
from gateway.proxy.events import Events
from gateway.proxy.routes import RouteTable
from gateway.proxy.tunnel import Tunnel

logger = logging.getLogger(__name__)


def application(
    options: Proxy, channel: grpc.aio.Channel, routes: RouteTable, dashboards: Dashboards, relays: Callable[[], int]
) -> web.Application:
    """Return the application; `relays` tells how many relays there are."""
    app = web.Application(client_max_size=options.max_body_bytes, middlewares=[_plain_errors])
    bridge, events = Bridge(channel), Events(channel)
    tunnel = Tunnel(routes, options.connect_timeout_s)

    async def healthz(_: web.Request) -> web.StreamResponse:
        told = {"routes": len(routes), "server": routes.connected, "routes_age_s": round(routes.age_s, 1), "relays": relays()}
        return web.json_response(told)

    app.router.add_get("/", _index)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/v1/watch", events.watch)
    app.router.add_get("/v1/logs", events.logs)
    app.router.add_get("/tunnel/{uid}", tunnel.handle)
    app.router.add_route("*", "/clusters/{uid}/{path:.*}", dashboards.handle)
    app.router.add_route("*", "/{service}/{method}", bridge.handle)
    return app


async def _index(_: web.Request) -> web.StreamResponse:
    return page("Dask gateway", "<p>Dask clusters are had here: <code>gateway.GatewayCluster()</code>.</p>", 200)


@web.middleware
async def _plain_errors(request: web.Request, handler: Any) -> web.StreamResponse:
    """Answer what is wrong with one short sentence; a fault of the edge is logged and not told."""
    try:
        answer: web.StreamResponse = await handler(request)
        return answer
    except web.HTTPRequestEntityTooLarge:
        return failure("RESOURCE_EXHAUSTED", "the body is too large")
    except web.HTTPException as error:
        return web.json_response({"code": "not_found" if error.status == 404 else "unknown", "message": error.reason}, status=error.status)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return failure("INTERNAL", "the edge failed; its log says why")
