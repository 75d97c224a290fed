"""What is served over HTTP/1.1, by path. Knows who answers what, not how; the small pages are
here."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

from aiohttp import web

from gateway.proxy.config import Proxy
from gateway.proxy.http import documents, envelopes, failures
from gateway.proxy.http.bridge import Bridge
from gateway.proxy.http.browsers import BrowserPages
from gateway.proxy.http.connect_streams import ConnectStreams
from gateway.proxy.http.dashboards import Dashboards
from gateway.proxy.http.events import Events
from gateway.proxy.http.failures import Failure
from gateway.proxy.http.front import Front
from gateway.proxy.http.http_server import BodyRefused, checked
from gateway.proxy.http.transcoding import Transcoder
from gateway.proxy.http.tunnel import Tunnel
from gateway.proxy.routes.routes import RouteTable
from gateway.proxy.upstream.channels import Channels
from gateway.wire import DASHBOARD_PATH, LOGIN_PATH, TUNNEL_PATH

logger = logging.getLogger(__name__)


def application(
    options: Proxy,
    front: Front,
    channels: Channels,
    routes: RouteTable,
    dashboards: Dashboards,
    tunnel: Tunnel,
    browsers: BrowserPages,
    relays: Callable[[], int],
) -> web.Application:
    """Return the application; `relays` tells how many relays there are.

    Everything is served with the prefix and without: front proxies may take it off or leave it.
    """
    app = web.Application(client_max_size=options.max_body_bytes, middlewares=[_one_answer])
    transcoder = Transcoder()
    bridge, events = (
        Bridge(channels, front, options.body_timeout_s, transcoder),
        Events(channels, front, transcoder),
    )

    streams = ConnectStreams(channels, front, options.body_timeout_s, transcoder)

    async def call(request: web.Request) -> web.StreamResponse:
        path = f"/{request.match_info['service']}/{request.match_info['method']}"
        streamed = streams.methods.get(path)
        if streamed is not None and request.method == "POST":
            if request.content_type in envelopes.KINDS:
                return await streams.handle(request, streamed)
            words = f"must be {' or '.join(envelopes.KINDS)}: {path} streams its answers"
            return failures.wrong("INVALID_ARGUMENT", "content-type", words, 415)
        return await bridge.handle(request)

    async def healthz(_: web.Request) -> web.StreamResponse:
        told = {
            "routes": len(routes),
            "server": routes.connected,
            "routes_age_s": round(routes.age_s, 1),
        }
        return web.json_response({**told, "relays": relays(), "tunnels": tunnel.count})

    told = documents.handlers()
    for prefix in {"", front.prefix}:
        app.router.add_get(f"{prefix}/", browsers.index)
        app.router.add_get(f"{prefix}{LOGIN_PATH}", browsers.login)
        app.router.add_post(f"{prefix}{LOGIN_PATH}/out", browsers.log_out)
        app.router.add_get(f"{prefix}{LOGIN_PATH}/{{way}}/begin", browsers.begin)
        app.router.add_get(f"{prefix}{LOGIN_PATH}/{{way}}/callback", browsers.callback)
        app.router.add_get(f"{prefix}/healthz", healthz)
        # a stream is never without a body
        app.router.add_get(f"{prefix}/v1/watch", events.watch, allow_head=False)
        app.router.add_get(f"{prefix}/v1/logs", events.logs, allow_head=False)
        for path, document in told.items():
            app.router.add_get(f"{prefix}{path}", document)
        for path in ("/v1/watch", "/v1/logs", *told):
            app.router.add_route("*", f"{prefix}{path}", _get_alone)
        app.router.add_get(f"{prefix}{TUNNEL_PATH}{{uid}}", tunnel.handle, allow_head=False)
        app.router.add_route("*", f"{prefix}{DASHBOARD_PATH}{{path:.*}}", dashboards.handle)
        app.router.add_route("*", f"{prefix}/{{service}}/{{method}}", call)
    return app


async def _get_alone(_: web.Request) -> web.StreamResponse:
    return failures.must_be("GET")


@web.middleware
async def _one_answer(request: web.Request, handler: Any) -> web.StreamResponse:
    """Answer what is wrong with one short sentence, in the shape of the call; a fault of the edge
    is logged and not told."""
    try:
        answer = await _answer(request, handler)
    except (ConnectionError, asyncio.CancelledError):
        raise  # the caller is gone
    except Exception:
        correlation_id = f"{random.getrandbits(64):016x}"  # no secret
        logger.exception("%s %s failed, id=%s", request.method, request.path, correlation_id)
        answer = failures.fault(correlation_id)
    return answer.as_asked(request.content_type) if isinstance(answer, Failure) else answer


async def _answer(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        answer: web.StreamResponse = checked(request) or await handler(request)
        return answer
    except BodyRefused as refused:
        return refused.answer
    except web.HTTPMethodNotAllowed as error:
        return failures.must_be(",".join(sorted(error.allowed_methods)))
    except web.HTTPNotFound:
        return failures.no_path(request.path)
    except web.HTTPException as error:
        code = "INVALID_ARGUMENT" if error.status < 500 else "INTERNAL"
        return failures.wrong(code, "request", error.reason, error.status)
