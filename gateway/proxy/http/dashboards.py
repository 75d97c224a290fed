"""Dashboards below /clusters/{uid}/: for who is let in they are proxied, WebSockets too. Who that
is, login.py decides.

Paths and queries pass as they were sent, never decoded and encoded again.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from gateway.proxy.config import Proxy
from gateway.proxy.http.access import SessionGrant
from gateway.proxy.http.browsers import BrowserPages, redirect
from gateway.proxy.http.front import Front
from gateway.proxy.http.headers import from_dashboard, to_dashboard
from gateway.proxy.http.http_server import read_body
from gateway.proxy.http.login import Login, elsewhere, is_ticket, not_running, page
from gateway.proxy.http.standing import Ended, Standing
from gateway.proxy.routes.lookup import Names, Resolver
from gateway.proxy.routes.routes import Route, RouteTable
from gateway.wire import DASHBOARD_PATH, host_port

logger = logging.getLogger(__name__)

MAX_SOCKET_MESSAGE_BYTES = 32 * 1024 * 1024
MAX_CONNECTIONS_PER_DASHBOARD = 256
HEARTBEAT_S = 30.0  # between pings on a browser's WebSocket
# a dashboard that is silent, or a browser that takes nothing, for so long in the middle of an
# answer is let go
STALL_S = 120.0
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")  # RFC 9110 §9.2.1: what a link of another site may do
# not made up where the browser sent none
OWN_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_PATH = re.compile(re.escape(DASHBOARD_PATH) + r"(?P<uid>c[a-z2-7]{20})(?:/(?P<rest>[^?#]*))?")


class Dashboards:
    """Answers everything below /clusters/."""

    def __init__(
        self,
        options: Proxy,
        front: Front,
        routes: RouteTable,
        names: Names,
        login: Login,
        standing: Standing,
        browsers: BrowserPages,
    ) -> None:
        self._options, self._front, self._routes, self._names, self._login = (
            options,
            front,
            routes,
            names,
            login,
        )
        self._standing, self._browsers = standing, browsers
        # for clusters on this machine, and for those elsewhere
        self._http: dict[bool, aiohttp.ClientSession] = {}

    async def open(self) -> None:
        """Make ready."""
        self._http = {local: self._session(local) for local in (True, False)}

    def _session(self, local: bool) -> aiohttp.ClientSession:
        # which keeps answers itself
        resolver = Resolver(self._names, self._routes.targets, local=local)
        limits = aiohttp.TCPConnector(
            limit=0,
            limit_per_host=MAX_CONNECTIONS_PER_DASHBOARD,
            resolver=resolver,
            use_dns_cache=False,
        )
        patience = aiohttp.ClientTimeout(
            total=None,
            connect=self._options.connect_timeout_s,
            sock_connect=self._options.connect_timeout_s,
        )
        return aiohttp.ClientSession(
            connector=limits,
            timeout=patience,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=OWN_HEADERS,
        )

    async def close(self) -> None:
        """Let go of the connections to dashboards."""
        for session in self._http.values():
            await session.close()

    async def _stranger(self, request: web.Request, uid: str, rest: str) -> web.StreamResponse:
        """Return how a browser signs in, or a plain refusal to all others."""
        answer = self._login.ask_to_log_in(request, uid)
        pages = await self._browsers.offered() if answer.content_type == "text/html" else None
        if pages is None or not pages.ways:
            return answer
        where = self._browsers.place(f"{DASHBOARD_PATH}{uid}/{rest}")
        return self._login.form(uid, "", 401, where) if pages.passwords else redirect(where)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        path, _, query = request.raw_path.partition("?")
        found = _PATH.fullmatch(
            path.removeprefix(self._front.prefix)
            if path.startswith(self._front.prefix + "/")
            else path
        )
        if found is None:
            return page("No such cluster", "<p>The address names no cluster.</p>", 404)
        uid, rest = found["uid"], found["rest"]
        if rest is None:
            return web.Response(
                status=308,
                headers={"Location": f"{self._login.root(uid)}/{'?' if query else ''}{query}"},
            )
        if rest == "login" and request.method == "POST":
            return await self._login.log_in(request, uid)
        if rest == "logout" and request.method in ("GET", "POST"):
            return await self._login.log_out(request, uid)
        if any(is_ticket(piece) for piece in query.split("&")):
            if request.method != "GET" or "prefetch" in request.headers.get(
                "Sec-Purpose", ""
            ):  # a ticket opens once: for who comes to stay
                return web.Response(
                    status=503,
                    text="a link with a ticket is followed by GET\n",
                    headers={"Cache-Control": "no-store"},
                )
            return await self._login.redeem(request, uid, rest, query)
        grant = await self._login.by_session(request, uid)
        if grant is None:
            decision = await self._login.by_credentials(request, uid)
            if decision.status == 409:
                return not_running(decision.words)
            grant = decision.grant
        if grant is None:
            return await self._stranger(request, uid, rest)
        if request.method not in SAFE_METHODS and not self._front.same_site(request):
            return elsewhere()
        route = self._routes.find(uid)
        if route is None or route.dashboard is None:
            return page("Not running", "<p>The cluster has no dashboard now.</p>", 404)
        target = URL(
            f"http://{host_port(*route.dashboard)}/{rest}{'?' if query else ''}{query}",
            encoded=True,
        )
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request, route, target, grant)
        return await self._pass(request, route, target, grant)

    async def _pass(
        self, request: web.Request, route: Route, target: URL, grant: SessionGrant
    ) -> web.StreamResponse:
        body = await read_body(request, self._options.body_timeout_s)
        headers = CIMultiDict(to_dashboard(list(request.headers.items())))
        response: web.StreamResponse | None = None
        try:
            async with asyncio.timeout(self._options.answer_timeout_s):
                answer = await self._http[route.local].request(
                    request.method,
                    target,
                    headers=headers,
                    data=body or None,
                    allow_redirects=False,
                )
            async with answer:
                passed = from_dashboard(
                    list(answer.headers.items()),
                    f"http://{target.authority}",
                    self._login.root(route.uid),
                )
                response = web.StreamResponse(
                    status=answer.status, reason=_reason(answer), headers=CIMultiDict(passed)
                )
                if answer.content_length is not None and "Transfer-Encoding" not in answer.headers:
                    response.content_length = answer.content_length
                await response.prepare(request)
                with self._standing.while_it_holds(
                    grant, lambda: self._login.renewed(request, route.uid)
                ):
                    async for piece in _pieces(answer):
                        async with asyncio.timeout(STALL_S):
                            await response.write(piece)
                await response.write_eof()
                return response
        except Ended:
            assert response is not None
            response.force_close()
            raise ConnectionResetError("who watches it may do so no longer") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            logger.info("dashboard of %s: %s", route.uid, str(error) or type(error).__name__)
            if response is not None and response.prepared:
                response.force_close()
                # so that the browser sees that it is not whole
                raise ConnectionResetError("the dashboard's answer broke off") from None
            late = isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ClientError)
            return page(
                "Not reachable",
                "<p>The cluster's dashboard does not answer.</p>",
                504 if late else 502,
            )

    async def _socket(
        self, request: web.Request, route: Route, target: URL, grant: SessionGrant
    ) -> web.StreamResponse:
        if not self._front.same_site(request):
            return web.Response(
                status=403, text="this WebSocket was asked for by a page of another site\n"
            )
        protocols = [
            word.strip()
            for word in request.headers.get("Sec-WebSocket-Protocol", "").split(",")
            if word.strip()
        ]
        # Without an Origin: it was checked here, and the dashboard's own check knows nothing of how
        # the edge is reached.
        headers = CIMultiDict(
            (name, value)
            for name, value in to_dashboard(list(request.headers.items()))
            if name.lower() != "origin"
        )
        try:
            async with asyncio.timeout(self._options.answer_timeout_s):
                upstream = await self._http[route.local].ws_connect(
                    target.with_scheme("ws"),
                    headers=headers,
                    protocols=protocols,
                    max_msg_size=MAX_SOCKET_MESSAGE_BYTES,
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            status = (
                error.status
                if isinstance(error, aiohttp.WSServerHandshakeError) and 400 <= error.status < 500
                else 502
            )
            return web.Response(status=status, text="the cluster's dashboard opens no WebSocket\n")
        async with upstream:
            chosen = [upstream.protocol] if upstream.protocol else []
            browser = web.WebSocketResponse(
                protocols=chosen,
                max_msg_size=MAX_SOCKET_MESSAGE_BYTES,
                heartbeat=HEARTBEAT_S,
                compress=False,
                timeout=5.0,
            )
            await browser.prepare(request)
            code = _close_code(upstream.close_code)
            ways = [
                asyncio.ensure_future(_carry(browser, upstream)),
                asyncio.ensure_future(_carry(upstream, browser)),
            ]
            try:
                with self._standing.while_it_holds(
                    grant, lambda: self._login.renewed(request, route.uid)
                ):
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                code = _close_code(upstream.close_code)
            except Ended:
                code = aiohttp.WSCloseCode.POLICY_VIOLATION
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
            await browser.close(code=code)
            return browser


Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _carry(source: Socket, sink: Socket) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await sink.send_bytes(message.data)


def _close_code(code: int | None) -> int:
    """Return the code to close with: the other side's where it may be sent (RFC 6455 §7.4)."""
    return (
        code
        if code is not None
        and (code in (1000, 1001, 1003, *range(1007, 1012)) or 3000 <= code < 5000)
        else 1000
    )


def _reason(answer: aiohttp.ClientResponse) -> str | None:
    """Return the words behind a status, as far as they can be sent on."""
    text = answer.reason or ""
    return text if text.isascii() and text.isprintable() else None


async def _pieces(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(STALL_S):
            piece = await answer.content.readany()
        if not piece:
            return
        yield piece
