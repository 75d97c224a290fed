"""Where the server listens: in TLS for agents and distant edges, and on a socket of its own for
what runs on this machine."""

from __future__ import annotations

import functools
import logging
import os
import pathlib
from collections.abc import Callable

import grpc

from gateway import checks
from gateway.authenticators.mtls import MutualTlsAuthenticator
from gateway.configfile import ConfigurationError
from gateway.server.boot.config import DaskGateway
from gateway.server.boot.kept_port import keep_port, kept_port
from gateway.server.boot.settings import host_of, split_address
from gateway.server.edge.account import Account
from gateway.server.rpc import host
from gateway.server.security.authority import Authority
from gateway.server.security.listener_certificate import (
    GivenCertificate,
    ListenerCertificate,
    OwnCertificate,
)
from gateway.wire import host_port

logger = logging.getLogger(__name__)

SOCKET_NAME = "server.sock"
PORT_FILE = "listener.port"
MUTUAL_PORT_FILE = "mutual-listener.port"
EVERYWHERE = ("", "0.0.0.0", "::")


def certificate(
    options: DaskGateway, state_dir: pathlib.Path, now: Callable[[], int]
) -> ListenerCertificate:
    """Return what the listener shows. ConfigurationError if that cannot be had."""
    if options.tls_cert:
        return GivenCertificate(options.tls_cert, options.tls_key, options.tls_ca)
    hosts = (
        split_address(options.address, "c.DaskGateway.address")[0],
        host_of(options.agent_address),
    )
    return OwnCertificate(
        Authority.load(state_dir), [name for name in hosts if name not in EVERYWHERE], now
    )


def bind(
    server: grpc.aio.Server, address: str, shown: ListenerCertificate, state_dir: pathlib.Path
) -> int:
    """Listen on host:port, and keep the port for the next run; return it. ConfigurationError if
    that cannot be.

    Where any free port will do, the last run's is taken if it is to be had: agents that were told
    it must find us again.
    """

    def listen(at: str) -> int:
        return host.listen_tls(server, at, functools.partial(_pair, shown))

    return _bound("c.DaskGateway", address, state_dir / PORT_FILE, listen)


def bind_mutually(
    server: grpc.aio.Server,
    options: MutualTlsAuthenticator,
    shown: ListenerCertificate,
    state_dir: pathlib.Path,
) -> int:
    """Listen for callers with client certificates; return the port, which is kept like the other.
    ConfigurationError if that cannot be."""

    def listen(at: str) -> int:
        pair = functools.partial(_pair, shown)
        return host.listen_mutually(server, at, pair, options.authorities)

    place = state_dir / MUTUAL_PORT_FILE
    return _bound("c.MutualTlsAuthenticator", options.address, place, listen)


def _pair(shown: ListenerCertificate) -> tuple[bytes, bytes]:
    now = shown.shown()
    return now.certificate, now.key


def _bound(owner: str, address: str, kept: pathlib.Path, listen: Callable[[str], int]) -> int:
    """Listen on host:port as `listen` does, and keep the port; return it."""
    hostname, port = split_address(address, f"{owner}.address")
    hostname = hostname or "0.0.0.0"
    bound = 0
    if not port and (earlier := kept_port(kept)):
        try:
            bound = listen(host_port(hostname, earlier))
        except RuntimeError:
            logger.warning(
                "port %d of the last run is taken: who was told it does not find this server",
                earlier,
            )
    try:
        bound = bound or listen(host_port(hostname, port))
    except RuntimeError as error:
        raise ConfigurationError(_unbound(owner, hostname, port, error)) from None
    keep_port(kept, bound)
    return bound


def _unbound(owner: str, hostname: str, port: int, error: RuntimeError) -> str:
    """Return why gRPC does not listen: it says no more than that it does not."""
    if wrong := checks.listenable(hostname, port):
        return f"{owner}.address: {wrong}; is another server running?"
    return (
        f"{owner}.tls_cert, tls_key: {host_port(hostname, port)} is free, but gRPC cannot use"
        f" this certificate with this key ({error})"
    )


def bind_socket(server: grpc.aio.Server, directory: int, owner: Account | None = None) -> None:
    """Listen on a socket in a directory that is open, whatever its path; only the owner, by default
    this process's, may connect.

    What an earlier run left there is removed. ConfigurationError if that cannot be.
    """
    path = f"/proc/self/fd/{directory}/{SOCKET_NAME}"
    try:
        pathlib.Path(path).unlink(missing_ok=True)
        host.listen_locally(server, path)
        if owner is not None:
            os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
    except (OSError, RuntimeError) as error:
        raise ConfigurationError(
            f"c.DaskGateway.state_dir: {SOCKET_NAME} cannot be made there: {error}"
        ) from None
