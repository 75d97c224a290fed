"""The edge put together: what its parts are, in which order they begin and end.

The way of a connection: listener (first bytes) → sorter (what it is for) → carrier (relayed to a
scheduler) or doorway (served here: gRPC, pages, tunnels).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Coroutine, Iterator
from typing import Any

from gateway.configfile import ConfigurationError
from gateway.descriptors import raise_descriptor_limit
from gateway.networks import Destinations
from gateway.proxy import settings
from gateway.proxy.config import Proxy
from gateway.proxy.counting import reading
from gateway.proxy.counting.counts import Counts
from gateway.proxy.door.admission import Admission
from gateway.proxy.door.client_hello import unrecognized_name_alert
from gateway.proxy.door.doorway import Doorway
from gateway.proxy.door.listener import Listener, bind
from gateway.proxy.door.sorting import Sorter
from gateway.proxy.http.access import Sessions, session_key
from gateway.proxy.http.application import application
from gateway.proxy.http.browsers import BrowserPages
from gateway.proxy.http.certificate import ServedCertificate
from gateway.proxy.http.dashboards import Dashboards
from gateway.proxy.http.front import Front
from gateway.proxy.http.http_server import HttpServer
from gateway.proxy.http.login import Login
from gateway.proxy.http.standing import Standing
from gateway.proxy.http.tunnel import Tunnel
from gateway.proxy.http2.bounds import Bounds
from gateway.proxy.http2.connections import Http2Server
from gateway.proxy.relay.carrier import Carrier
from gateway.proxy.relay.pipes import PipePool
from gateway.proxy.routes.lookup import Names
from gateway.proxy.routes.routes import RouteTable
from gateway.proxy.sockets.poller import Poller
from gateway.proxy.upstream.asking import Server
from gateway.proxy.upstream.channels import Channels
from gateway.proxy.upstream.logins import Logins
from gateway.proxy.upstream.turns import Calls, Shares
from gateway.proxy.upstream.way import Upstream
from gateway.wire import host_port

logger = logging.getLogger(__name__)


class Edge:
    """The edge."""

    def __init__(self, options: Proxy) -> None:
        self.options = options
        self.counts = Counts()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stack = contextlib.AsyncExitStack()

    async def start(self) -> str:
        """Begin; return host:port. ConfigurationError if that cannot be; nothing is open then."""
        try:
            return await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self) -> str:
        options = self.options
        place = settings.checked(options)
        self._upstream = Upstream(options.server_address, options.server_ca, options.token_file)
        self._front = Front(options)
        self._loop = asyncio.get_running_loop()
        self.state_dir = settings.made_state_dir(options)
        self._certificate = ServedCertificate(options.tls_cert, options.tls_key)
        self._certificate.load()
        with self._port_errors():
            bound = bind(place.host, place.port, reuse_port=options.reuse_port)
        self._stack.callback(bound.close)
        host, port = bound.getsockname()[:2]
        self._open_relays(
            Destinations(
                place.networks,
                settings.own_ports(options, port, self._upstream.port),
                beside=settings.beside(options.server_address),
            )
        )
        await self._open_pages()
        self._open_door()
        self.routes.load()  # nobody is accepted before this returns
        with self._port_errors():
            self.listener.begin(bound)
        self._spawn(self.routes.follow(self._channels.own, options.token_file))
        self._spawn(self._standing.run())
        if self._certificate.secure:
            self._spawn(self._certificate.follow())
        return host_port(str(host), int(port))

    def _open_relays(self, targets: Destinations) -> None:
        """Make what carries bytes to schedulers, and what knows where those are."""
        options = self.options
        wanted = settings.descriptors_wanted(options)
        connections, words = wanted.fitting(raise_descriptor_limit())
        if words:
            logger.warning("%s", words)
        self.admission = Admission(settings.capacity(options, connections))
        self.poller = Poller(self._loop)
        self._stack.callback(self.poller.close)
        self._names = Names()
        self._stack.callback(self._names.close)
        self.carrier = Carrier(
            self.poller,
            PipePool(options.max_pipes),
            self.counts,
            targets,
            self._names,
            self.admission,
            unreached=unrecognized_name_alert(),
            connect_timeout_s=options.connect_timeout_s,
            linger_s=options.linger_s,
            near_congestion=options.loopback_congestion,
        )
        self._calls = Calls(Shares())
        self._stack.callback(self._calls.close)
        self._channels = Channels(self._upstream, self._calls, options.token_file)
        self._stack.push_async_callback(self._channels.close)
        self._server = Server(self._channels, options.token_file)
        self._standing = Standing(self._server)
        self.routes = RouteTable(
            self.state_dir / "routes.json", targets, self.counts, self._end_open
        )

    def _end_open(self, uids: Collection[str]) -> int:
        """End what is open to clusters; return how much that was."""
        return self.carrier.cut(uids) + self._standing.end(uids)

    async def _open_pages(self) -> None:
        """Make what is served over HTTP/1.1: the API's bridge, dashboards, tunnels."""
        options = self.options
        sessions = Sessions(session_key(self.state_dir / "session.key"), options.session_s)
        login = Login(
            self._front,
            self.routes,
            sessions,
            self._standing,
            self._server,
            self._channels,
            options.body_timeout_s,
        )
        browsers = BrowserPages(
            self._front, login, Logins(self._channels, options.token_file), self._channels
        )
        dashboards = Dashboards(
            options, self._front, self.routes, self._names, login, self._standing, browsers
        )
        await dashboards.open()
        self._stack.push_async_callback(dashboards.close)
        self._tunnel = Tunnel(
            options,
            self._front,
            self.routes,
            self._names,
            login,
            self._standing,
            self.admission,
            self.counts,
        )
        app = application(
            options,
            self._front,
            self._channels,
            self.routes,
            dashboards,
            self._tunnel,
            browsers,
            lambda: len(self.carrier.relays),
        )
        self._http_server = HttpServer(app, options)
        await self._http_server.open()
        self._stack.push_async_callback(self._http_server.close)

    def _open_door(self) -> None:
        """Make what takes connections in and hands them on."""
        options = self.options
        self.http2 = Http2Server(
            self._upstream,
            self._calls,
            self.counts,
            Bounds(),
            self._http_server.protocol,
            head_s=options.header_timeout_s,
            body_s=options.message_timeout_s,
            idle_s=options.keepalive_timeout_s,
        )
        self._stack.push_async_callback(self.http2.close)
        self._doorway = Doorway(
            self._http_server.protocol,
            self.http2.session,
            self.counts,
            self.admission.leave,
            handshake_s=options.header_timeout_s,
        )
        self._stack.callback(self._doorway.close)
        sorter = Sorter(
            self.routes,
            self.admission,
            self.counts,
            self.carrier,
            self._doorway,
            self._certificate,
            self._spawn,
            settings.mutual(options),
        )
        self.listener = Listener(
            self.poller,
            self.admission,
            self.counts,
            sorter.serve,
            hello_timeout_s=options.hello_timeout_s,
        )

    @contextlib.contextmanager
    def _port_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigurationError(
                f"c.Proxy.address: cannot listen on {self.options.address}: {error.strerror}"
            ) from None

    def numbers(self) -> dict[str, float]:
        """Return everything that is counted, by name."""
        return reading.read(
            self.counts,
            self.admission,
            self.listener,
            self.http2,
            self.carrier,
            self._tunnel,
            self.routes,
        )

    def reload(self) -> None:
        """Read the certificate again; a broken one is logged and the old one stays."""
        self._certificate.reload()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Take nobody in, let relays go on for a while, then let everything go."""
        self.listener.close()
        await asyncio.gather(
            self.carrier.drain(self.options.drain_s), self.http2.drain(self.options.drain_s)
        )
        await self.carrier.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.routes.save()
        await self._stack.aclose()
