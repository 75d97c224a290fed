"""Whether users will reach a scheduler where it says that it is: what the edge will say, as far as
the server's own settings tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

from gateway.configfile import ConfigurationError
from gateway.networks import (
    LOOPBACK_NETWORKS,
    Destinations,
    is_here,
    literal,
    parse_address,
    parse_networks,
)
from gateway.server.boot.settings import Settings
from gateway.server.core.conditions import Objection, anywhere


def local_backends(found: Settings) -> Sequence[str]:
    """Return the names of the backends whose schedulers may run on this machine."""
    return [name for name, backend in found.backends.items() if backend.local]


def scheduler_networks(found: Settings) -> Sequence[str]:
    """Return the networks in which schedulers may be: where none are set, this machine's alone if
    no backend starts any elsewhere."""
    if "scheduler_networks" in found.config.get("Proxy", {}) or len(local_backends(found)) < len(
        found.backends
    ):
        return list(found.proxy.scheduler_networks)
    host = found.clusters.scheduler_host
    address = literal(host) if host else None
    if host and address is None:  # a name: what it leads to is for the edge to see
        return list(found.proxy.scheduler_networks)
    return [
        *LOOPBACK_NETWORKS,
        *([] if address is None or address.is_loopback else [f"{address}/{address.max_prefixlen}"]),
    ]


def judge(found: Settings, listeners: Iterable[str]) -> Objection:
    """Return what says why nobody reaches an address such as tls://10.0.0.7:8786, an empty text if
    nothing is known against it.

    `listeners` are host:port of the gateway's own. Where the edge runs by itself, maybe elsewhere,
    the server knows its networks only if they stand in the server's file too, knows none of its
    ports, and of its addresses only loopback. What a name leads to is left to the edge, which looks
    it up.
    """
    beside = found.server.start_proxy
    if not beside and "scheduler_networks" not in found.config.get("Proxy", {}):
        return anywhere
    try:
        networks = parse_networks(scheduler_networks(found))
    except ValueError as error:
        raise ConfigurationError(f"c.Proxy.scheduler_networks: {error}") from None
    own = {place[1] for text in listeners if (place := parse_address(text)) is not None}
    targets = Destinations(
        networks,
        own.union(found.proxy.own_ports) if beside else (),
        is_here if beside else attrgetter("is_loopback"),
    )
    local = frozenset(local_backends(found))

    def objection(address: str, backend: str) -> str:
        place = parse_address(address.rpartition("://")[2])
        why = targets.objection(*place, local=backend in local) if place is not None else ""
        if why and backend not in found.backends:
            why = f"and its backend {backend} is none of c.DaskGateway.backends any more"
        return f"the scheduler says that it is at {address}, {why}" if why else ""

    return objection
