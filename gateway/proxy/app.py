"""The edge while it runs: one public port, sorted by first bytes, and everything that is served
behind it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import pathlib
from collections.abc import Collection
from socket import SocketType
from typing import Any
from urllib.parse import urlsplit

from gateway.configfile import ConfigurationError
from gateway.custody import directory_problem
from gateway.descriptors import Demand, raise_descriptor_limit
from gateway.networks import Targets, is_here, literal, parse_address, parse_networks
from gateway.proxy.config import Proxy
from gateway.proxy.counting.counts import Counts, Gauges, as_numbers
from gateway.proxy.door.admission import Admission, Limits
from gateway.proxy.door.client_hello import Hello, Http2, Verdict, unrecognized_name_alert
from gateway.proxy.door.doorway import Doorway
from gateway.proxy.door.listener import Listener, refuse
from gateway.proxy.http.access import Sessions, session_key
from gateway.proxy.http.application import application
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
from gateway.proxy.relay.relay import Place
from gateway.proxy.routes.lookup import Names
from gateway.proxy.routes.routes import Route, RouteTable
from gateway.proxy.sockets.poller import Poller
from gateway.proxy.upstream.asking import Server
from gateway.proxy.upstream.channels import Channels
from gateway.proxy.upstream.turns import Calls, Shares
from gateway.proxy.upstream.way import Upstream
from gateway.wire import decimal, uid_of_server_name

logger = logging.getLogger(__name__)

# for what is loaded, logs, the server's channel, idle connections to dashboards
DESCRIPTORS_KEPT = 192
LEAST_CONNECTIONS = 64
STOPPED_S = 20.0  # from a cluster's stop until what is still open to it is ended
NO_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nthis"
    b" port speaks TLS: use https\n"
)


class Edge:
    """The edge."""

    def __init__(self, options: Proxy) -> None:
        self.options = options
        self.state_dir = pathlib.Path(os.path.expanduser(options.state_dir))
        self.counts = Counts()
        self.routes = RouteTable(self.state_dir / "routes.json", self.counts)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stack = contextlib.AsyncExitStack()
        self._certificate = ServedCertificate(options.tls_cert, options.tls_key)

    async def start(self) -> str:
        """Begin; return host:port. ConfigurationError if that cannot be; nothing is open then."""
        try:
            return await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self) -> str:
        host, port = self._check()
        self._front = Front(self.options)
        self._loop = asyncio.get_running_loop()
        self._make_state_dir()
        options = self.options
        calls = Calls(Shares())
        self._stack.callback(calls.close)
        channels = Channels(self._upstream, calls, options.token_file)
        self._stack.push_async_callback(channels.close)
        sessions = Sessions(session_key(self.state_dir / "session.key"), options.session_s)
        server = Server(channels, options.token_file)
        self._standing = Standing(server)
        login = Login(
            self._front,
            self.routes,
            sessions,
            self._standing,
            server,
            channels,
            options.body_timeout_s,
        )
        self._names = Names()
        self._stack.callback(self._names.close)
        dashboards = Dashboards(
            options, self._front, self.routes, self._names, login, self._standing
        )
        await dashboards.open()
        self._stack.push_async_callback(dashboards.close)
        self.admission = Admission(self._limits())
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
            channels,
            self.routes,
            dashboards,
            self._tunnel,
            lambda: len(self.carrier.relays),
        )
        self._http_server = HttpServer(app, options)
        await self._http_server.open()
        self._stack.push_async_callback(self._http_server.close)
        self.http2 = Http2Server(
            self._upstream,
            calls,
            self.counts,
            Bounds(),
            self._http_server.protocol,
            head_s=options.header_timeout_s,
            body_s=options.message_timeout_s,
            idle_s=options.keepalive_timeout_s,
        )
        self._stack.push_async_callback(self.http2.close)
        self._certificate.load()
        shown = self._open_port(host, port)
        self._spawn(self.routes.follow(channels.own, options.token_file))
        self._spawn(self._standing.run())
        if self._certificate.secure:
            self._spawn(self._certificate.follow())
        return shown

    def _open_port(self, host: str, port: int) -> str:
        options = self.options
        self.poller = Poller(self._loop)
        self._stack.callback(self.poller.close)
        self.listener = Listener(
            self.poller,
            self.admission,
            self.counts,
            self._serve,
            hello_timeout_s=options.hello_timeout_s,
        )
        try:
            bound = self.listener.listen(host, port, reuse_port=options.reuse_port)
        except OSError as error:
            raise ConfigurationError(
                f"c.Proxy.address: cannot listen on {options.address}: {error.strerror}"
            ) from None
        self._doorway = Doorway(
            self._http_server.protocol,
            self.http2.session,
            self.counts,
            self.listener.leave,
            handshake_s=options.header_timeout_s,
        )
        self._stack.callback(self._doorway.close)
        targets = Targets(
            self._networks,
            _own_ports(options, bound[1], self._upstream.port),
            beside=_beside(options.server_address),
        )
        self.carrier = Carrier(
            self.poller,
            PipePool(options.max_pipes),
            self.counts,
            targets,
            self._names,
            connect_timeout_s=options.connect_timeout_s,
            linger_s=options.linger_s,
            near_congestion=options.loopback_congestion,
        )
        self.carrier.ended = self._over
        self.routes.targets = targets
        self.routes.gone = self._gone
        self.routes.load()  # nobody is accepted before this returns
        return f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"

    def _limits(self) -> Limits:
        options = self.options
        connections, words = descriptors_wanted(options).fitting(raise_descriptor_limit())
        if words:
            logger.warning("%s", words)
        return Limits(
            connections,
            options.max_connections_per_address,
            options.max_connections_per_cluster,
            options.max_newcomers,
        )

    def _check(self) -> tuple[str, int]:
        options = self.options
        host, _, text = options.address.rpartition(":")
        host, port = host.strip("[]"), decimal(text)
        if port is None or port > 65535:
            raise ConfigurationError(f"c.Proxy.address: must be host:port, not {options.address!r}")
        if bool(options.tls_cert) != bool(options.tls_key):
            raise ConfigurationError("c.Proxy.tls_cert and tls_key: set both or none")
        if not options.tls_cert and not options.insecure_ok and not _loopback(host):
            raise ConfigurationError(
                f"c.Proxy.address: {options.address} is reachable from elsewhere; set tls_cert and"
                f" tls_key (or insecure_ok = True)"
            )
        if not options.token_file:
            raise ConfigurationError(
                "c.Proxy.token_file: must name the file edge.token in the server's state_dir"
            )
        self._upstream = Upstream(options.server_address, options.server_ca, options.token_file)
        try:
            self._networks = parse_networks(options.scheduler_networks)
        except ValueError as error:
            raise ConfigurationError(f"c.Proxy.scheduler_networks: {error}") from None
        return host, port

    def _make_state_dir(self) -> None:
        try:
            self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"c.Proxy.state_dir: cannot make {self.state_dir}: {error.strerror}"
            ) from None
        # Whoever knows the key of sessions is let in to every dashboard. What lies in a directory
        # of ours alone, we have put there.
        if (wrong := directory_problem(self.state_dir)) and directory_problem(
            self.state_dir.parent
        ):
            raise ConfigurationError(f"c.Proxy.state_dir: {wrong}")

    # Sorting

    def _serve(self, newcomer: SocketType, verdict: Verdict, address: str) -> None:
        counts = self.counts
        if isinstance(verdict, Hello):
            route = self.routes.named(verdict.server_name)
            if route is not None or uid_of_server_name(verdict.server_name) is not None:
                counts.to_scheduler += 1
                self._relay(newcomer, route, address)
            elif self._certificate.context is None:
                self._turn_away(newcomer, address, b"")
            else:
                counts.to_https += 1
                self._spawn(
                    self._doorway.admit(newcomer, self._certificate.context, address, http2=False)
                )
        # clear text; an HTTP/2 client would not understand an answer in HTTP/1
        elif self._certificate.secure:
            self._turn_away(newcomer, address, b"" if isinstance(verdict, Http2) else NO_TLS)
        elif isinstance(verdict, Http2):
            counts.to_http2 += 1
            self._spawn(self._doorway.admit(newcomer, None, address, http2=True))
        else:
            counts.to_http += 1
            self._spawn(self._doorway.admit(newcomer, None, address, http2=False))

    def _relay(self, newcomer: SocketType, route: Route | None, address: str) -> None:
        if route is None:
            self.counts.refused_unknown += 1
        elif self.admission.join(route.uid):
            self.carrier.carry(newcomer, route.target, (address, route.uid), self._unreached)
            return
        else:
            self.counts.refused_cluster += 1
        refuse(newcomer, unrecognized_name_alert())
        self.listener.leave(address)

    def _turn_away(self, newcomer: SocketType, address: str, words: bytes) -> None:
        self.counts.refused_clear += 1
        refuse(newcomer, words)
        self.listener.leave(address)

    def _unreached(self, newcomer: SocketType, place: Place) -> None:
        """Answer as for a cluster that is not there: what runs, ran or never was is nobody's
        business."""
        refuse(newcomer, unrecognized_name_alert() if place[1] else b"")
        self._over(place)

    def _over(self, place: Place) -> None:
        if place[1]:
            self.admission.part(place[1])
        self.listener.leave(place[0])

    def _gone(self, uids: Collection[str]) -> None:
        """End what is open to clusters that have stopped, a while later: they may end it
        themselves, or be told again."""
        self._loop.call_later(STOPPED_S, self._end_stopped, frozenset(uids))

    def _end_stopped(self, uids: Collection[str]) -> None:
        stopped = {uid for uid in uids if self.routes.find(uid) is None}
        ended = self.carrier.cut(stopped) + self._standing.end(stopped) if stopped else 0
        if ended:
            logger.info(
                "%d connections to %d clusters that have stopped are ended", ended, len(stopped)
            )

    # Counting

    def numbers(self) -> dict[str, float]:
        """Return everything that is counted, by name."""
        relays = list(self.carrier.relays)
        gauges = Gauges(
            connections=self.admission.present,
            connections_allowed=self.admission.limits.connections,
            newcomers=self.listener.newcomers,
            sessions=len(self.http2.sessions),
            relays=len(relays),
            tunnels=self._tunnel.count,
            half_closed=sum(relay.half_closed for relay in relays),
            pipes_leased=self.carrier.pipes.leased,
            pipe_leases_refused=self.carrier.pipes.refused,
            bytes_up=self.counts.bytes_up + sum(relay.client.carried for relay in relays),
            bytes_down=self.counts.bytes_down + sum(relay.upstream.carried for relay in relays),
            routes=len(self.routes),
            routes_age_s=self.routes.age_s,
            server_connected=int(self.routes.connected),
        )
        return as_numbers(self.counts, gauges)

    def reload(self) -> None:
        """Read the certificate again; a broken one is logged and the old one stays."""
        self._certificate.reload()

    # End

    def _spawn(self, work: Any) -> None:
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


def descriptors_wanted(options: Proxy) -> Demand:
    """Return what an edge's process needs descriptors for: two for a connection, two for a pipe."""
    kept = DESCRIPTORS_KEPT + 2 * options.max_pipes
    return Demand(
        "connections",
        "c.Proxy.max_connections",
        options.max_connections,
        each=2,
        kept=kept,
        least=LEAST_CONNECTIONS,
    )


def _own_ports(options: Proxy, bound: int, server: int) -> set[int]:
    """Return the ports at which the gateway itself listens: never the target of a route on this
    machine."""
    found = {bound, *options.own_ports}
    for text in (options.address, options.admin_address):
        address = parse_address(text)
        if address is not None:
            found.add(address[1])
    return found | {server} if server else found


def _beside(server_address: str) -> bool:
    """Whether the server runs on this machine, as far as its address tells."""
    if server_address.startswith("unix:"):
        return True
    host = urlsplit(server_address).hostname or ""
    address = literal(host)
    return host == "localhost" or (address is not None and is_here(address))


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
