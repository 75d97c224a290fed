"""The way to a scheduler through a WebSocket, where only HTTP passes: a local socket whose bytes
the edge carries to the scheduler.

TLS with the scheduler itself is run over that socket by the caller, so that the edge and whatever
stands before it see none of it. The WebSocket is tornado's, which Dask brings. Its protocol is told
in the edge's tunnel: binary messages, an empty one for the end.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from distributed.comm.tcp import set_tcp_timeout
from distributed.utils import wait_for
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.httputil import HTTPHeaders
from tornado.iostream import StreamClosedError
from tornado.websocket import (
    WebSocketClientConnection,
    WebSocketClosedError,
    websocket_connect,
)

from gateway.client.calls.channel import Connection, in_thread
from gateway.client.calls.errors import AuthenticationFailed
from gateway.client.calls.forward_proxy import ForwardProxy, ProxyRefused, proxy_for
from gateway.client.calls.http_calls import tls_context
from gateway.client.dask.proxied import ProxiedClient
from gateway.wire import AUTHORIZATION, SESSION_COOKIES, TUNNEL_PATH, TUNNEL_PROTOCOL

logger = logging.getLogger(__name__)

CHUNK_BYTES = 256 * 1024
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
CONNECT_S = 20.0
LINGER_S = 5.0  # for what the scheduler still says once this side has ended
MAX_SESSIONS = 256

# the edge's cookie by tunnel and caller: it lets in without asking the server again
_sessions: dict[tuple[str, str], str] = {}
# one a tunnel: the event loop itself would not keep them
_carrying: set[asyncio.Task[None]] = set()


class TunnelRefused(OSError):
    """The gateway answered, and opened no tunnel."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


async def open_tunnel(connection: Connection, uid: str) -> socket.socket:
    """Return a socket that leads to a cluster's scheduler; OSError says why there is none."""
    settings = connection.settings
    if settings.address.startswith("unix:"):
        raise OSError("a unix socket has no tunnels")
    if settings.auth.pair() is not None:
        raise OSError(
            "a tunnel goes over HTTP, where no client certificate is shown; use an API token where"
            " nothing but HTTP passes"
        )
    url = f"{settings.address.replace('http', 'ws', 1)}{TUNNEL_PATH}{uid}"
    header = await in_thread(connection.authorization)
    headers = {AUTHORIZATION: header} if header else {}
    whose = (url, header)
    if whose in _sessions:
        headers["Cookie"] = _sessions[whose]
    context = tls_context(settings) if settings.secure else None
    request = HTTPRequest(
        url,
        headers=headers,
        connect_timeout=CONNECT_S,
        request_timeout=CONNECT_S,
        ssl_options=context,
        follow_redirects=False,  # to where the credentials were not meant for
    )
    try:
        proxy = proxy_for(settings.address)
    except ValueError as error:
        raise OSError(str(error)) from None
    try:
        tunnel = await _connected(request, proxy)
    except ProxyRefused:
        raise
    except HTTPClientError as error:
        if error.code == 599:  # tornado's own, for no answer at all
            raise OSError(f"{url}: no tunnel: {error.message}") from error
        _sessions.pop(whose, None)
        if error.code == 401 and connection.session is not None:
            connection.session.refused(header)  # the next try signs in anew
        raise _refused(uid, error, connection) from None
    except Exception as error:  # tornado has one of its own for whatever is not quite HTTP
        raise OSError(f"{url}: no tunnel: {str(error) or type(error).__name__}") from error
    if len(_sessions) >= MAX_SESSIONS:
        _sessions.pop(next(iter(_sessions)), None)
    if session := _session(tunnel.headers.get_list("Set-Cookie")):
        _sessions[whose] = session
    try:
        set_tcp_timeout(tunnel.protocol.stream)
        ours, theirs = loopback_pair()
    except BaseException:
        _close(tunnel)
        raise
    task = asyncio.ensure_future(_carry(tunnel, theirs))
    _carrying.add(task)
    task.add_done_callback(_carrying.discard)
    return ours


async def _connected(request: HTTPRequest, proxy: ForwardProxy | None) -> Any:
    """Return a WebSocket. One that opens when nobody waits for it any more is closed: tornado would
    keep it."""
    opening: Any
    if proxy is None:
        opening = websocket_connect(
            request, max_message_size=MAX_MESSAGE_BYTES, subprotocols=[TUNNEL_PROTOCOL]
        )
    else:
        opening = _through(request, ProxiedClient(proxy))
    try:
        return await wait_for(asyncio.shield(opening), timeout=CONNECT_S)
    except BaseException:
        opening.add_done_callback(_let_go)
        raise


def _through(request: HTTPRequest, client: ProxiedClient) -> Any:
    """Return a WebSocket to be, through a proxy, which tornado's own function knows no way for."""

    class Through(WebSocketClientConnection):
        @property  # type: ignore[override]
        def tcp_client(self) -> ProxiedClient:
            return client

        @tcp_client.setter
        def tcp_client(self, _: Any) -> None:
            """Stay with the one that goes through the proxy."""

    request.headers = HTTPHeaders(request.headers)  # which that function would have done
    made = Through(request, max_message_size=MAX_MESSAGE_BYTES, subprotocols=[TUNNEL_PROTOCOL])
    return made.connect_future


def _let_go(opening: Any) -> None:
    if not opening.cancelled() and opening.exception() is None:
        _close(opening.result())


def _session(cookies: list[str]) -> str:
    """Return the edge's cookie among those that an answer sets: a balancer in between may set its
    own."""
    pairs = [cookie.partition(";")[0].strip() for cookie in cookies]
    return next((pair for pair in pairs if pair.partition("=")[0].rstrip() in SESSION_COOKIES), "")


def _refused(uid: str, error: HTTPClientError, connection: Connection) -> TunnelRefused:
    words = "the gateway opens no tunnel now"
    if error.code == 401:  # with whence the credentials are, as any other call tells it
        told = AuthenticationFailed("", code="UNAUTHENTICATED", reason="CREDENTIALS_INVALID")
        words = str(connection.settings.refused(told))
    elif error.code == 404:
        words = f"the gateway knows no way to cluster {uid} now"
    return TunnelRefused(f"{words} (HTTP status {error.code})", error.code)


def loopback_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected TCP sockets of this process. TCP, as Dask sets TCP's options on whatever
    it talks over."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        listening.settimeout(1.0)
        ours = socket.create_connection(listening.getsockname(), timeout=1.0)
        try:
            while True:
                theirs, address = listening.accept()
                if address == ours.getsockname():
                    break
                theirs.close()  # another process of this machine got in between
        except BaseException:
            ours.close()
            raise
    for end in (ours, theirs):
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


async def _carry(tunnel: Any, end: socket.socket) -> None:
    """Carry bytes both ways until both have ended or one has broken."""
    up, down = asyncio.ensure_future(_up(end, tunnel)), asyncio.ensure_future(_down(tunnel, end))
    try:
        await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait([up, down], timeout=LINGER_S)
    finally:
        for way in (up, down):
            way.cancel()
        try:
            await asyncio.gather(up, down, return_exceptions=True)
        finally:  # at the end of the process's loop, the cancellation may come twice
            end.close()
            _close(tunnel)


async def _up(end: socket.socket, tunnel: Any) -> None:
    """Carry what this process says; a write ends once the WebSocket's own buffer is empty, and no
    more is read before."""
    loop = asyncio.get_running_loop()
    try:
        while piece := await loop.sock_recv(end, CHUNK_BYTES):
            await tunnel.write_message(piece, binary=True)
        await tunnel.write_message(b"", binary=True)
    except (WebSocketClosedError, StreamClosedError, OSError) as error:
        logger.debug("a tunnel's way up broke: %s", error)
        _close(tunnel)


async def _down(tunnel: Any, end: socket.socket) -> None:
    """Carry what the scheduler says; the WebSocket reads on only when its last message is taken."""
    loop = asyncio.get_running_loop()
    try:
        while piece := await tunnel.read_message():
            await loop.sock_sendall(end, piece)
        end.shutdown(socket.SHUT_WR)
    except OSError as error:
        logger.debug("a tunnel's way down broke: %s", error)


def _close(tunnel: Any) -> None:
    """Say goodbye and let go at once: to wait for the other side's goodbye would outlive the event
    loop of a process that ends."""
    stream = tunnel.protocol.stream if tunnel.protocol is not None else None
    tunnel.close()
    if stream is not None:
        stream.close()
