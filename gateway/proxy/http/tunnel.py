"""A WebSocket that carries a scheduler's TLS bytes, where only HTTP passes. Knows the bytes' way,
not their meaning.

`GET /tunnel/{uid}` with the caller's credentials, or with the session that an earlier answer gave,
so that a connection lost while the server is away can be made again. Binary messages are the bytes;
an empty one is the end of its direction, which WebSockets have no word for. They must begin as on
the direct way, with a ClientHello for that cluster: until then nothing passes either way, so that
no other service can be talked to. The TLS inside is checked at its own two ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from socket import SO_LINGER, SOL_SOCKET

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from gateway.proxy.config import Proxy
from gateway.proxy.counting.counts import Counts
from gateway.proxy.door.admission import Admission
from gateway.proxy.door.client_hello import (
    MAX_HELLO_BYTES,
    Hello,
    NeedMore,
    judge,
    unrecognized_name_alert,
)
from gateway.proxy.http.access import SessionGrant
from gateway.proxy.http.front import Front
from gateway.proxy.http.login import CHALLENGE, Login
from gateway.proxy.http.standing import Standing
from gateway.proxy.relay.relay import RESET
from gateway.proxy.routes.lookup import Names
from gateway.proxy.routes.routes import Route, RouteTable
from gateway.wire import TUNNEL_PATH, TUNNEL_PROTOCOL, is_uid, uid_of_server_name

logger = logging.getLogger(__name__)

CHUNK_BYTES = 256 * 1024  # read from the scheduler at a time
# kept for the scheduler beyond what the kernel takes; nothing is read from the caller while there
# is more
BUFFER_BYTES = 1024 * 1024
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
PING_S = 20.0  # keeps proxies between from taking the tunnel for idle
# a caller who does not even answer pings for so long is gone; long, as a busy process may be late
SILENCE_S = 600.0


class Tunnel:
    """Answers GET /tunnel/{uid}."""

    def __init__(
        self,
        options: Proxy,
        front: Front,
        routes: RouteTable,
        names: Names,
        login: Login,
        standing: Standing,
        admission: Admission,
        counts: Counts,
    ) -> None:
        self._options, self._front, self._routes, self._names, self._login = (
            options,
            front,
            routes,
            names,
            login,
        )
        self._standing, self._admission, self._counts = standing, admission, counts
        self._open: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """How many are open."""
        return self._open.total()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        uid = request.match_info["uid"]
        if not self._front.same_site(request):
            return web.Response(
                status=403, text="this WebSocket was asked for by a page of another site\n"
            )
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.Response(
                status=426, text="this is a WebSocket\n", headers={"Upgrade": "websocket"}
            )
        grant, cookie = await self._login.by_session(request, uid), ""
        if grant is None:
            admission = await self._login.by_credentials(request, uid if is_uid(uid) else "-")
            if admission.status == 401:
                return web.Response(
                    status=401, text="credentials are missing or not accepted\n", headers=CHALLENGE
                )
            if admission.status == 503:
                return web.Response(
                    status=503,
                    text="the gateway does not answer; try again\n",
                    headers={"Retry-After": "1"},
                )
            grant = admission.grant
            cookie = self._login.session_text(grant) if grant is not None else ""
        route = self._routes.find(uid)
        if grant is None or route is None:
            return web.Response(status=404, text="no such cluster\n")
        with self._counted(uid) as room:
            if not room:
                return web.Response(
                    status=503,
                    text="there are too many tunnels now; try again\n",
                    headers={"Retry-After": "5"},
                )
            return await self._carry(request, route, grant, cookie)

    @contextlib.contextmanager
    def _counted(self, uid: str) -> Iterator[bool]:
        """Tell whether there is room for one more; it takes up its cluster's share of connections
        as any other."""
        room = (
            self.count < self._options.max_tunnels
            and self._open[uid] < self._options.max_tunnels_per_cluster
        )
        if not (room and self._admission.join(uid)):
            self._counts.refused_cluster += 1
            yield False
            return
        self._open[uid] += 1
        try:
            yield True
        finally:
            self._admission.part(uid)
            self._open[uid] -= 1
            if not self._open[uid]:
                del self._open[uid]

    async def _carry(
        self, request: web.Request, route: Route, grant: SessionGrant, cookie: str
    ) -> web.StreamResponse:
        """Open a tunnel and carry; `cookie`: the text of a session that begins with it. One that
        exists is never made longer."""
        try:
            async with asyncio.timeout(self._options.connect_timeout_s):
                reader, writer = await self._names.connect(
                    route.target, self._routes.targets, limit=CHUNK_BYTES
                )
        except (OSError, TimeoutError):
            return web.Response(status=502, text="the scheduler is not reached\n")
        try:
            socket = web.WebSocketResponse(
                protocols=[TUNNEL_PROTOCOL],
                max_msg_size=MAX_MESSAGE_BYTES,
                autoping=False,
                compress=False,
                timeout=2.0,
            )
            secure = self._front.secure(request)
            path = f"{self._front.prefix}{TUNNEL_PATH}{route.uid}"
            if cookie:
                socket.set_cookie(
                    self._front.cookie(request),
                    cookie,
                    path=path,
                    httponly=True,
                    samesite="Strict",
                    secure=secure,
                )
            await socket.prepare(request)
            writer.transport.set_write_buffer_limits(BUFFER_BYTES)
            carriage = _Carriage(socket, reader, writer)
            if await carriage.begin(route.uid, self._options.hello_timeout_s):
                let_go = self._standing.hold(
                    grant, carriage.end, lambda: self._login.renewed(request, route.uid)
                )
                try:
                    await carriage.run()
                finally:
                    let_go()
            else:
                self._counts.junk += 1
            await socket.close(code=carriage.close_code)
            return socket
        finally:
            writer.close()


class _Carriage:
    """Both directions of one tunnel."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._socket, self._reader, self._writer = socket, reader, writer
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._ended = {"up": False, "down": False}
        self._heard_at = self._loop.time()
        # for the scheduler to take what the caller sent; meanwhile nothing is heard of the caller
        self._waiting = False
        self.close_code = int(WSCloseCode.OK)

    async def begin(self, uid: str, timeout_s: float) -> bool:
        """Pass the first bytes on once they are a whole hello for the cluster; False if they are
        none, or not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                hello = await self._hello(uid)
        except (TimeoutError, ConnectionError):
            return False
        if hello is None:
            with contextlib.suppress(ConnectionError, RuntimeError):
                await self._socket.send_bytes(unrecognized_name_alert())
            return False
        self._writer.write(hello)
        return True

    async def _hello(self, uid: str) -> bytes | None:
        received, wanted = b"", 1
        while True:
            message = await self._receive()
            if message.type is not WSMsgType.BINARY:
                continue
            received += message.data
            if message.data and len(received) < wanted:
                continue
            verdict = judge(received[:MAX_HELLO_BYTES])
            if not isinstance(verdict, NeedMore) or not message.data:
                named = (
                    isinstance(verdict, Hello) and uid_of_server_name(verdict.server_name) == uid
                )
                return received if named and message.data else None
            wanted = verdict.total

    async def _receive(self) -> WSMessage:
        """Return the next message, which may be an answered ping; ConnectionResetError if there
        will be no more."""
        message = await self._socket.receive()
        self._heard_at = self._loop.time()
        if message.type is WSMsgType.PING:
            await self._socket.pong(message.data)
        elif message.type not in (WSMsgType.BINARY, WSMsgType.PONG):
            raise ConnectionResetError("the caller has closed it")
        return message

    async def run(self) -> None:
        """Carry until both directions have ended, or one side is gone."""
        ways = [
            asyncio.ensure_future(way)
            for way in (
                self._until_over(self._up),
                self._until_over(self._down),
                self._until_over(self._ping),
            )
        ]
        try:
            await self._over.wait()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    def end(self) -> None:
        """End both directions: the caller may not go on. The scheduler is to know that nobody has
        ended anything."""
        self.close_code = int(WSCloseCode.POLICY_VIOLATION)
        self._reset()
        self._over.set()

    def _reset(self) -> None:
        with contextlib.suppress(OSError):  # it is closed already
            self._writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, RESET)

    async def _until_over(self, way: Callable[[], object]) -> None:
        """Go one way; a break of it ends the whole."""
        whole = False
        try:
            await way()  # type: ignore[misc]
            whole = True
        # aiohttp raises RuntimeError when it writes to a socket that is being closed
        except (OSError, RuntimeError) as error:
            logger.debug("a tunnel broke: %s", error)
        finally:
            if not whole or all(self._ended.values()):
                self._over.set()

    async def _up(self) -> None:
        while not all(self._ended.values()):
            message = await self._receive()
            if message.type is WSMsgType.BINARY:
                if self._ended["up"]:
                    raise ConnectionResetError("the caller goes on after the end")
                await self._pass_up(message.data)

    async def _pass_up(self, piece: bytes) -> None:
        if not piece:
            self._ended["up"] = True
            self._writer.write_eof()
            return
        self._writer.write(piece)
        self._waiting = True
        await self._writer.drain()
        self._waiting, self._heard_at = False, self._loop.time()

    async def _down(self) -> None:
        while piece := await self._reader.read(CHUNK_BYTES):
            await self._socket.send_bytes(piece)
        self._ended["down"] = True
        await self._socket.send_bytes(b"")

    async def _ping(self) -> None:
        while self._waiting or self._loop.time() - self._heard_at < SILENCE_S:
            await asyncio.sleep(PING_S)
            await self._socket.ping()
        self._reset()  # the caller has not ended: the scheduler is to know
        raise ConnectionResetError("the caller does not answer")
