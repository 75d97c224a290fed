"""A server in this process: real gRPC, real use cases and reconciler, the memory store, and a
machine room that only pretends."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from daskgateway.internal.v1 import access_pb2_grpc, agent_pb2, agent_pb2_grpc, route_pb2_grpc
from daskgateway.v1 import cluster_service_pb2_grpc, credential_service_pb2_grpc

from gateway.backends.contract import (
    Instance,
    Launch,
    Observation,
    Observe,
    Phase,
    Resources,
    Started,
    StartOutcome,
    Target,
)
from gateway.server.core.admission import MAX_OPTIONS_BYTES, Offer
from gateway.server.core.errors import CredentialsInvalid, ServiceError
from gateway.server.core.facts import Patience
from gateway.server.core.model import Cluster, Lifecycle, Limits, Principal, Scope, Worker
from gateway.server.core.options import Field, Float, Integer, Mapped, Select, Text
from gateway.server.core.quotas import Quotas
from gateway.server.core.sign_in_options import API_TOKEN, SignInOption
from gateway.server.reconcile.loop import Reconciler
from gateway.server.rpc import host
from gateway.server.rpc.limits import CallLimits
from gateway.server.rpc.surface import Inside, compose
from gateway.server.store.memory import MemoryStore
from gateway.server.usecases.rates import Rates
from gateway.server.usecases.services import Endpoint, Services
from gateway.wire import Ticket

FIELDS: tuple[Field, ...] = (
    Float("worker_cores", 1.0, minimum=0.5, maximum=4, per_group=True),
    Text("worker_memory", "2 GiB", per_group=True),
    Integer("retries", 3, minimum=0, maximum=10),
    Select("queue", ("short", "long"), "short"),
    Mapped("environment"),
)
SETTINGS: Mapping[str, object] = {
    "worker_cores": 1.0,
    "worker_memory": "2 GiB",
    "scheduler_cores": 1.0,
    "scheduler_memory": "2 GiB",
    "environment": {"SITE": "x"},
}
TOKENS = {
    "alice": Principal("alice"),
    "bob": Principal("bob"),
    "root": Principal("root", admin=True),
    "reader": Principal("alice", scopes=frozenset({Scope.CLUSTERS_READ})),
}


class PretendBackend:
    """Everything it is asked to start runs at once, in memory."""

    name = "pretend"
    observe_interval_s = 60.0
    local = True

    def __init__(self) -> None:
        self.running: dict[Instance, Launch] = {}
        self.cleaned: list[str] = []
        self.texts: dict[str, str] = {}
        self.expected: list[Target] = []  # whose ends

    def place(self) -> Mapping[str, str]:
        return {}

    def allots(self, resources: Resources) -> Resources:
        return resources

    def objection(self, resources: Resources, settings: Mapping[str, object]) -> str:
        return ""

    def cluster_settings(self) -> Mapping[str, object]:
        return {}

    async def open(self, push: Observe) -> None:
        self.push = push

    async def close(self) -> None:
        """Nothing is held."""

    async def start(self, launches: Sequence[Launch]) -> Mapping[Instance, StartOutcome]:
        for launch in launches:
            self.running.setdefault(launch.instance, launch)
        self.push([Observation(launch.instance, Phase.RUNNING) for launch in launches])
        return {launch.instance: Started("handle") for launch in launches}

    async def stop(self, targets: Sequence[Target]) -> None:
        for target in targets:
            self.running.pop(target.instance, None)
        self.push([Observation(target.instance, Phase.GONE) for target in targets])

    async def observations(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        return {
            t.instance: Observation(
                t.instance, Phase.RUNNING if t.instance in self.running else Phase.GONE
            )
            for t in targets
        }

    def expect_ends(self, targets: Sequence[Target]) -> None:
        self.expected += targets

    async def find(self) -> Sequence[Observation]:
        return [Observation(instance, Phase.RUNNING) for instance in self.running]

    async def cleanup(self, uid: str) -> None:
        self.cleaned.append(uid)

    async def purge(self, uid: str) -> None:
        """Nothing is kept."""

    async def logs(
        self, target: Target, *, tail_lines: int = 0, follow: bool = False
    ) -> AsyncIterator[str]:
        if target.instance.name in self.texts:
            yield self.texts[target.instance.name]


class PretendCredentials:
    """Credentials that prove nothing."""

    def __init__(self) -> None:
        self.minted = 0

    async def make_cluster_secrets(self, uid: str, lifetime_s: float | None) -> bytes:
        return b"sealed"

    async def sign_client(
        self, sealed: bytes, public_key: str, user: str, ttl_s: float
    ) -> tuple[str, str, int]:
        if "PUBLIC KEY" not in public_key:
            raise ValueError("must be a PEM public key")
        return f"certificate of {user}", "authority", 1_000_000 + int(ttl_s)

    def mint_token(self, user: str) -> tuple[str, str, bytes]:
        self.minted += 1
        return f"dgw_api_{self.minted}_secret", str(self.minted), b"hash"

    def mint_session(self, user: str) -> tuple[str, str, bytes]:
        self.minted += 1
        return f"dgw_session_{self.minted}_secret", str(self.minted), b"hash"

    def forget_token(self, token_id: str) -> None:
        """Nothing is cached."""

    def issue_ticket(self, uid: str, principal: Principal, expires_at: int) -> str:
        return "ticket"

    def read_ticket(self, text: str) -> Ticket | None:
        return None


class PretendDoors:
    """A token is the name of a principal."""

    def __init__(self) -> None:
        # whose, and what ends the stream
        self.held: list[tuple[str, Callable[[ServiceError], None]]] = []

    def hold(self, principal: Principal, end: Callable[[ServiceError], None]) -> Callable[[], None]:
        entry = (principal.user, end)
        self.held.append(entry)
        return lambda: self.held.remove(entry)

    async def principal(self, scheme: str, value: str, peer: str) -> Principal:
        if scheme != "bearer" or value not in TOKENS:
            raise CredentialsInvalid
        return TOKENS[value]

    async def person(self, user: str) -> Principal | None:
        return TOKENS.get(user, Principal(user))

    async def present(self, opened: Principal) -> Principal | None:
        return opened

    async def agent(self, uid: str, token: str) -> None:
        if token != "agent":
            raise CredentialsInvalid

    async def edge(self, token: str) -> None:
        if token != "edge":
            raise CredentialsInvalid


@dataclass
class Offers:
    """One offer for everybody."""

    limits: Limits = Limits(workers=20)
    lifecycle: Lifecycle = Lifecycle(idle_timeout_s=3600.0)
    settings: Mapping[str, object] = field(default_factory=lambda: SETTINGS)
    max_options_bytes: int = MAX_OPTIONS_BYTES

    async def offer(self, principal: Principal) -> Offer:
        return Offer(
            ("pretend", "other"),
            FIELDS,
            self.settings,
            self.limits,
            self.lifecycle,
            Lifecycle(max_lifetime_s=86400.0),
            max_options_bytes=self.max_options_bytes,
        )


@dataclass
class Harness:
    """The server, and channels to it."""

    store: Any = field(default_factory=MemoryStore)
    backend: PretendBackend = field(default_factory=PretendBackend)
    offers: Offers = field(default_factory=Offers)
    patience: Patience = Patience(retention_s=3600.0)
    max_streams_per_user: int = 50
    own_socket: str = ""  # path of a socket that it listens on too
    max_calls: int = 500
    max_calls_per_user: int = 200
    quotas: Quotas = Quotas()
    make_doors: Callable[[Any], Any] = lambda store: PretendDoors()  # of the store
    credentials_port: Any = field(default_factory=PretendCredentials)
    local_backends: Sequence[str] = ("pretend",)
    doubted: bool = False
    full: bool = False  # whether the gateway's disk is
    sign_in_options: Sequence[SignInOption] = (API_TOKEN,)
    ahead_ms: int = 0  # by how much the server's clock of day is set forward

    async def start(self) -> None:
        await self.store.open()
        self.draining = asyncio.Event()
        self.doors = self.make_doors(self.store)
        self.reconciler = Reconciler(
            self.store,
            {"pretend": self.backend},
            self._launches,
            self.now_ms,
            lambda: self.patience,
            most_ended=self.quotas.ended,
        )
        await self.backend.open(self.reconciler.observed)
        services = Services(
            store=self.store,
            offers=self.offers,
            credentials=self.credentials_port,
            backends={"pretend": self.backend},
            wake=self.reconciler.wake,
            now=self.now_ms,
            random=os.urandom,
            endpoint=lambda: Endpoint("edge.example", 8000, "http://edge.example:8000"),
            draining=self.draining.wait,
            person=self.doors.person,
            quotas=self.quotas,
            creations=Rates(
                self.quotas.creates_per_minute, lambda: time.monotonic() + self.ahead_ms / 1000
            ),
            present=self.doors.present,
            doubted=lambda: self.doubted,
            max_clusters=600,
            sign_in_options=lambda: self.sign_in_options,
            full=lambda: self.full,
        )
        surface = compose(
            Inside(
                services=services,
                doors=self.doors,
                is_edge=lambda token: token == "edge",
                listener=self.reconciler,
                ticket_keys=[b"k" * 32],
                draining=self.draining.is_set,
                local_backends=self.local_backends,
                limits=CallLimits(
                    self.max_calls, self.max_calls_per_user, 1000, self.max_streams_per_user
                ),
            )
        )
        self.server, self.switchboard = surface.server, surface.switchboard
        self.route_servicer = surface.routes
        self._switching = asyncio.create_task(self.switchboard.run())
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        if self.own_socket:
            host.listen_locally(self.server, str(self.own_socket))
        await self.server.start()
        await surface.say(serving=True)
        await self.reconciler.start()
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}")
        self.clusters = cluster_service_pb2_grpc.ClusterServiceStub(self.channel)
        self.credentials = credential_service_pb2_grpc.CredentialServiceStub(self.channel)
        self.agents = agent_pb2_grpc.AgentServiceStub(self.channel)
        self.routes = route_pb2_grpc.RouteServiceStub(self.channel)
        self.access = access_pb2_grpc.AccessServiceStub(self.channel)

    async def stop(self) -> None:
        self.draining.set()
        self.switchboard.wake_all()
        await self.channel.close(None)
        await self.server.stop(5)
        self._switching.cancel()
        await asyncio.gather(self._switching, return_exceptions=True)
        await self.reconciler.stop()
        await self.store.close()

    def now_ms(self) -> int:
        """Return the present instant, as the server sees it."""
        return now_ms() + self.ahead_ms

    async def _launches(
        self, cluster: Cluster, workers: Sequence[Worker] | None
    ) -> Sequence[Launch]:
        if workers is None:
            return [
                Launch(
                    cluster.scheduler_instance, cluster.owner, ("scheduler",), resources=Resources()
                )
            ]
        return [Launch(worker.instance, cluster.owner, ("worker",)) for worker in workers]


def now_ms() -> int:
    """Return the present instant."""
    return time.time_ns() // 1_000_000


def as_(token: str) -> tuple[tuple[str, str], ...]:
    """Return metadata of a caller."""
    return (("authorization", f"Bearer {token}"),)


class PretendAgent:
    """An agent that reports what it is told to."""

    def __init__(self, harness: Harness, uid: str, token: str = "agent") -> None:
        metadata = (("authorization", f"Bearer {token}"), ("dgw-uid", uid))
        self.call = harness.agents.Connect(metadata=metadata)
        self.sequence = 0

    async def report(self, **fields: Any) -> None:
        """Send a report."""
        self.sequence += 1
        await self.call.write(agent_pb2.AgentReport(sequence=self.sequence, **fields))

    async def hello(self, workers: Sequence[str] = ()) -> None:
        """Send the first report."""
        await self.report(
            snapshot=True,
            scheduler_address="tls://127.0.0.1:9",
            dashboard_address="127.0.0.1:10",
            versions={"dask": "1"},
            workers=workers,
            idle_ms=-1,
            no_client_ms=-1,
        )

    async def directive(self) -> agent_pb2.AgentDirective:
        """Return the next directive."""
        answer = await self.call.read()
        assert isinstance(answer, agent_pb2.AgentDirective)
        return answer
