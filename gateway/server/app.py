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

from gateway.backends.contract import Backend, BackendUnavailable
from gateway.backends.launch import AgentEndpoint
from gateway.configfile import ConfigurationError
from gateway.custody import directory_problem
from gateway.descriptors import raise_descriptor_limit
from gateway.server.boot import clear_text, garbage, listening, mutual_tls
from gateway.server.boot.dial import try_way
from gateway.server.boot.edge_token import edge_token
from gateway.server.boot.endpoints import listener_address, public_endpoint
from gateway.server.boot.launches import Launches
from gateway.server.boot.offers import ConfiguredOffers
from gateway.server.boot.reach import judge, local_backends
from gateway.server.boot.settings import (
    Settings,
    bound_address,
    database_path,
    descriptors_wanted,
    known_classes,
    settings,
)
from gateway.server.edge.account import edge_account
from gateway.server.edge.process import EdgeProcess, WarmEdge
from gateway.server.edge.room import EdgeRoom
from gateway.server.edge.words import configured_words, own_words
from gateway.server.keeping.doubts import Doubts
from gateway.server.keeping.room import Room
from gateway.server.keeping.witness import Witness
from gateway.server.reconcile.loop import Reconciler
from gateway.server.reconcile.sweep import Watcher
from gateway.server.rpc.caller import calling_user
from gateway.server.rpc.limits import CallLimits
from gateway.server.rpc.surface import Inside, Surface, compose
from gateway.server.security import keys, tickets, tokens
from gateway.server.security.browsers import BrowserLogins
from gateway.server.security.cluster_keys import ClusterKeys
from gateway.server.security.doors import Doors
from gateway.server.security.secrets import Keyring
from gateway.server.store.contract import StoreError
from gateway.server.store.sqlite.store import SqliteStore
from gateway.server.usecases.farewell import stop_every_cluster
from gateway.server.usecases.owners import Owners
from gateway.server.usecases.rates import Rates
from gateway.server.usecases.services import Endpoint, Services
from gateway.server.usecases.taken_up import take_up, tell_of_backends

__all__ = ["App", "known_classes", "serve", "settings"]

logger = logging.getLogger(__name__)

FORGET_INTERVAL_S = 3600.0
REMEMBERED_S = 86400.0


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
        self.port = self.mutual_port = 0
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
        await self._open_store()
        self._stack.callback(self._threads.shutdown, wait=False)
        self._certificate = listening.certificate(self._server_settings, self.state_dir, now_ms)
        keyring = Keyring.load(self.state_dir / "encryption.key")
        signer = await tickets.load_signer(self.store, keyring)
        cluster_keys = ClusterKeys(self.store, keyring, self._threads)
        await self._open_doors(cluster_keys, keyring)
        await self._open_backends(cluster_keys)
        credentials = keys.Keys(
            keyring,
            signer,
            self._doors.forget_token,
            now_ms,
            self._threads,
            cluster_keys,
            calling_user,
        )
        self.services = self._services(credentials)
        await self._take_up_changes()
        await self._listen(signer)
        await self._start_edge()
        own = [self.edge_address, self._listener(), self.settings.proxy.admin_address]
        await self.reconciler.start(judge(self.settings, own))
        self._stack.push_async_callback(self.reconciler.stop)
        for name, backend in self._backends.items():
            watcher = Watcher(self.store, name, backend, self.reconciler.observed, self._doubts)
            self._spawn(watcher.run(), f"watch-{name}")
        self._spawn(self._doubts.keep(), "witness")
        self._spawn(self._disk.keep(), "room")
        self._spawn(self._forget(), "forget")
        self._spawn(Owners(self.store, self._doors.person, now_ms).keep(), "owners")
        await self._surface.say(serving=True)

    async def _take_up_changes(self) -> None:
        """Have living clusters follow the configuration, or say why they do not."""
        clusters = self.settings.clusters
        await take_up(self.store, clusters.limits(), clusters.most(), now_ms())
        places = {name: backend.place() for name, backend in self.settings.backends.items()}
        await tell_of_backends(self.store, places)

    async def _open_store(self) -> None:
        """Open the database, and what watches over it and its disk."""
        options, database = self._server_settings, database_path(self._server_settings)
        self.store = SqliteStore(
            database,
            Witness(self.state_dir).last(),
            options.keeping(),
            reserve_bytes=options.disk_reserve_bytes,
        )
        await self.store.open()
        self._stack.push_async_callback(self.store.close)
        self._doubts = Doubts(
            self.state_dir, database, self.store, self.store.strange, self.settings.backends
        )
        self._stack.push_async_callback(self._doubts.close)
        await self._doubts.open()
        self._disk = Room(database.parent, options.min_free_bytes, self.store.reserve)
        self._disk.look()

    async def _open_doors(self, cluster_keys: ClusterKeys, keyring: Keyring) -> None:
        """Make ready to tell who calls."""
        self.settings.authenticator.keep_in(self.store)
        await self.settings.authenticator.open()
        self._stack.push_async_callback(self.settings.authenticator.close)
        token = edge_token(self.state_dir / "edge.token")
        self._browsers = BrowserLogins(self.settings.authenticator, keyring, now_ms)
        self._doors = Doors(
            self.settings.authenticator,
            self.store,
            cluster_keys,
            tokens.hashed(token),
            now_ms,
            self._doubts.holds,
            self._browsers.still,
        )
        self._browsers.by(self._doors.desk, self._doors.signed_in)
        self._stack.callback(self._doors.identities.close)
        self._stack.callback(self._doors.proofs.close)
        self._spawn(self._doors.holds.run(), "holds")

    async def _open_backends(self, cluster_keys: ClusterKeys) -> None:
        """Make the reconciler, and open the backends, which report to it."""
        self._backends: dict[str, Backend] = dict(self.settings.backends)
        self.reconciler = Reconciler(
            self.store,
            self._backends,
            Launches(cluster_keys, self._agent_endpoint),
            now_ms,
            lambda: self._server_settings.patience(self._agent_endpoint().address),
            most_ended=self._server_settings.max_ended_per_user,
            let_go=cluster_keys.forget,
        )
        for backend in self._backends.values():
            try:
                await backend.open(self.reconciler.observed)
            except BackendUnavailable as error:
                raise ConfigurationError(str(error)) from None
            self._stack.push_async_callback(backend.close)

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

    def _services(self, credentials: keys.Keys) -> Services:
        return Services(
            store=self.store,
            offers=ConfiguredOffers(self.settings.clusters, self.settings.backends),
            credentials=credentials,
            backends=self._backends,
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
            session_ttl_s=self._server_settings.session_ttl_s,
            max_session_s=self._server_settings.max_session_s,
            browsers=self._browsers,
            sign_in_options=self.settings.authenticator.options,
            doubted=self._doubts.holds,
        )

    async def _listen(self, signer: tickets.TicketSigner) -> None:
        options = self._server_settings
        self._surface: Surface = compose(
            Inside(
                services=self.services,
                doors=self._doors,
                is_edge=self._doors.is_edge,
                listener=self.reconciler,
                ticket_keys=[signer.public_key],
                draining=self._draining.is_set,
                local_backends=local_backends(self.settings),
                limits=CallLimits(
                    options.max_calls,
                    options.max_calls_per_user,
                    options.max_streams,
                    options.max_streams_per_user,
                ),
                with_reflection=options.reflection,
            )
        )
        self._spawn(self._surface.switchboard.run(), "switchboard")
        server = self._surface.server
        self.port = listening.bind(server, options.address, self._certificate, self.state_dir)
        if (certified := mutual_tls.configured(self.settings.authenticator)) is not None:
            shown = mutual_tls.certificate(certified, self.settings.proxy)
            self.mutual_port = listening.bind_mutually(server, certified, shown, self.state_dir)
        self._bind_sockets()
        await server.start()
        self._stack.push_async_callback(server.stop, None)
        if options.check_agent_address:
            setting = "agent_address" if options.agent_address else "address"
            await try_way(self._agent_endpoint(), self._surface.healthy, f"c.DaskGateway.{setting}")

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
            listening.bind_socket(self._surface.server, directory, owner)

    def _listener(self) -> str:
        return listener_address(self._server_settings, self.port)

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
        for note in clear_text.notes(self.settings):
            logger.warning("%s", note)
        if options.start_proxy:
            room, account = self._edge_room, self._edge_room.account
            words = [
                *configured_words(self.settings),
                *own_words(self.settings, self.port, self.mutual_port),
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
        self._endpoint = public_endpoint(options, proxy, self.edge_address)

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
        await self._surface.say(serving=False)
        if self._server_settings.stop_clusters_on_exit:
            await stop_every_cluster(self.services)
        self._draining.set()
        self._surface.wake_all()
        await self._surface.server.stop(self._server_settings.drain_s)
        await self._stack.aclose()


async def serve(found: Settings, warm: WarmEdge | None = None) -> None:
    """Run a server until SIGTERM or SIGINT. `warm`: an edge's process that was begun early."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    app = App(found, warm)
    gc.disable()  # what is made of a large database is kept: to look through it again and again
    try:  # costs a third of the time that loading takes
        await app.start()
    finally:
        gc.enable()
        if warm is not None:
            await asyncio.to_thread(warm.dismiss)
    garbage.settle()
    print(f"daskgateway serves on {app.endpoint().url} ({app.bound()})", flush=True)
    await ended.wait()
    logger.info("draining")
    await app.stop()
