"""By which addresses the gateway is known: to users, to agents, and to who reads the log. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from gateway.configfile import ConfigurationError
from gateway.proxy.config import Proxy
from gateway.server.boot.config import DaskGateway
from gateway.server.boot.settings import split_address
from gateway.server.usecases.services import Endpoint
from gateway.wire import host_port

EVERYWHERE = ("", "0.0.0.0", "::")


def listener_address(server: DaskGateway, port: int) -> str:
    """Return host:port at which this machine reaches the gRPC listener."""
    return reached(server.address, port)


def reached(listened_on: str, port: int) -> str:
    """Return host:port at which this machine reaches what listens on an address, by the port that
    it got."""
    hostname, _ = split_address(listened_on, "address")
    return host_port("127.0.0.1" if hostname in EVERYWHERE else hostname, port)


def public_endpoint(server: DaskGateway, proxy: Proxy, edge_address: str) -> Endpoint:
    """Return where users reach the edge; ConfigurationError if that cannot be told."""
    hostname, port = split_address(edge_address, "c.Proxy.address")
    scheme = "https" if proxy.tls_cert else "http"
    if hostname in EVERYWHERE:
        hostname = "127.0.0.1"
    url = (server.public_url or f"{scheme}://{host_port(hostname, port)}").rstrip("/")
    parts = urlsplit(url)
    if not parts.hostname:
        raise ConfigurationError(
            f"c.DaskGateway.public_url: must look like https://host or http://host:port, not"
            f" {url!r}"
        )
    return Endpoint(
        parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), url, parts.path
    )
