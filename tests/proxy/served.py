"""An edge in this process, with a server behind it that knows two users and two clusters, and a
dashboard; all on free ports."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from aiohttp import web
from daskgateway.internal.v1 import access_pb2, access_pb2_grpc, route_pb2
from daskgateway.v1 import (
    cluster_pb2,
    cluster_service_pb2,
    cluster_service_pb2_grpc,
    credential_service_pb2,
    credential_service_pb2_grpc,
)
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from gateway.proxy.app import Edge
from gateway.proxy.config import Proxy
from gateway.proxy.http.access import now_ms
from gateway.server.core.errors import UserNameRefused
from gateway.server.rpc.status import details_of
from gateway.server.security.tickets import TicketSigner
from gateway.wire import Ticket, basic_credentials

UID, OTHER, NOBODYS = "c" + "a" * 20, "c" + "b" * 20, "c" + "d" * 20
SIGNER = TicketSigner(b"s" * 32)
ALICE, BOB = basic_credentials("alice", "wonderland"), basic_credentials("bob", "builder")
CAPITAL = basic_credentials("<Alice>", "wonderland")  # whose name is no user's
OWNERS = {UID: "alice", OTHER: "bob"}


def ticket(uid: str = UID, lasts_ms: int = 60_000, user: str = "alice") -> str:
    """Return a ticket."""
    return SIGNER.issue(Ticket(uid, user, now_ms() + lasts_ms, secrets.token_hex(8)))


class Credentials(credential_service_pb2_grpc.CredentialServiceServicer):
    """Says whose a cluster is."""

    def __init__(self) -> None:
        self.asked = 0
        self.shown: list[Any] = []  # credentials that came with a call that needs none
        self.states: dict[str, str] = {}  # reasons why alice's clusters have no dashboard now

    async def GetSignInOptions(self, request: Any, context: Any) -> Any:
        self.shown.append(dict(context.invocation_metadata()).get("authorization"))
        option = credential_service_pb2.SignInOption(name="password", schemes=["basic"])
        return credential_service_pb2.GetSignInOptionsResponse(options=[option])

    async def CreateDashboardTicket(self, request: Any, context: Any) -> Any:
        self.asked += 1
        given = dict(context.invocation_metadata()).get("authorization", "")
        user = {ALICE: "alice", BOB: "bob"}.get(given)
        if given == CAPITAL:
            refused = UserNameRefused(metadata={"name": "<Alice>", "why": "it has capitals"})
            details = (("grpc-status-details-bin", details_of(refused)),)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(refused), details)
        if user is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")
        uid = request.name.rpartition("/")[2]
        if (state := self.states.get(uid, "")) and user == "alice":
            info, status = AnyMessage(), status_pb2.Status(code=9, message="not ACTIVE")
            info.Pack(error_details_pb2.ErrorInfo(reason=state, domain="daskgateway"))
            status.details.append(info)
            context.set_trailing_metadata(
                (("grpc-status-details-bin", status.SerializeToString()),)
            )
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not ACTIVE")
        if OWNERS.get(uid) != user:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is none")
        return credential_service_pb2.CreateDashboardTicketResponse(
            url=f"http://gateway/x?ticket={ticket(uid, user=str(user))}"
        )


class Access(access_pb2_grpc.AccessServiceServicer):
    """Takes tickets once, and denies whom it is told to."""

    def __init__(self) -> None:
        self.used: set[str] = set()
        self.denied: set[str] = set()  # users and sessions
        self.unknown = False  # whether nothing can be told
        self.away = False
        self.asked: list[list[access_pb2.Access]] = []

    async def RedeemTicket(self, request: Any, context: Any) -> Any:
        await self._begin(context)
        read = SIGNER.read(request.ticket)
        if read is None or read.id in self.used or read.user in self.denied:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")
        assert read is not None
        self.used.add(read.id)
        told = access_pb2.Access(
            uid=read.uid, user=read.user, token_id=read.token_id, expires_at_ms=read.holds_until
        )
        return access_pb2.RedeemTicketResponse(access=told)

    async def CheckAccess(self, request: Any, context: Any) -> Any:
        await self._begin(context)
        self.asked.append(list(request.accesses))
        verdicts = [
            0 if self.unknown else 2 if self.denied & {one.user, one.session_id} else 1
            for one in request.accesses
        ]
        return access_pb2.CheckAccessResponse(verdicts=verdicts)  # type: ignore[arg-type]

    async def EndSession(self, request: Any, context: Any) -> Any:
        await self._begin(context)
        self.denied.add(request.access.session_id)
        return access_pb2.EndSessionResponse()

    async def _begin(self, context: Any) -> None:
        assert dict(context.invocation_metadata())["authorization"] == "Bearer t"
        if self.away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")


class Clusters(cluster_service_pb2_grpc.ClusterServiceServicer):
    """Streams what it is told to; None is a pause of half a second, a status code is an end with
    it."""

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.requests: list[Any] = []
        self.clusters: list[cluster_pb2.Cluster] = []
        self.callers: list[tuple[str, dict[str, Any]]] = []  # peer and metadata of every list

    async def WatchClusters(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.requests.append(request)
        for step in self.script:
            if step is None:
                await asyncio.sleep(0.5)
            elif isinstance(step, grpc.StatusCode):
                await context.abort(step, "as told")
            else:
                yield step

    StreamLogs = WatchClusters

    async def ListClusters(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        self.callers.append((context.peer(), dict(context.invocation_metadata())))
        context.set_trailing_metadata((("x-correlation-id", "call-7"),))
        return cluster_service_pb2.ListClustersResponse(
            clusters=self.clusters, next_page_token="more"
        )


@dataclass
class Served:
    """What runs."""

    edge: Edge
    port: int
    credentials: Credentials
    clusters: Clusters
    access: Access
    prefix: str = ""
    seen: list[Any] = field(default_factory=list)  # requests as the dashboard got them

    @property
    def address(self) -> str:
        """Where it is reached, without a prefix."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def dashboard(self) -> str:
        """The dashboard's public address."""
        return f"{self.address}{self.prefix}/clusters/{UID}"

    def add_routes(self, scheduler: int = 1, dashboard: int = 0, host: str = "127.0.0.1") -> None:
        """Tell the edge of both clusters, which a backend of this machine runs."""
        routes = []
        for uid in OWNERS:
            route = route_pb2.Route(uid=uid, scheduler_address=f"{host}:{scheduler}", local=True)
            if dashboard:
                route.dashboard_address = f"{host}:{dashboard}"
            routes.append(route)
        self.edge.routes.apply(
            route_pb2.RouteUpdate(snapshot=True, routes=routes, ticket_keys=[SIGNER.public_key])
        )


@contextlib.asynccontextmanager
async def serving(
    directory: pathlib.Path,
    distant: tuple[pathlib.Path, pathlib.Path] | None = None,
    **settings: Any,
) -> AsyncIterator[Served]:
    """Serve an edge whose server answers about credentials, watches and lists; a `distant` one, by
    TLS with this certificate and key."""
    (directory / "token").write_text("t")
    server = grpc.aio.server()
    asked, clusters, access = Credentials(), Clusters(), Access()
    access_pb2_grpc.add_AccessServiceServicer_to_server(access, server)
    credential_service_pb2_grpc.add_CredentialServiceServicer_to_server(asked, server)
    cluster_service_pb2_grpc.add_ClusterServiceServicer_to_server(clusters, server)
    server.add_insecure_port(f"unix:{directory}/server.sock")
    if distant is not None:
        chain, key = (path.read_bytes() for path in distant)
        there = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
        settings = {
            "server_address": f"https://127.0.0.1:{there}",
            "server_ca": str(distant[0]),
        } | settings
    await server.start()
    usual: dict[str, Any] = {
        "address": "127.0.0.1:0",
        "state_dir": str(directory / "edge"),
        "token_file": str(directory / "token"),
        "server_address": f"unix:{directory}/server.sock",
        "drain_s": 0.2,
    }
    options = Proxy(**usual | settings)
    edge = Edge(options)
    bound = await edge.start()
    made = Served(edge, int(bound.rpartition(":")[2]), asked, clusters, access, options.prefix)
    made.add_routes()
    try:
        yield made
    finally:
        await edge.stop()
        await server.stop(None)


@contextlib.asynccontextmanager
async def a_dashboard(served: Served, routes: list[Any]) -> AsyncIterator[int]:
    """Serve a dashboard with these routes, and tell the edge of it; its port. What it is asked
    stands in `served.seen`."""

    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:
        served.seen.append(request)
        answer: web.StreamResponse = await handler(request)
        return answer

    app = web.Application(middlewares=[note])
    app.add_routes(routes)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port: int = runner.addresses[0][1]
    served.add_routes(dashboard=port)
    yield port
    await runner.cleanup()


async def raw(port: int, sent: bytes, *, end: bool = False) -> bytes:
    """Send bytes and return everything that comes back until the edge closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    if end:
        writer.write_eof()
    received = b""
    try:
        async with asyncio.timeout(20):
            received = await reader.read(-1)
    except ConnectionError:
        pass
    writer.close()
    return received
