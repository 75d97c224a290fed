"""The grpc.aio server: its options, its listeners and what it answers. Knows no use case."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
from daskgateway.v1 import cluster_service_pb2, credential_service_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gateway.server.core.errors import MethodUnknown
from gateway.server.rpc import reflection
from gateway.server.rpc.chain import Chain, Interceptor
from gateway.server.rpc.messages import serialized
from gateway.server.rpc.requests import reader
from gateway.server.rpc.status import STATUS_DETAILS, code_of, details_of, text_of
from gateway.wire import MAX_STREAMS

logger = logging.getLogger(__name__)

PUBLIC_SERVICES = (
    cluster_service_pb2.DESCRIPTOR.services_by_name["ClusterService"].full_name,
    credential_service_pb2.DESCRIPTOR.services_by_name["CredentialService"].full_name,
)
# accepted and not yet handed to Python; by default C-core cancels all beyond 1,000 after a
# reconnect storm
PENDING_CALLS = 20_000

OPTIONS: tuple[tuple[str, int], ...] = (
    # Beyond its bound our reader answers with a typed error; what is far beyond is refused before
    # it is held in memory.
    ("grpc.max_receive_message_length", 2 * 1024 * 1024),
    ("grpc.max_send_message_length", 16 * 1024 * 1024),
    ("grpc.max_metadata_size", 32 * 1024),
    # by default without end: 20,000 heads without bodies took half a gigabyte
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    # of a body that nobody has asked for yet; by default 4 MiB of each stream
    ("grpc.http2.lookahead_bytes", 64 * 1024),
    ("grpc.http2.max_frame_size", 16 * 1024),
    ("grpc.server.max_pending_requests", PENDING_CALLS),
    ("grpc.server.max_pending_requests_hard_limit", PENDING_CALLS),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 4),
    ("grpc.so_reuseport", 0),  # a second server on the same port is a mistake that must be seen
)


class _Registrar:
    """Stands between a generated `add_…_to_server` and the server, and makes every request's
    deserializer total."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Passed over: the handlers come again, by name, in the next call."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Register a service's handlers."""
        total = {name: _total(handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, total),)
        )


def _total(handler: Any) -> Any:
    message_type = handler.request_deserializer.__self__
    return handler._replace(
        request_deserializer=reader(message_type), response_serializer=serialized
    )


def _unknown(name: str) -> Any:
    """Return what answers a method that there is not, whatever its caller sends; to anybody, as the
    API is no secret."""
    error = MethodUnknown(metadata={"method": name})

    async def refuse(_: Any, context: Any) -> None:
        told = ((STATUS_DETAILS, details_of(error)),)
        await context.abort(code_of(error), text_of(error), told)

    return grpc.stream_stream_rpc_method_handler(refuse)


def build(
    interceptors: Sequence[Interceptor],
    services: Sequence[tuple[Callable[[Any, Any], None], Any]],
    *,
    with_reflection: bool,
) -> tuple[grpc.aio.Server, Any]:
    """Return a server that answers these services, health and (if wished) reflection; it does not
    listen yet."""
    server = grpc.aio.server(interceptors=[Chain(interceptors, _unknown)], options=OPTIONS)
    registrar = _Registrar(server)
    for register, servicer in services:
        register(servicer, registrar)
    healthy = health.aio.HealthServicer()  # type: ignore[attr-defined]
    # whose callers nobody knows: their messages have bounds above all
    health_pb2_grpc.add_HealthServicer_to_server(healthy, registrar)
    if with_reflection:
        told = reflection.ReflectionServicer((*PUBLIC_SERVICES, health.SERVICE_NAME))
        for name in reflection.NAMES:
            registrar.add_registered_method_handlers(name, reflection.handlers(told))
    return server, healthy


async def set_health(healthy: Any, serving: bool) -> None:
    """Say whether the server serves."""
    status = (
        health_pb2.HealthCheckResponse.SERVING
        if serving
        else health_pb2.HealthCheckResponse.NOT_SERVING
    )
    for service in ("", *PUBLIC_SERVICES):
        await healthy.set(service, status)


def listen_tls(
    server: grpc.aio.Server, address: str, shown: Callable[[], tuple[bytes, bytes]]
) -> int:
    """Listen on host:port, in TLS always; return the port. RuntimeError if that cannot be.

    `shown` returns certificate chain and key as PEM; it is asked at every handshake, in a thread of
    gRPC's, and must not fail.
    """

    def configuration() -> grpc.ServerCertificateConfiguration:
        certificate, key = shown()
        return grpc.ssl_server_certificate_configuration([(key, certificate)])

    return server.add_secure_port(
        address, grpc.dynamic_ssl_server_credentials(configuration(), configuration)
    )


def listen_mutually(
    server: grpc.aio.Server,
    address: str,
    shown: Callable[[], tuple[bytes, bytes]],
    authorities: Callable[[], bytes],
) -> int:
    """Listen on host:port for callers with a certificate by one of the `authorities` (PEM), and no
    others; return the port. RuntimeError if that cannot be.

    Both are asked at every handshake, in a thread of gRPC's, and must not fail.
    """

    def configuration() -> grpc.ServerCertificateConfiguration:
        certificate, key = shown()
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authorities())

    return server.add_secure_port(
        address,
        grpc.dynamic_ssl_server_credentials(
            configuration(), configuration, require_client_authentication=True
        ),
    )


def listen_locally(server: grpc.aio.Server, path: str) -> None:
    """Listen on a Unix socket that nobody else may connect to. RuntimeError if that cannot be."""
    umask = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{path}")
    finally:
        os.umask(umask)
