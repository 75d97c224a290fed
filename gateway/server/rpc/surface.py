"""The gRPC surface, composed once: every interceptor in its order, every service, and what wakes
their streams.

The server and the tests' harness both use it, so no test passes on another composition.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from daskgateway.internal.v1 import access_pb2_grpc, agent_pb2_grpc, route_pb2_grpc
from daskgateway.v1 import cluster_service_pb2_grpc, credential_service_pb2_grpc

from gateway.server.rpc import host
from gateway.server.rpc.access_service import AccessServicer
from gateway.server.rpc.agent_service import AgentServicer, Listener, Switchboard
from gateway.server.rpc.cluster_service import ClusterServicer
from gateway.server.rpc.credential_service import CredentialServicer
from gateway.server.rpc.interceptors import (
    AuthenticationInterceptor,
    ContextInterceptor,
    Doorkeeper,
    ErrorInterceptor,
)
from gateway.server.rpc.limits import CallLimits, LimitsInterceptor
from gateway.server.rpc.route_service import RouteServicer
from gateway.server.usecases.services import Services


@dataclass(frozen=True, slots=True)
class Inside:
    """What lies behind the surface."""

    services: Services
    doors: Doorkeeper
    is_edge: Callable[[str], bool]  # whether a token is an edge's
    listener: Listener  # hears agents
    ticket_keys: Sequence[bytes]  # public keys that edges know our tickets by
    draining: Callable[[], bool]  # whether the server is about to exit
    local_backends: Collection[str]  # those whose schedulers may run on this machine
    limits: CallLimits = CallLimits()
    with_reflection: bool = True


@dataclass(frozen=True, slots=True)
class Surface:
    """The surface. It does not listen until a port is added and `server` is started."""

    server: grpc.aio.Server
    healthy: Any  # grpc_health's servicer
    switchboard: Switchboard  # whoever starts the server runs it beside
    routes: RouteServicer

    async def say(self, *, serving: bool) -> None:
        """Tell probes whether the server serves."""
        await host.set_health(self.healthy, serving)

    def wake_all(self) -> None:
        """Wake every stream of agents and edges: the server drains."""
        self.switchboard.wake_all()
        self.routes.wake_all()


def compose(inside: Inside) -> Surface:
    """Return the surface over what lies behind it."""
    services = inside.services
    view = services.store.view
    switchboard = Switchboard(view)
    agents = AgentServicer(
        view,
        inside.listener,
        switchboard,
        services.now,
        inside.draining,
        inside.local_backends,
    )
    routes = RouteServicer(
        view, inside.ticket_keys, inside.draining, inside.local_backends, services.doubted
    )
    server, healthy = host.build(
        [
            ContextInterceptor(inside.is_edge),
            ErrorInterceptor(),
            AuthenticationInterceptor(inside.doors),
            LimitsInterceptor(inside.limits, inside.draining),
        ],
        [
            (
                cluster_service_pb2_grpc.add_ClusterServiceServicer_to_server,
                ClusterServicer(services),
            ),
            (
                credential_service_pb2_grpc.add_CredentialServiceServicer_to_server,
                CredentialServicer(services),
            ),
            (agent_pb2_grpc.add_AgentServiceServicer_to_server, agents),
            (route_pb2_grpc.add_RouteServiceServicer_to_server, routes),
            (access_pb2_grpc.add_AccessServiceServicer_to_server, AccessServicer(services)),
        ],
        with_reflection=inside.with_reflection,
    )
    return Surface(server, healthy, switchboard, routes)
