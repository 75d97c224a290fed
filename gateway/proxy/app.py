"""The edge while it runs: one public port, sorted by first bytes, and everything that is served behind it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import pathlib
import signal
import socket
import ssl
import sys
from typing import Any

import grpc
import uvloop
from traitlets.config import Config

from gateway.configfile import ConfigurationError
from gateway.proxy.access import Sessions, session_key
from gateway.proxy.application import application
from gateway.proxy.certificate import ServedCertificate
from gateway.proxy.client_hello import Hello, Http2, Verdict, unrecognized_name_alert
from gateway.proxy.config import Proxy
from gateway.proxy.dashboards import Dashboards
from gateway.proxy.front import Front
from gateway.proxy.http_server import HttpServer
from gateway.proxy.listener import Listener, refuse
from gateway.proxy.login import Login
from gateway.proxy.relay import Relay, connect, prepare
from gateway.proxy.routes import RouteTable, parse_address
from gateway.proxy.tunnel import Tunnel
from gateway.wire import uid_of_server_name

logger = logging.getLogger(__name__)

CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.enable_http_proxy", 0),
]
NO_TLS = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nthis port speaks TLS: use https\n"


class Edge:
    """The edge."""

    def __init__(self, options: Proxy) -> None:
        self.options = options
        self.state_dir = pathlib.Path(os.path.expanduser(options.state_dir))
        self.routes = RouteTable(self.state_dir / "routes.json")
        self._relays: set[Relay] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stack = contextlib.AsyncExitStack()
        self._certificate = ServedCertificate(options.tls_cert, options.tls_key)
        self._drained: asyncio.Event | None = None  # set once the last relay has ended, while draining

    async def start(self) -> str:
        """Begin; return host:port. ConfigurationError if that cannot be."""
        host, port = self._check()
        self._front = Front(self.options)
        self._loop = asyncio.get_running_loop()
        self._make_state_dir()
        self.routes.load()
        channel = self._channel()
        self._stack.push_async_callback(channel.close, None)
        sessions = Sessions(session_key(self.state_dir / "session.key"), self.options.session_s)
        login = Login(self._front, self.routes, sessions, channel, self.options.body_timeout_s)
        dashboards = Dashboards(self.options, self._front, self.routes, login)
        await dashboards.open()
        self._stack.push_async_callback(dashboards.close)
        tunnel = Tunnel(self.options, self._front, self.routes.find, login)
        app = application(self.options, self._front, channel, self.routes, dashboards, tunnel, self._relays.__len__)
        self._http_server = HttpServer(app, self.options)
        await self._http_server.open()
        self._stack.push_async_callback(self._http_server.close)
        self._certificate.load()
        self.listener = Listener(
            self._serve,
            hello_timeout_s=self.options.hello_timeout_s,
            max_newcomers=self.options.max_newcomers,
            room=self._room,
        )
        try:
            bound = self.listener.listen(host, port, reuse_port=self.options.reuse_port)
        except OSError as error:
            raise ConfigurationError(f"c.Proxy.address: cannot listen on {self.options.address}: {error.strerror}") from None
        self._spawn(self.routes.follow(channel, self.options.token_file))
        if self._certificate.secure:
            self._spawn(self._certificate.follow())
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        return f"{shown}:{bound[1]}"

    def _check(self) -> tuple[str, int]:
        options = self.options
        host, _, port = options.address.rpartition(":")
        host = host.strip("[]")
        if not port.isdigit() or int(port) > 65535:
            raise ConfigurationError(f"c.Proxy.address: must be host:port, not {options.address!r}")
        if bool(options.tls_cert) != bool(options.tls_key):
            raise ConfigurationError("c.Proxy.tls_cert and tls_key: set both or none")
        if not options.tls_cert and not options.insecure_ok and not _loopback(host):
            raise ConfigurationError(
                f"c.Proxy.address: {options.address} is reachable from elsewhere; set tls_cert and tls_key (or insecure_ok = True)"
            )
        if not options.token_file:
            raise ConfigurationError("c.Proxy.token_file: must name the file edge.token in the server's state_dir")
        self._grpc_target = parse_address(options.grpc_address)
        if self._grpc_target is None:
            raise ConfigurationError(f"c.Proxy.grpc_address: must be host:port, not {options.grpc_address!r}")
        return host, int(port)

    def _make_state_dir(self) -> None:
        try:
            self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"c.Proxy.state_dir: cannot make {self.state_dir}: {error.strerror}") from None

    def _channel(self) -> grpc.aio.Channel:
        address = self.options.server_address
        scheme, _, target = address.partition("://")
        if address.startswith("unix:"):
            return grpc.aio.insecure_channel(address, CHANNEL_OPTIONS)
        if scheme == "http" and target:
            return grpc.aio.insecure_channel(target, CHANNEL_OPTIONS)
        if scheme == "https" and target:
            roots = pathlib.Path(self.options.server_ca).read_bytes() if self.options.server_ca else None
            return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(roots), CHANNEL_OPTIONS)
        raise ConfigurationError(f"c.Proxy.server_address: must be unix:/path, http://host:port or https://host:port, not {address!r}")

    # Sorting

    def _room(self) -> bool:
        return len(self._relays) + len(self._tasks) + self.listener.newcomers < self.options.max_connections

    def _serve(self, newcomer: socket.socket, verdict: Verdict) -> None:
        if isinstance(verdict, Hello):
            uid = uid_of_server_name(verdict.server_name)
            if uid is not None:
                route = self.routes.find(uid)
                if route is None:
                    refuse(newcomer, unrecognized_name_alert())
                else:
                    self._relay(newcomer, route.scheduler)
                return
            if b"h2" in verdict.protocols and b"http/1.1" not in verdict.protocols:
                assert self._grpc_target is not None
                self._relay(newcomer, self._grpc_target)
                return
            if self._certificate.context is None:
                newcomer.close()
                return
            self._spawn(self._http(newcomer, self._certificate.context))
        elif isinstance(verdict, Http2):
            if self._certificate.secure:
                newcomer.close()  # clear text where TLS is spoken: the server would not answer it either
                return
            assert self._grpc_target is not None
            self._relay(newcomer, self._grpc_target)
        elif self._certificate.secure:
            refuse(newcomer, NO_TLS)
        else:
            self._spawn(self._http(newcomer, None))

    def _relay(self, newcomer: socket.socket, target: tuple[str, int]) -> None:
        self._spawn(self._connect(newcomer, target))

    async def _connect(self, newcomer: socket.socket, target: tuple[str, int]) -> None:
        try:
            upstream = await connect(target, self.options.connect_timeout_s)
        except (OSError, TimeoutError) as error:
            logger.info("%s:%d is not reached: %s", *target, error)
            newcomer.close()
            return
        except BaseException:
            newcomer.close()
            raise
        prepare(newcomer)
        relay = Relay(self._loop, newcomer, upstream, self._over)
        self._relays.add(relay)
        relay.start()

    def _over(self, relay: Relay) -> None:
        self._relays.discard(relay)
        if not self._relays and self._drained is not None:
            self._drained.set()

    async def _http(self, newcomer: socket.socket, context: ssl.SSLContext | None) -> None:
        patience_s = None if context is None else self.options.header_timeout_s
        try:
            await self._loop.connect_accepted_socket(self._http_server.protocol, newcomer, ssl=context, ssl_handshake_timeout=patience_s)
        except (OSError, ssl.SSLError):
            newcomer.close()

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
        if self._relays:
            self._drained = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.options.drain_s):
                    await self._drained.wait()
        for relay in list(self._relays):
            relay.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.routes.save()
        await self._stack.aclose()


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _run(options: Proxy, ready_fd: int | None) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    edge = Edge(options)
    listening = await edge.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, edge.reload)
    logger.info("the edge listens on %s", listening)
    if ready_fd is not None:
        os.write(ready_fd, f"ready {listening}\n".encode())
        os.close(ready_fd)
    await ended.wait()
    await edge.stop()


def run(config: Config, ready_fd: int | None = None) -> int:
    """Run the edge until SIGTERM or SIGINT; return the exit code. Writes `ready host:port` to a descriptor when it listens."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(Proxy(config=config), ready_fd))
    except ConfigurationError as error:
        print(f"daskgateway: {error}", file=sys.stderr)
        return 2
    return 0
