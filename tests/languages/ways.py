"""The ways from a client to a gateway: by gRPC and by Connect, in clear text and by TLS, and
through what stands in front of an edge in real life."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.e2e.gateway_process import GatewayProcess
from tests.parts import fronts
from tests.ports import free_port


@dataclass(frozen=True)
class Way:
    """One of them, open."""

    protocol: str  # grpc or connect
    address: str
    ca_file: str = ""


NAMES = {
    "grpc": "gRPC",
    "connect": "Connect: JSON over HTTP/1.1",
    "grpc-tls": "gRPC over TLS",
    "grpc-nginx": "gRPC over TLS, behind nginx as a TCP balancer",
    "connect-tls": "Connect over TLS",
    "connect-nginx": "Connect behind nginx, which ends TLS, below a path",
    "connect-jupyterhub": "Connect through JupyterHub's proxy, below a path",
}


@dataclass(frozen=True)
class Gateways:
    """Two gateways, one of them with a certificate, known by the address of its balancer."""

    plain: GatewayProcess
    secure: GatewayProcess
    certificate: tuple[pathlib.Path, pathlib.Path]
    balanced: int  # port of nginx in front of the secure one


def port(address: str) -> int:
    """Return that of an address."""
    return int(address.rpartition(":")[2])


@contextlib.contextmanager
def gateways(directory: pathlib.Path) -> Iterator[Gateways]:
    """Serve both."""
    places = {name: directory / name for name in ("plain", "secure", "balancer")}
    for place in places.values():
        place.mkdir()
    # by name: grpc-js sends the name in the address as SNI, which must be no address
    chain, key = certificate = fronts.self_signed(directory, names=("localhost",))
    balanced, edge, open_edge = (free_port() for _ in range(3))
    plain = GatewayProcess(
        places["plain"],
        "c.Proxy.trusted_proxies = ['127.0.0.1']",
        f"c.Proxy.address = '127.0.0.1:{open_edge}'",
        f"c.DaskGateway.public_url = 'http://127.0.0.1:{open_edge}{fronts.PREFIX}'",
    )
    secure = GatewayProcess(
        places["secure"],
        f"c.Proxy.tls_cert, c.Proxy.tls_key = {str(chain)!r}, {str(key)!r}",
        f"c.Proxy.address = '127.0.0.1:{edge}'",
        f"c.DaskGateway.public_url = 'https://localhost:{balanced}'",
    )
    configuration = fronts.nginx_stream(edge, balanced)
    try:
        plain.start()
        secure.start()
        with fronts.nginx(places["balancer"], configuration, balanced):
            yield Gateways(plain, secure, certificate, balanced)
    finally:
        plain.end()
        secure.end()


@contextlib.contextmanager
def way(name: str, served: Gateways, directory: pathlib.Path) -> Iterator[Way]:
    """Open one of the ways."""
    protocol, _, through = name.partition("-")
    plain = f"http://127.0.0.1:{edge_port(served.plain)}"
    ca = str(served.certificate[0])
    if not through:
        yield Way(protocol, plain)
    elif through == "tls":
        yield Way(protocol, f"https://localhost:{edge_port(served.secure)}", ca)
    elif name == "grpc-nginx":
        yield Way(protocol, f"https://localhost:{served.balanced}", ca)
    elif through == "nginx":
        front = free_port()
        configuration = fronts.nginx_http(
            port(plain), strip=False, port=front, certificate=served.certificate
        )
        with fronts.nginx(directory, configuration, front):
            yield Way(protocol, f"https://localhost:{front}{fronts.PREFIX}", ca)
    else:
        front = free_port()
        with fronts.configurable_http_proxy(directory, port(plain), front):
            yield Way(protocol, f"http://127.0.0.1:{front}{fronts.PREFIX}")


def edge_port(gateway: GatewayProcess) -> int:
    """Return the port that a gateway's edge listens on itself."""
    import json

    record = json.loads((gateway.directory / "state" / "edge.json").read_text())
    return port(record["address"])
