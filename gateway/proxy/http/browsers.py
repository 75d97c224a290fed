"""Browsers that sign in at a login page elsewhere: there and back, below /login alone.

What lets a browser in is the token of a session, in a cookie that scripts cannot read and that is
shown below /login alone, so no dashboard ever sees it. A dashboard is opened there by a session of
its own, which rests on the first: it ends with it. Whoever is to be signed in elsewhere brings back
a sealed cookie that this browser got when it went: what comes back to another browser, or without
having gone, opens nothing.
"""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import grpc
from aiohttp import web
from daskgateway.v1 import cluster_service_pb2, credential_service_pb2

from gateway.proxy.http.front import Front
from gateway.proxy.http.headers import session_cookies
from gateway.proxy.http.login import Login, elsewhere, not_running, page
from gateway.proxy.upstream.asking import Unanswered
from gateway.proxy.upstream.channels import Channels
from gateway.proxy.upstream.logins import Logins, Pages, Refused
from gateway.turns import Crowded
from gateway.wire import (
    AUTHORIZATION,
    BEGUN_COOKIE,
    DASHBOARD_PATH,
    LOGIN_COOKIE,
    LOGIN_PATH,
    SECURE_BEGUN_COOKIE,
    SECURE_LOGIN_COOKIE,
)

logger = logging.getLogger(__name__)

BEGUN_S = 600  # for so long a browser keeps what it brings back
ASK_S = 30.0
MAX_ANSWER = 16  # parameters
MAX_QUERY = 8 * 1024  # letters
SHOWN = 100  # clusters on the page
PLACE = "next"
AWAY = "The gateway does not answer. Try again."
API = (
    '<p>The API: <a href="v1/reference.md">reference</a>,'
    ' <a href="v1/openapi.json">OpenAPI</a>.</p>'
)
_TOKEN = re.compile(r"dgw_session_[A-Za-z0-9_]{1,120}")
_PLACE = re.compile(
    re.escape(DASHBOARD_PATH)
    + r"(?P<uid>c[a-z2-7]{20})(?P<rest>(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?)"
)
LIST_CLUSTERS = "/daskgateway.v1.ClusterService/ListClusters"
CLUSTERS_LISTED = (
    cluster_service_pb2.ListClustersRequest.SerializeToString,
    cluster_service_pb2.ListClustersResponse.FromString,
)
RENEW = "/daskgateway.v1.CredentialService/RenewSession"
RENEWED = (
    credential_service_pb2.RenewSessionRequest.SerializeToString,
    credential_service_pb2.RenewSessionResponse.FromString,
)
END = "/daskgateway.v1.CredentialService/EndSession"
ENDED = (
    credential_service_pb2.EndSessionRequest.SerializeToString,
    credential_service_pb2.EndSessionResponse.FromString,
)


class BrowserPages:
    """Answers everything below /login."""

    def __init__(self, front: Front, login: Login, logins: Logins, channels: Channels) -> None:
        self._front, self._login, self._logins, self._channels = front, login, logins, channels

    def place(self, path: str) -> str:
        """Return the address at which a browser signs in that wants to see a dashboard's path."""
        return f"{self._front.prefix}{LOGIN_PATH}?{urlencode({PLACE: path})}"

    async def offered(self) -> Pages:
        """Return the login pages there are."""
        return await self._logins.pages()

    async def index(self, request: web.Request) -> web.StreamResponse:
        """Answer at the gateway's own address: where browsers can sign in, they do."""
        if (await self.offered()).ways:
            return redirect(f"{self._front.prefix}{LOGIN_PATH}")
        words = "<p>Dask clusters are had here: <code>gateway.GatewayCluster()</code>.</p>"
        return page("Dask gateway", words + API, 200)

    async def login(self, request: web.Request) -> web.StreamResponse:
        """Open what a browser wants to see if it is signed in; else say how it can."""
        wanted = _PLACE.fullmatch(request.query.get(PLACE, ""))
        token = self._shown(request)
        if token and not _visits(request):
            return elsewhere()
        if token:
            answer = await self._signed_in(request, token, wanted)
            if answer is not None:
                return answer
        offered = await self.offered()
        if offered.only and "out" not in request.query and _visits(request):
            return await self._begin(request, offered.only, wanted[0] if wanted else "")
        return self._ways(offered, wanted[0] if wanted else "", "", 200)

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """Send a browser to a login page."""
        if not _visits(request):
            return elsewhere()
        wanted = _PLACE.fullmatch(request.query.get(PLACE, ""))
        return await self._begin(request, request.match_info["way"], wanted[0] if wanted else "")

    async def callback(self, request: web.Request) -> web.StreamResponse:
        """Let in a browser that has come back."""
        way = request.match_info["way"]
        answer = parse_qsl(request.raw_path.partition("?")[2][:MAX_QUERY], keep_blank_values=True)
        sealed = self._cookie(request, BEGUN_COOKIE, SECURE_BEGUN_COOKIE)
        doubled = len({name for name, _ in answer}) != len(answer)
        if not sealed or doubled or len(answer) > MAX_ANSWER:
            words = "This login was not begun in this browser, or too long ago. Begin anew."
            return self._ways(await self.offered(), "", words, 403)
        address = self._front.seen(request).address
        try:
            found = await self._logins.finish(way, sealed, dict(answer), address)
        except Refused as refused:
            return self._over(request, way, self._ways(await self.offered(), "", str(refused), 403))
        except (Unanswered, Crowded) as error:
            logger.info("a browser's login is not finished: %s", error)
            return self._over(request, way, self._ways(await self.offered(), "", AWAY, 503))
        wanted = _PLACE.fullmatch(found.goes_to)
        led = redirect(self.place(found.goes_to) if wanted else f"{self._front.prefix}{LOGIN_PATH}")
        self._set(led, request, LOGIN_COOKIE, SECURE_LOGIN_COOKIE, found.secret, LOGIN_PATH, None)
        return self._over(request, way, led)

    async def log_out(self, request: web.Request) -> web.StreamResponse:
        """End a browser's session, or all of its user's, and whatever they opened."""
        if not self._front.same_site(request):
            return elsewhere()
        token, words = self._shown(request), "You are logged out."
        everywhere = request.query.get("everywhere") == "1"
        if token:
            asked = credential_service_pb2.EndSessionRequest(everywhere=everywhere)
            try:
                await self._call(END, asked, ENDED, request, token)
            except (grpc.aio.AioRpcError, Crowded) as error:
                if _code(error) is not grpc.StatusCode.UNAUTHENTICATED:  # else it is over already
                    words = (
                        "You are logged out in this browser. The gateway does not answer: what is"
                        " open goes on until it expires."
                    )
        again = f'<p><a href="{html.escape(self._front.prefix + LOGIN_PATH)}?out=1">Log in</a></p>'
        answer = page("Dask gateway", f"<p>{html.escape(words)}</p>{again}", 200)
        self._set(answer, request, LOGIN_COOKIE, SECURE_LOGIN_COOKIE, "", LOGIN_PATH, 0)
        return answer

    # What it is made of

    async def _begin(self, request: web.Request, way: str, wanted: str) -> web.StreamResponse:
        address = self._front.seen(request).address
        try:
            begun = await self._logins.begin(way, wanted, address)
        except Refused as refused:
            return self._ways(await self.offered(), wanted, str(refused), 404)
        except (Unanswered, Crowded) as error:
            logger.info("a browser's login does not begin: %s", error)
            return self._ways(await self.offered(), wanted, AWAY, 503)
        back = urlsplit(begun.redirect_uri)
        if back.netloc.lower() != self._front.seen(request).host.lower() and (
            "there" not in request.query
        ):  # cookies are of one host: the login begins where it comes back to
            path = begun.redirect_uri.removesuffix("/callback")
            asked = urlencode({**({PLACE: wanted} if wanted else {}), "there": "1"})
            return redirect(f"{path}/begin?{asked}")
        answer = redirect(begun.url)
        path = f"{LOGIN_PATH}/{quote(way, safe='')}"
        self._set(answer, request, BEGUN_COOKIE, SECURE_BEGUN_COOKIE, begun.sealed, path, BEGUN_S)
        return answer

    async def _signed_in(
        self, request: web.Request, token: str, wanted: re.Match[str] | None
    ) -> web.StreamResponse | None:
        """Return what somebody sees who is signed in, None if the session is over."""
        try:
            renew = credential_service_pb2.RenewSessionRequest()
            renewed = await self._call(RENEW, renew, RENEWED, request, token)
            if wanted is not None:
                return await self._opened(request, token, wanted)
            asked = cluster_service_pb2.ListClustersRequest(page_size=SHOWN)
            listed = await self._call(LIST_CLUSTERS, asked, CLUSTERS_LISTED, request, token)
        except (grpc.aio.AioRpcError, Crowded) as error:
            if _code(error) is grpc.StatusCode.UNAUTHENTICATED:
                return None
            return page("Dask gateway", f"<p>{AWAY}</p>", 503)
        session = renewed.session
        return page(
            "Dask gateway", self._home(session.user, session.way, listed.clusters) + API, 200
        )

    async def _opened(
        self, request: web.Request, token: str, wanted: re.Match[str]
    ) -> web.StreamResponse:
        """Lead to a dashboard, with a session for it."""
        uid = wanted["uid"]
        decision = await self._login.with_credentials(request, uid, f"Bearer {token}")
        if decision.status == 409:
            return not_running(decision.words)
        if decision.grant is None and decision.status == 503:
            return page("Dask dashboard", f"<p>{html.escape(decision.words)}</p>", 503)
        if decision.grant is None:
            return page(
                "No such cluster", "<p>You have no cluster with a dashboard there.</p>", 404
            )
        rest = wanted["rest"] or "/status"
        return self._login.admitted(request, decision.grant, f"{self._login.root(uid)}{rest}")

    def _home(self, user: str, way: str, clusters: Sequence[Any]) -> str:
        """Return as HTML what somebody has here."""
        rows = "".join(
            f'<li><a href="{html.escape(self._login.root(one.uid))}/status">'
            f"{html.escape(one.name.rpartition('/')[2])}</a></li>"
            for one in clusters
        )
        root = html.escape(f"{self._front.prefix}{LOGIN_PATH}/out")
        return (
            f"<p>You are signed in as <b>{html.escape(user)}</b> by {html.escape(way)}.</p>"
            + (f"<h2>Clusters</h2><ul>{rows}</ul>" if rows else "<p>You have no clusters.</p>")
            + f'<form method="post" action="{root}"><button>Log out</button></form>'
            + f'<form method="post" action="{root}?everywhere=1">'
            + "<button>Log out everywhere</button></form>"
        )

    def _ways(self, offered: Pages, wanted: str, error: str, status: int) -> web.Response:
        """Return how one can sign in."""
        asked = f"?{urlencode({PLACE: wanted})}" if wanted else ""
        links = [
            f'<p><a href="{html.escape(self._front.prefix)}{LOGIN_PATH}/'
            f'{html.escape(quote(one.way, safe=""))}/begin{html.escape(asked)}">Sign in by'
            f" {html.escape(one.way)}</a></p>"
            for one in offered.ways
        ]
        if not links:
            links = ["<p>Browsers sign in at their clusters' dashboards here.</p>"]
        alarm = f'<p class="error" role="alert">{html.escape(error)}</p>' if error else ""
        return page("Dask gateway", alarm + "".join(links) + API, status)

    def _shown(self, request: web.Request) -> str:
        """Return the session's token that a browser shows, empty if it shows none."""
        found = self._cookie(request, LOGIN_COOKIE, SECURE_LOGIN_COOKIE)
        return found if _TOKEN.fullmatch(found) else ""

    def _cookie(self, request: web.Request, name: str, secure_name: str) -> str:
        own = secure_name if self._front.secure(request) else name
        return next(iter(session_cookies(list(request.headers.items()), own)), "")

    def _set(
        self,
        answer: web.Response,
        request: web.Request,
        name: str,
        secure_name: str,
        text: str,
        path: str,
        max_age_s: int | None,
    ) -> None:
        secure = self._front.secure(request)
        answer.set_cookie(
            secure_name if secure else name,
            text,
            path=f"{self._front.prefix}{path}",
            httponly=True,
            samesite="Lax",  # it is shown when a login page elsewhere leads back
            secure=secure,
            max_age=max_age_s,
        )

    def _over(self, request: web.Request, way: str, answer: web.Response) -> web.Response:
        """Return an answer after which a login that was begun is over."""
        path = f"{LOGIN_PATH}/{quote(way, safe='')}"
        self._set(answer, request, BEGUN_COOKIE, SECURE_BEGUN_COOKIE, "", path, 0)
        return answer

    async def _call(
        self, path: str, asked: Any, made: Any, request: web.Request, token: str
    ) -> Any:
        caller = self._front.seen(request).address
        shown = [(AUTHORIZATION, f"Bearer {token}")]
        answer, _ = await self._channels.unary(path, asked, caller, shown, ASK_S, made=made)
        return answer


def redirect(where: str) -> web.Response:
    """Lead a browser on. What it leaves is told to nobody."""
    headers = {"Location": where, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return web.Response(status=303, headers=headers)


def _visits(request: web.Request) -> bool:
    """Whether somebody comes to see a page, as far as the browser tells: no script of a dashboard,
    which is of the same origin, gets anything here."""
    told = request.headers
    return (
        told.get("Sec-Fetch-Mode", "navigate") == "navigate"
        and told.get("Sec-Fetch-Dest", "document") == "document"
        and "prefetch" not in told.get("Sec-Purpose", "")
    )


def _code(error: Exception) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.aio.AioRpcError) else None
