"""The composition root: makes every part, binds them together, runs them and lets them go in order.

The one file that knows every layer. It decides nothing about clusters.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import pathlib
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from daskgateway.internal.v1 import access_pb2_grpc, agent_pb2_grpc, route_pb2_grpc
from daskgateway.v1 import cluster_service_pb2_grpc, credential_service_pb2_grpc

from gateway.backends.contract import Backend, BackendUnavailable
from gateway.backends.launch import AgentEndpoint
from gateway.configfile import ConfigurationError
from gateway.custody import directory_problem
from gateway.descriptors import raise_descriptor_limit
from gateway.server.boot import listening
from gateway.server.boot.config import ConfiguredOffers
from gateway.server.boot.edge_token import edge_token
from gateway.server.boot.launches import Launches
from gateway.server.boot.reach import judge, local_backends
from gateway.server.boot.settings import (
    Settings,
    bound_address,
    database_path,
    descriptors_wanted,
    known_classes,
    settings,
    split_address,
)
from gateway.server.core.model import Principal
from gateway.server.edge.account import edge_account
from gateway.server.edge.process import EdgeProcess, WarmEdge
from gateway.server.edge.room import EdgeRoom
from gateway.server.edge.words import configured_words, own_words
from gateway.server.keeping.doubts import Doubts
from gateway.server.keeping.room import Room
from gateway.server.keeping.witness import Witness
from gateway.server.reconcile.loop import Reconciler
from gateway.server.reconcile.sweep import Watcher
from gateway.server.rpc import host
from gateway.server.rpc.access_service import AccessServicer
from gateway.server.rpc.agent_service import AgentServicer, Switchboard
from gateway.server.rpc.caller import calling_user
from gateway.server.rpc.cluster_service import ClusterServicer
from gateway.server.rpc.credential_service import CredentialServicer
from gateway.server.rpc.interceptors import (
    AuthenticationInterceptor,
    ContextInterceptor,
    ErrorInterceptor,
)
from gateway.server.rpc.limits import CallLimits, LimitsInterceptor
from gateway.server.rpc.route_service import RouteServicer
from gateway.server.security import keys, tickets, tokens
from gateway.server.security.cluster_keys import ClusterKeys
from gateway.server.security.doors import Doors
from gateway.server.security.secrets import Keyring
from gateway.server.store.contract import StoreError
from gateway.server.store.sqlite.store import SqliteStore
from gateway.server.usecases.clusters import Call, stop_cluster
from gateway.server.usecases.rates import Rates
from gateway.server.usecases.services import Endpoint, Services

__all__ = ["App", "known_classes", "serve", "settings"]

logger = logging.getLogger(__name__)

FORGET_INTERVAL_S = 3600.0
REMEMBERED_S = 86400.0
STOP_CLUSTERS_S = 60.0


def now_ms() -> int:
    """Return the present instant."""
    return time.time_ns() // 1_000_000


class App:
    """A server while it runs."""

    def __init__(self, found: Settings, warm: WarmEdge | None = None) -> None:
        self.settings = found
        self._warm = warm
        self._server_settings = found.server
        self.state_dir = pathlib.Path(found.server.state_dir).expanduser().resolve()
        self._draining = asyncio.Event()
        self._threads = ThreadPoolExecutor(keys.THREADS, thread_name_prefix="keys")
        self._stack = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[Any]] = []
        self._endpoint = Endpoint("127.0.0.1", 0, "")
        self.port = 0
        self.edge_address = ""
        self.store: SqliteStore

    def endpoint(self) -> Endpoint:
        """Return where users reach the edge."""
        return self._endpoint

    async def start(self) -> None:
        """Begin to serve. ConfigurationError or StoreError if that cannot be; nothing runs then."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self) -> None:
        wanted = descriptors_wanted(self._server_settings)
        if words := wanted.fitting(raise_descriptor_limit(wanted.descriptors))[1]:
            logger.warning("%s", words)
        self._make_state_dir()
        database = database_path(self._server_settings)
        self.store = SqliteStore(
            database,
            Witness(self.state_dir).last(),
            self._server_settings.keeping(),
            reserve_bytes=self._server_settings.disk_reserve_bytes,
        )
        await self.store.open()
        self._stack.push_async_callback(self.store.close)
        self._doubts = Doubts(
            self.state_dir, database, self.store, self.store.strange, self.settings.backends
        )
        self._stack.push_async_callback(self._doubts.close)
        await self._doubts.open()
        self._disk = Room(database.parent, self._server_settings.min_free_bytes, self.store.reserve)
        self._disk.look()
        self._stack.callback(self._threads.shutdown, wait=False)
        self._certificate = listening.certificate(self._server_settings, self.state_dir, now_ms)
        keyring = Keyring.load(self.state_dir / "encryption.key")
        signer = await tickets.load_signer(self.store, keyring)
        cluster_keys = ClusterKeys(self.store, keyring, self._threads)
        await self.settings.authenticator.open()
        self._stack.push_async_callback(self.settings.authenticator.close)
        token = edge_token(self.state_dir / "edge.token")
        self._doors = Doors(
            self.settings.authenticator,
            self.store,
            cluster_keys,
            tokens.hashed(token),
            now_ms,
            self._doubts.holds,
        )
        self._stack.callback(self._doors.identities.close)
        self._spawn(self._doors.holds.run(), "holds")
        launches = Launches(cluster_keys, self._agent_endpoint)
        backends: dict[str, Backend] = dict(self.settings.backends)
        self.reconciler = Reconciler(
            self.store,
            backends,
            launches,
            now_ms,
            self._server_settings.patience,
            most_ended=self._server_settings.max_ended_per_user,
            let_go=cluster_keys.forget,
        )
        for backend in backends.values():
            try:
                await backend.open(self.reconciler.observed)
            except BackendUnavailable as error:
                raise ConfigurationError(str(error)) from None
            self._stack.push_async_callback(backend.close)
        credentials = keys.Keys(
            keyring,
            signer,
            self._doors.forget_token,
            now_ms,
            self._threads,
            cluster_keys,
            calling_user,
        )
        self.services = self._services(credentials, backends)
        await self._listen(signer)
        await self._start_edge()
        self.reconciler.objection = judge(
            self.settings, [self.edge_address, self._listener(), self.settings.proxy.admin_address]
        )
        await self.reconciler.start()
        self._stack.push_async_callback(self.reconciler.stop)
        for name, backend in backends.items():
            self._spawn(
                Watcher(self.store, name, backend, self.reconciler.observed, self._doubts).run(),
                f"watch-{name}",
            )
        self._spawn(self._doubts.keep(), "witness")
        self._spawn(self._disk.keep(), "room")
        self._spawn(self._forget(), "forget")
        await host.set_health(self._healthy, True)

    def _make_state_dir(self) -> None:
        try:
            self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"c.DaskGateway.state_dir: cannot make {self.state_dir}: {error.strerror}"
            ) from None
        if wrong := directory_problem(self.state_dir):
            raise ConfigurationError(f"c.DaskGateway.state_dir: {wrong}")
        if not os.access(self.state_dir, os.W_OK | os.X_OK):
            raise ConfigurationError(
                f"c.DaskGateway.state_dir: {self.state_dir} cannot be written to"
            )

    def _services(self, credentials: keys.Keys, backends: dict[str, Backend]) -> Services:
        return Services(
            store=self.store,
            offers=ConfiguredOffers(
                self.settings.clusters,
                {name: backend.cluster_settings() for name, backend in backends.items()},
            ),
            credentials=credentials,
            backends=backends,
            wake=self.reconciler.wake,
            now=now_ms,
            random=os.urandom,
            endpoint=self.endpoint,
            draining=self._draining.wait,
            person=self._doors.person,
            quotas=self._server_settings.quotas(),
            creations=Rates(self._server_settings.max_creates_per_minute),
            present=self._doors.present,
            max_clusters=self._server_settings.max_clusters,
            full=self._disk.full,
            max_token_ttl_s=self._server_settings.max_token_ttl_s,
            doubted=self._doubts.holds,
        )

    async def _listen(self, signer: tickets.TicketSigner) -> None:
        options = self._server_settings
        self._switchboard = Switchboard(self.store.view)
        self._spawn(self._switchboard.run(), "switchboard")
        local = local_backends(self.settings)
        agents = AgentServicer(
            self.store.view,
            self.reconciler,
            self._switchboard,
            now_ms,
            self._draining.is_set,
            local,
        )
        self._routes = RouteServicer(
            self.store.view, [signer.public_key], self._draining.is_set, local, self._doubts.holds
        )
        limits = CallLimits(
            options.max_calls,
            options.max_calls_per_user,
            options.max_streams,
            options.max_streams_per_user,
        )
        self._grpc, self._healthy = host.build(
            [
                ContextInterceptor(self._doors.is_edge),
                ErrorInterceptor(),
                AuthenticationInterceptor(self._doors),
                LimitsInterceptor(limits, self._draining.is_set),
            ],
            [
                (
                    cluster_service_pb2_grpc.add_ClusterServiceServicer_to_server,
                    ClusterServicer(self.services),
                ),
                (
                    credential_service_pb2_grpc.add_CredentialServiceServicer_to_server,
                    CredentialServicer(self.services),
                ),
                (agent_pb2_grpc.add_AgentServiceServicer_to_server, agents),
                (route_pb2_grpc.add_RouteServiceServicer_to_server, self._routes),
                (
                    access_pb2_grpc.add_AccessServiceServicer_to_server,
                    AccessServicer(self.services),
                ),
            ],
            with_reflection=options.reflection,
        )
        self.port = listening.bind(self._grpc, options.address, self._certificate, self.state_dir)
        self._bind_sockets()
        await self._grpc.start()
        self._stack.push_async_callback(self._grpc.stop, None)

    def _bind_sockets(self) -> None:
        """Listen for this account's own programs, and for the edge where that is another
        account."""
        proxy = self.settings.proxy
        account = (
            edge_account(proxy.user, self.state_dir, self.state_dir / "edge")
            if self._server_settings.start_proxy
            else None
        )
        self._edge_room = EdgeRoom(self.state_dir, account, proxy.tls_cert, proxy.tls_key)
        self._stack.callback(self._edge_room.close)
        self._edge_room.make()
        for directory, owner in self._edge_room.sockets:
            listening.bind_socket(self._grpc, directory, owner)

    def _listener(self) -> str:
        hostname, _ = split_address(self._server_settings.address, "c.DaskGateway.address")
        if hostname in ("", "0.0.0.0", "::"):
            hostname = "127.0.0.1"
        return f"[{hostname}]:{self.port}" if ":" in hostname else f"{hostname}:{self.port}"

    def bound(self) -> str:
        """Return in words which addresses are listened on: others than those where one is reached,
        as 0.0.0.0 is every address."""
        edge = (
            f"edge on {self.edge_address}"
            if self._server_settings.start_proxy
            else "no edge of its own"
        )
        return f"{edge}, gRPC listener on {bound_address(self._server_settings.address, self.port)}"

    def _agent_endpoint(self) -> AgentEndpoint:
        address = self._server_settings.agent_address or f"https://{self._listener()}"
        return AgentEndpoint(address, self._certificate.ca(), self._certificate.server_name)

    async def _start_edge(self) -> None:
        options, proxy = self._server_settings, self.settings.proxy
        self.edge_address = proxy.address
        if options.start_proxy:
            room, account = self._edge_room, self._edge_room.account
            words = [
                *configured_words(self.settings),
                *own_words(self.settings, self.port),
                *room.words(),
            ]
            run_as = (
                (lambda address: account.rights([address, proxy.admin_address]))
                if account is not None
                else (lambda _: None)
            )
            edge = EdgeProcess(
                self.state_dir, words, proxy.address, self._warm, room.directories, run_as
            )
            self.edge_address = await edge.start()
            self._stack.push_async_callback(edge.stop)
            self._spawn(edge.keep(), "edge")
            self._spawn(room.follow(), "edge's certificate")
        self._endpoint = self._public_endpoint()

    def _public_endpoint(self) -> Endpoint:
        hostname, port = split_address(self.edge_address, "c.Proxy.address")
        scheme = "https" if self.settings.proxy.tls_cert else "http"
        if hostname in ("", "0.0.0.0", "::"):
            hostname = "127.0.0.1" if not self._server_settings.public_url else ""
        shown = f"[{hostname}]" if ":" in hostname else hostname
        url = (self._server_settings.public_url or f"{scheme}://{shown}:{port}").rstrip("/")
        parts = urlsplit(url)
        if not parts.hostname:
            raise ConfigurationError(
                f"c.DaskGateway.public_url: must look like https://host or http://host:port, not"
                f" {url!r}"
            )
        return Endpoint(
            parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), url, parts.path
        )

    def _spawn(self, work: Any, name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.append(task)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._stack.push_async_callback(end)

    async def _forget(self) -> None:
        """Forget what was remembered for a day, once an hour."""
        while True:
            before = now_ms() - int(REMEMBERED_S * 1000)
            try:
                await self.store.transact(lambda tx, before=before: tx.forget(before))  # type: ignore[misc]
            except StoreError as error:
                logger.debug("old records were not forgotten: %s", error)
            await asyncio.sleep(FORGET_INTERVAL_S)

    async def stop(self) -> None:
        """Drain: say so, let watchers and agents go, let calls finish, then let everything go."""
        await host.set_health(self._healthy, False)
        if self._server_settings.stop_clusters_on_exit:
            await self._stop_clusters()
        self._draining.set()
        self._switchboard.wake_all()
        self._routes.wake_all()
        await self._grpc.stop(self._server_settings.drain_s)
        await self._stack.aclose()

    async def _stop_clusters(self) -> None:
        """Wish every cluster's end and wait until all are gone, at most STOP_CLUSTERS_S."""
        view = self.store.view
        subscription = view.subscribe()
        everybody = Principal("gateway", admin=True)
        try:
            for cluster in [cluster for cluster in view.clusters() if not cluster.state.finished]:
                try:
                    await stop_cluster(
                        self.services,
                        everybody,
                        f"users/{cluster.owner}/clusters/{cluster.uid}",
                        "",
                        Call("StopCluster"),
                    )
                except Exception as error:  # the others are stopped all the same
                    logger.error("cluster %s cannot be stopped: %s", cluster.uid, error)
            async with asyncio.timeout(STOP_CLUSTERS_S):
                while any(not cluster.state.finished for cluster in view.clusters()):
                    await subscription.next(1.0)
        except TimeoutError:
            logger.warning(
                "some clusters have not stopped within %g s; they will be found again",
                STOP_CLUSTERS_S,
            )
        finally:
            subscription.close()


async def serve(found: Settings, warm: WarmEdge | None = None) -> None:
    """Run a server until SIGTERM or SIGINT. `warm`: an edge's process that was begun early."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    app = App(found, warm)
    try:
        await app.start()
    finally:
        if warm is not None:
            await asyncio.to_thread(warm.dismiss)
    gc.collect()
    # what is loaded by now stays: no collection needs to look through it again, which would hold up
    # the event loop
    gc.freeze()
    print(f"daskgateway serves on {app.endpoint().url} ({app.bound()})", flush=True)
    await ended.wait()
    logger.info("draining")
    await app.stop()
