"""What follows from an edge's settings before anything is open: whether they can be, and what is
made of them."""

from __future__ import annotations

import os
import pathlib
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.configfile import ConfigurationError
from gateway.custody import directory_problem
from gateway.descriptors import Demand
from gateway.networks import (
    Destination,
    Network,
    is_here,
    is_loopback,
    literal,
    parse_address,
    parse_networks,
)
from gateway.proxy.config import Proxy
from gateway.proxy.door.admission import Capacity
from gateway.proxy.door.sorting import Mutual
from gateway.wire import split_host_port

# for what is loaded, logs, the server's channel, idle connections to dashboards
DESCRIPTORS_KEPT = 192
LEAST_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where the edge listens, and in which networks schedulers may be."""

    host: str
    port: int
    networks: tuple[Network, ...]


def checked(options: Proxy) -> Place:
    """Return what the settings say; ConfigurationError names all that cannot be."""
    if wrong := options.problems():
        raise ConfigurationError("\n".join(wrong))
    place = split_host_port(options.address)
    assert place is not None, "an address with no problem"
    return Place(*place, parse_networks(options.scheduler_networks))


def made_state_dir(options: Proxy) -> pathlib.Path:
    """Return the directory of what the edge keeps, made if there was none. ConfigurationError if it
    is not ours alone."""
    directory = pathlib.Path(os.path.expanduser(options.state_dir))
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"c.Proxy.state_dir: cannot make {directory}: {error.strerror}"
        ) from None
    # Whoever knows the key of sessions is let in to every dashboard. What lies in a directory of
    # ours alone, we have put there.
    if (wrong := directory_problem(directory)) and directory_problem(directory.parent):
        raise ConfigurationError(f"c.Proxy.state_dir: {wrong}")
    return directory


def descriptors_wanted(options: Proxy) -> Demand:
    """Return what an edge's process needs descriptors for: two for a connection, two for a pipe."""
    kept = DESCRIPTORS_KEPT + 2 * options.max_pipes
    return Demand(
        "connections",
        "c.Proxy.max_connections",
        options.max_connections,
        each=2,
        kept=kept,
        least=LEAST_CONNECTIONS,
    )


def capacity(options: Proxy, connections: int) -> Capacity:
    """Return how many are served at a time, where descriptors are for so many connections."""
    return Capacity(
        connections,
        options.max_connections_per_address,
        options.max_connections_per_cluster,
        options.max_newcomers,
    )


def own_ports(options: Proxy, bound: int, server: int) -> set[int]:
    """Return the ports at which the gateway itself listens: never the target of a route on this
    machine. `server`: the port of its listener, 0 if it is reached by a socket."""
    found = {bound, *options.own_ports}
    for text in (options.address, options.admin_address):
        address = parse_address(text)
        if address is not None:
            found.add(address[1])
    return found | {server} if server else found


def mutual(options: Proxy) -> Mutual:
    """Return the way to the server's listener for client certificates."""
    place = parse_address(options.mtls_address)
    return Mutual(options.mtls_name, Destination.of(*place)) if place is not None else Mutual()


def beside(server_address: str) -> bool:
    """Whether the server runs on this machine, as far as its address tells."""
    if server_address.startswith("unix:"):
        return True
    host = urlsplit(server_address).hostname or ""
    address = literal(host)
    return is_loopback(host) or (address is not None and is_here(address))
