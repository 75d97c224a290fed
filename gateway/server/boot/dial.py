"""Whether agents will find the server: at its start it dials itself as they do, by the address, the
certificates and the name that they are given."""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.backends.launch import AgentEndpoint
from gateway.configfile import ConfigurationError
from gateway.wire import host_port

DIAL_S = 10.0  # for each step
HTTPS = 443
OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0))


async def try_way(endpoint: AgentEndpoint, healthy: Any, setting: str) -> None:
    """Reach this very server as agents do. ConfigurationError says what keeps them from it, with
    the setting that the address comes from.

    `healthy`: the server's health service, which is asked for a name that nobody else knows.
    """
    try:
        if not endpoint.address.startswith("unix:"):
            await _handshake(endpoint)
        await _call(endpoint, healthy)
    except _Unreached as error:
        raise ConfigurationError(
            f"{setting}: schedulers would not reach this server at {endpoint.address}: {error};"
            f" where only they can, and not this machine, set c.DaskGateway.check_agent_address ="
            f" False"
        ) from None


class _Unreached(Exception):
    """It is not reached."""


async def _handshake(endpoint: AgentEndpoint) -> None:
    """Look the name up, connect, and verify the certificate; each told by itself."""
    parts = urlsplit(endpoint.address)
    host, port = parts.hostname or "", parts.port or HTTPS
    context = ssl.create_default_context(cadata=endpoint.ca.decode())
    # as gRPC has it: a certificate that stands in the bundle needs none above it
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["h2"])
    place = host_port(host, port)
    try:
        async with asyncio.timeout(DIAL_S):
            loop = asyncio.get_running_loop()
            await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            _, writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname=endpoint.server_name or host
            )
    except TimeoutError:
        raise _Unreached(f"{place} did not answer within {DIAL_S:g} s") from None
    except socket.gaierror as error:
        raise _Unreached(f"the name {host} leads to no address ({error.strerror})") from None
    except ssl.SSLCertVerificationError as error:
        why = error.verify_message.rstrip(".")
        raise _Unreached(
            f"the certificate there is not accepted: {why}; see c.DaskGateway.tls_cert and tls_ca"
        ) from None
    except ssl.SSLError as error:
        raise _Unreached(f"what answers there speaks no TLS of ours ({error.reason})") from None
    except (ConnectionResetError, ConnectionAbortedError, BrokenPipeError):
        raise _Unreached("what answers there speaks no TLS of ours (it hangs up)") from None
    except OSError as error:
        raise _Unreached(f"nothing answers at {place} ({error.strerror or error})") from None
    # not closed in turn: the other side would not answer that, and the server, which ends what is
    # open when it stops, would wait for this connection to itself
    writer.transport.abort()


async def _call(endpoint: AgentEndpoint, healthy: Any) -> None:
    """Ask what answers for a name that only this server has just been told."""
    name = f"daskgateway.self.{secrets.token_hex(8)}"
    await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    async with _channel(endpoint) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=DIAL_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise _Unreached("another server answers there") from None
            words = " ".join(str(error.details()).split())[:300]
            raise _Unreached(f"a call there fails ({error.code().name}: {words})") from None
        finally:
            await healthy.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)


def _channel(endpoint: AgentEndpoint) -> grpc.aio.Channel:
    target = endpoint.address.removeprefix("https://")
    if target == endpoint.address:
        return grpc.aio.insecure_channel(target, OPTIONS)
    name = endpoint.server_name
    named = [("grpc.ssl_target_name_override", name)] if name else []
    return grpc.aio.secure_channel(
        target, grpc.ssl_channel_credentials(endpoint.ca), [*OPTIONS, *named]
    )
