"""Who is let in to a cluster: by ticket, session, or credentials that the server is asked about.
And the login page.

A cluster that does not exist and one that is another's are answered alike. To its owner one that
has stopped says so.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote_plus, urlsplit

import grpc
from aiohttp import web
from daskgateway.v1 import credential_service_pb2 as pb

from gateway.proxy.http.access import SessionGrant, Sessions, good_ticket, now_ms
from gateway.proxy.http.bridge import credentials
from gateway.proxy.http.failures import reason_of
from gateway.proxy.http.front import Front
from gateway.proxy.http.headers import session_cookies
from gateway.proxy.http.http_server import read_body
from gateway.proxy.http.standing import Standing
from gateway.proxy.routes.routes import RouteTable
from gateway.proxy.upstream.asking import Server, TicketRefused, Unanswered
from gateway.proxy.upstream.channels import Channels
from gateway.turns import Crowded
from gateway.wire import (
    AUTHORIZATION,
    CONNECT_CODES,
    DASHBOARD_PATH,
    TICKET_QUERY,
    basic_credentials,
)

logger = logging.getLogger(__name__)

ASK_TIMEOUT_S = 30.0
TICKET_CALL = "/daskgateway.v1.CredentialService/CreateDashboardTicket"
TICKET_MADE = (
    pb.CreateDashboardTicketRequest.SerializeToString,
    pb.CreateDashboardTicketResponse.FromString,
)
# Bearer, although Basic is taken too: a browser that is asked for Basic keeps it for the whole
# origin, dashboards' code included.
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="daskgateway"', "Cache-Control": "no-store"}

# What the owner of a cluster is told that has no dashboard now, by the server's reason.
NOT_RUNNING = {
    "CLUSTER_FINISHED": "This cluster has ended, and its dashboard with it. Your credentials are"
    " right: it is the cluster that is gone."
}
NOT_YET = (
    "This cluster is not active yet: its dashboard is here once it is. Reload the page in a moment."
)

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font-family:sans-serif;max-width:24em;margin:4em auto;padding:0 1em}}label{{display:block;margin:1em 0 .2em}}
input{{width:100%;box-sizing:border-box;padding:.4em}}button{{margin-top:1em;padding:.5em 1em}}.error{{color:#a00}}</style></head>
<body><h1>{title}</h1>{body}</body></html>"""  # noqa: E501
FORM = """<p class="error" role="alert">{error}</p><form method="post" action="{action}">
<label for="user">User</label><input id="user" name="user" autocomplete="username">
<label for="password">Password</label><input id="password" name="password" type="password" autocomplete="current-password">
<label for="token">or an API token</label><input id="token" name="token" type="password" autocomplete="off">
<button>Log in</button></form>"""  # noqa: E501
LOGOUT = """<form method="post" action="{action}"><button>Log out</button></form>"""


def page(title: str, body: str, status: int) -> web.Response:
    """Return a small page; `body` is HTML."""
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": (
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors"
            " 'none'; base-uri 'none'"
        ),
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(
        text=PAGE.format(title=html.escape(title), body=body),
        status=status,
        content_type="text/html",
        headers=headers,
    )


def elsewhere() -> web.Response:
    """Return the refusal of what a page of another site sends."""
    words = (
        "This was sent from another site; or the gateway is not told how it is reached:"
        " c.DaskGateway.public_url, c.Proxy.trusted_proxies."
    )
    return page("Refused", f"<p>{words}</p>", 403)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a caller is let in: a grant with status 200; else 401 (who?), 404 (nothing there for
    the caller) or 503 (ask later)."""

    grant: SessionGrant | None
    status: int
    words: str = ""


class Login:
    """Decides who is let in."""

    def __init__(
        self,
        front: Front,
        routes: RouteTable,
        sessions: Sessions,
        standing: Standing,
        server: Server,
        channels: Channels,
        body_timeout_s: float,
    ) -> None:
        self._front, self._routes, self._sessions, self._body_timeout_s = (
            front,
            routes,
            sessions,
            body_timeout_s,
        )
        self._standing, self._server = standing, server
        self._channels = channels

    def root(self, uid: str) -> str:
        """Return the path of a cluster's dashboard, without a slash at its end."""
        return f"{self._front.prefix}{DASHBOARD_PATH}{uid}"

    async def by_session(self, request: web.Request, uid: str) -> SessionGrant | None:
        """Return the session that a request shows, None if it shows none that holds for this
        cluster."""
        for grant in self._shown(request, uid):
            if await self._standing.holds(grant):
                return grant
        return None

    def _shown(self, request: web.Request, uid: str) -> Iterator[SessionGrant]:
        for value in session_cookies(list(request.headers.items()), self._front.cookie(request)):
            grant = self._sessions.grant(value, uid)
            if grant is not None:
                yield grant

    def session_text(self, grant: SessionGrant) -> str:
        """Return a session as it stands in a cookie, which its caller now gets."""
        self._standing.begun(grant)
        return self._sessions.text(grant)

    async def renewed(self, request: web.Request, uid: str) -> SessionGrant | None:
        """Return another grant for who has stayed longer than the first lasts, by the credentials
        that were shown with the request."""
        return (await self.by_credentials(request, uid)).grant

    async def by_credentials(self, request: web.Request, uid: str) -> Decision:
        """Ask the server about the credentials that a request carries. What they open is a session,
        if its text is told to the caller."""
        given = credentials(request)
        return await self._ask(request, uid, given) if given else Decision(None, 401, "")

    async def with_credentials(self, request: web.Request, uid: str, header: str) -> Decision:
        """Ask the server about credentials that are no header of the request."""
        return await self._ask(request, uid, [(AUTHORIZATION, header)])

    async def _ask(
        self, request: web.Request, uid: str, metadata: list[tuple[str, str]]
    ) -> Decision:
        asked = pb.CreateDashboardTicketRequest(name=f"users/-/clusters/{uid}")
        caller = self._front.seen(request).address
        try:
            answer, _ = await self._channels.unary(
                TICKET_CALL, asked, caller, metadata, ASK_TIMEOUT_S, made=TICKET_MADE
            )
        except Crowded:
            return Decision(None, 503, "Too many of your calls wait here. Try again.")
        except grpc.aio.AioRpcError as error:
            name, status = CONNECT_CODES[error.code().name]
            if status >= 500 or status == 429:
                return Decision(None, 503, "The gateway does not answer. Try again.")
            if name == "failed_precondition":  # told to its owner alone, who has signed in
                return Decision(None, 409, NOT_RUNNING.get(reason_of(error), NOT_YET))
            named = reason_of(error) == "USER_NAME_REFUSED"  # only to who has the right password
            words = (error.details() or "") if named else "That did not open this dashboard."
            return Decision(None, 401 if name == "unauthenticated" else 404, words)
        text = parse_qs(urlsplit(answer.url).query).get(TICKET_QUERY, [""])[0]
        ticket = good_ticket(text, uid, self._routes.ticket_keys, now_ms())
        if ticket is None:
            return Decision(None, 503, "The gateway's ticket is not valid here.")
        return Decision(self._sessions.begin(ticket), 200)

    # For browsers

    async def redeem(
        self, request: web.Request, uid: str, rest: str, query: str
    ) -> web.StreamResponse:
        """Take a ticket for a session, and go on without it in the address. `rest` and `query` are
        as they were sent.

        The server takes it, once for all edges there are.
        """
        pieces = query.split("&")
        text = next(
            (unquote_plus(piece.partition("=")[2]) for piece in pieces if is_ticket(piece)), ""
        )
        try:
            if good_ticket(text, uid, self._routes.ticket_keys, now_ms()) is None:
                raise TicketRefused
            access = await self._server.redeem(text)
        except TicketRefused:
            return self.form(
                uid, "The link has expired, or was used before. Log in, or ask for a new one.", 401
            )
        except Unanswered as error:
            logger.info("a ticket for cluster %s cannot be taken now: %s", uid, error)
            return self.form(uid, "The gateway does not answer. Follow the link again.", 503)
        left = "&".join(piece for piece in pieces if not is_ticket(piece))
        return self.admitted(
            request,
            self._sessions.begin(access),
            f"{self.root(uid)}/{rest}{'?' if left else ''}{left}",
        )

    async def log_in(self, request: web.Request, uid: str) -> web.StreamResponse:
        """Take a form for a session."""
        if not self._front.same_site(request):
            return elsewhere()
        try:
            form = parse_qs(
                (await read_body(request, self._body_timeout_s)).decode(errors="replace"),
                max_num_fields=10,
            )
        except ValueError:
            return page("Refused", "<p>This is not the form of this page.</p>", 400)
        given = {key: values[0] for key, values in form.items()}
        token = given.get("token", "").strip()
        header = (
            f"Bearer {token}"
            if token
            else basic_credentials(given.get("user", ""), given.get("password", ""))
        )
        if not header.isascii() or any(ord(letter) < 32 for letter in header):
            return self.form(uid, "That did not open this dashboard.", 401)
        admission = await self._ask(request, uid, [(AUTHORIZATION, header)])
        if admission.status == 409:
            return not_running(admission.words)
        if admission.grant is None:
            return self.form(uid, admission.words, 503 if admission.status == 503 else 401)
        return self.admitted(request, admission.grant, f"{self.root(uid)}/status")

    def admitted(self, request: web.Request, grant: SessionGrant, where: str) -> web.Response:
        """Lead a browser on, with a session in a cookie."""
        answer = web.Response(
            status=303,
            headers={
                "Location": where,
                "Cache-Control": "no-store",
                "Referrer-Policy": "no-referrer",
            },
        )
        self._set_cookie(answer, request, grant.uid, self.session_text(grant))
        return answer

    def _set_cookie(
        self,
        answer: web.Response,
        request: web.Request,
        uid: str,
        text: str,
        max_age_s: int | None = None,
    ) -> None:
        name, secure, path = (
            self._front.cookie(request),
            self._front.secure(request),
            f"{self.root(uid)}/",
        )
        answer.set_cookie(
            name, text, path=path, httponly=True, samesite="Lax", secure=secure, max_age=max_age_s
        )

    async def log_out(self, request: web.Request, uid: str) -> web.StreamResponse:
        """End the session that a request shows, everywhere; or ask whether it is to be."""
        if request.method != "POST":
            return page("Dask dashboard", LOGOUT.format(action=f"{self.root(uid)}/logout"), 200)
        if not self._front.same_site(request):
            return elsewhere()
        words = "You are logged out."
        for grant in self._shown(request, uid):
            self._standing.deny(grant)
            try:
                await self._server.end_session(grant)
            except Unanswered as error:
                logger.warning(
                    "a session of %s is ended here, and the server is not told: %s",
                    grant.user,
                    error,
                )
                words = (
                    "You are logged out here. The gateway does not answer: other edges of it"
                    " let this session in until it expires."
                )
        answer = page("Dask dashboard", f"<p>{words}</p>", 200)
        self._set_cookie(answer, request, uid, "", 0)
        return answer

    def ask_to_log_in(self, request: web.Request, uid: str) -> web.Response:
        """Return the login page to who reads pages, a plain refusal to all others."""
        wants_page = "text/html" in request.headers.get("Accept", "") and request.method == "GET"
        if wants_page and request.headers.get("Upgrade") is None:
            return self.form(uid, "", 401)
        return web.Response(status=401, text="log in first\n", headers=CHALLENGE)

    def form(self, uid: str, error: str, status: int, elsewhere: str = "") -> web.Response:
        """Return the login page; `elsewhere` is where one can sign in otherwise."""
        form = FORM.format(error=html.escape(error), action=f"{self.root(uid)}/login")
        if elsewhere:
            form += f'<p><a href="{html.escape(elsewhere)}">Sign in in another way</a></p>'
        answer = page("Dask dashboard", form, status)
        if status == 401:
            answer.headers.update(CHALLENGE)
        return answer


def not_running(words: str) -> web.Response:
    """Return that a cluster has no dashboard now, to its owner."""
    return page("Not running", f"<p>{html.escape(words)}</p>", 404)


def is_ticket(piece: str) -> bool:
    """Whether a piece of a query is a ticket."""
    return piece.partition("=")[0] == TICKET_QUERY
