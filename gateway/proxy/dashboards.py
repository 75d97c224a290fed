"""Dashboards below /clusters/{uid}/: let in by ticket, session or login, then proxied, WebSockets too.

Nothing of the caller's credentials reaches the scheduler, which runs its owner's code.
"""

from __future__ import annotations

import asyncio
import html
import logging
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import aiohttp
import grpc
from aiohttp import web
from daskgateway.v1 import credential_service_pb2 as pb
from multidict import CIMultiDict

from gateway.proxy.access import COOKIE, Sessions, now_ms, ticket_user
from gateway.proxy.bridge import CODES, credentials
from gateway.proxy.routes import Route, RouteTable
from gateway.wire import AUTHORIZATION, DASHBOARD_PATH, TICKET_QUERY, basic_credentials, is_uid

logger = logging.getLogger(__name__)

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te"}
    | {"trailer", "trailers", "transfer-encoding", "upgrade", "content-length"}
)
PRIVATE = frozenset(("authorization", "cookie", "host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"))
MAX_SOCKET_MESSAGE = 32 * 1024 * 1024
LOGIN_TIMEOUT_S = 30.0

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font-family:sans-serif;max-width:24em;margin:4em auto;padding:0 1em}}label{{display:block;margin:1em 0 .2em}}
input{{width:100%;box-sizing:border-box;padding:.4em}}button{{margin-top:1em;padding:.5em 1em}}.error{{color:#a00}}</style></head>
<body><h1>{title}</h1>{body}</body></html>"""
FORM = """<p class="error" role="alert">{error}</p><form method="post" action="{action}">
<label for="user">User</label><input id="user" name="user" autocomplete="username">
<label for="password">Password</label><input id="password" name="password" type="password" autocomplete="current-password">
<label for="token">or an API token</label><input id="token" name="token" type="password" autocomplete="off">
<button>Log in</button></form>"""


def page(title: str, body: str, status: int) -> web.Response:
    """Return a small page; `body` is HTML."""
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"}
    return web.Response(text=PAGE.format(title=html.escape(title), body=body), status=status, content_type="text/html", headers=headers)


class Dashboards:
    """Answers everything below /clusters/."""

    def __init__(self, routes: RouteTable, sessions: Sessions, channel: grpc.aio.Channel, secure: Callable[[], bool]) -> None:
        self._routes, self._sessions, self._secure = routes, sessions, secure
        self._ticket = channel.unary_unary(
            "/daskgateway.v1.CredentialService/CreateDashboardTicket",
            request_serializer=pb.CreateDashboardTicketRequest.SerializeToString,
            response_deserializer=pb.CreateDashboardTicketResponse.FromString,
        )
        self._http: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make ready."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        self._http = aiohttp.ClientSession(timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())

    async def close(self) -> None:
        """Let go of the connections to dashboards."""
        if self._http is not None:
            await self._http.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        uid, path = request.match_info["uid"], request.match_info["path"]
        if not is_uid(uid):
            return page("No such cluster", "<p>The address names no cluster.</p>", 404)
        if path == "login" and request.method == "POST":
            return await self._log_in(request, uid)
        ticket = request.query.get(TICKET_QUERY)
        if ticket is not None:
            return self._redeem(request, uid, ticket)
        user = self._sessions.user(request.cookies.get(COOKIE, ""), uid)
        if user is None and request.headers.get("Authorization"):
            user, _ = await self._ask(uid, credentials(request))
        if user is None:
            return self._ask_to_log_in(request, uid)
        route = self._routes.find(uid)
        if route is None or route.dashboard is None:
            return page("Not running", "<p>The cluster has no dashboard now.</p>", 404)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request, route.dashboard, path)
        return await self._pass(request, route, path)

    # Letting in

    def _redeem(self, request: web.Request, uid: str, ticket: str) -> web.StreamResponse:
        user = ticket_user(ticket, uid, self._routes.ticket_keys, now_ms())
        if user is None:
            return self._form(uid, "The link has expired. Log in, or ask for a new one.", 401)
        rest = {key: value for key, value in request.query.items() if key != TICKET_QUERY}
        return self._admit(uid, user, str(request.rel_url.with_query(rest)))

    def _admit(self, uid: str, user: str, where: str) -> web.Response:
        answer = web.Response(status=303, headers={"Location": where, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
        answer.set_cookie(
            COOKIE, self._sessions.issue(uid, user), path=f"{DASHBOARD_PATH}{uid}/", httponly=True, samesite="Lax", secure=self._secure()
        )
        return answer

    async def _log_in(self, request: web.Request, uid: str) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if origin is not None and origin != "null" and urlsplit(origin).netloc != request.host:
            return page("Refused", "<p>This form was sent from another site.</p>", 403)
        form = {key: values[0] for key, values in parse_qs((await request.read()).decode(errors="replace"), max_num_fields=10).items()}
        token = form.get("token", "").strip()
        header = f"Bearer {token}" if token else basic_credentials(form.get("user", ""), form.get("password", ""))
        user, why = await self._ask(uid, [(AUTHORIZATION, header)] if header.isascii() else [])
        if user is None:
            return self._form(uid, why, 401)
        return self._admit(uid, user, f"{DASHBOARD_PATH}{uid}/status")

    async def _ask(self, uid: str, metadata: list[tuple[str, str]]) -> tuple[str | None, str]:
        """Ask the server whether these credentials open the dashboard; return the user, or why not."""
        try:
            request = pb.CreateDashboardTicketRequest(name=f"users/-/clusters/{uid}")
            answer = await self._ticket(request, metadata=metadata, timeout=LOGIN_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if CODES[error.code().name][1] >= 500:
                return None, "The gateway does not answer. Try again."
            return None, "That did not open this dashboard."
        ticket = parse_qs(urlsplit(answer.url).query).get(TICKET_QUERY, [""])[0]
        return ticket_user(ticket, uid, self._routes.ticket_keys, now_ms()), "The gateway's ticket is not valid here."

    def _ask_to_log_in(self, request: web.Request, uid: str) -> web.Response:
        wants_page = "text/html" in request.headers.get("Accept", "") and request.method == "GET"
        if wants_page and request.headers.get("Upgrade") is None:
            return self._form(uid, "", 401)
        return web.Response(status=401, text="log in first\n", headers={"WWW-Authenticate": 'Basic realm="daskgateway"'})

    def _form(self, uid: str, error: str, status: int) -> web.Response:
        return page("Dask dashboard", FORM.format(error=html.escape(error), action=f"{DASHBOARD_PATH}{uid}/login"), status)

    # Passing on

    async def _pass(self, request: web.Request, route: Route, path: str) -> web.StreamResponse:
        assert self._http is not None
        assert route.dashboard is not None
        base = f"http://{_host(route.dashboard)}"
        try:
            async with self._http.request(
                request.method,
                f"{base}/{path}",
                params=request.query,
                headers=forwarded(request.headers, request.cookies),
                data=request.content if request.body_exists else None,
                allow_redirects=False,
            ) as answer:
                headers = CIMultiDict((key, value) for key, value in answer.headers.items() if key.lower() not in HOP_BY_HOP)
                if "Location" in headers:
                    headers["Location"] = relocated(headers["Location"], base, route.uid)
                response = web.StreamResponse(status=answer.status, headers=headers)
                await response.prepare(request)
                async for piece in answer.content.iter_any():
                    await response.write(piece)
                await response.write_eof()
                return response
        except (aiohttp.ClientError, TimeoutError) as error:
            logger.info("dashboard of %s: %s", route.uid, error)
            return page("Not reachable", "<p>The cluster's dashboard does not answer.</p>", 502)

    async def _socket(self, request: web.Request, dashboard: tuple[str, int], path: str) -> web.StreamResponse:
        assert self._http is not None
        protocols = [word.strip() for word in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if word.strip()]
        try:
            upstream = await self._http.ws_connect(
                f"ws://{_host(dashboard)}/{path}", params=request.query, protocols=protocols, max_msg_size=MAX_SOCKET_MESSAGE
            )
        except (aiohttp.ClientError, TimeoutError):
            return web.Response(status=502, text="the cluster's dashboard does not answer\n")
        async with upstream:
            chosen = [upstream.protocol] if upstream.protocol else []
            browser = web.WebSocketResponse(protocols=chosen, max_msg_size=MAX_SOCKET_MESSAGE, heartbeat=30)
            await browser.prepare(request)
            ways = [asyncio.ensure_future(_carry(browser, upstream)), asyncio.ensure_future(_carry(upstream, browser))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await browser.close()
            return browser


Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _carry(source: Socket, sink: Socket) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await sink.send_bytes(message.data)


def forwarded(headers: object, cookies: object) -> CIMultiDict[str]:
    """Return the headers that a dashboard gets: neither the caller's credentials nor our cookie."""
    passed = CIMultiDict(
        (key, value)
        for key, value in headers.items()  # type: ignore[attr-defined]
        if key.lower() not in HOP_BY_HOP and key.lower() not in PRIVATE
    )
    others = [f"{key}={value}" for key, value in cookies.items() if key != COOKIE]  # type: ignore[attr-defined]
    if others:
        passed["Cookie"] = "; ".join(others)
    return passed


def relocated(location: str, base: str, uid: str) -> str:
    """Return where a dashboard's redirect leads to behind the edge; one to another host becomes the dashboard's front page."""
    prefix = f"{DASHBOARD_PATH}{uid}"
    if location.startswith(base + "/"):
        return prefix + location[len(base) :]
    parts = urlsplit(location)
    if parts.scheme or parts.netloc:
        return f"{prefix}/"
    return prefix + location if location.startswith("/") else location


def _host(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
