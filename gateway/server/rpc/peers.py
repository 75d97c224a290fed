"""Where a call comes from: the caller's own address, also where an edge stands between, and none
that a caller only claims.

An edge relays gRPC on the server's own socket, from an end whose name tells for whom; nobody else
gets to that socket. Calls that it makes for who speaks HTTP tell the caller beside the edge's
token. Knows gRPC's words for peers (grpc_sockaddr_to_uri in its core).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from gateway.networks import group_of, literal
from gateway.wire import EDGE_CALLER, EDGE_TOKEN, caller_of_peer, host_port, split_host_port

HERE = "this machine"
TCP = ("ipv4:", "ipv6:")


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a call comes from."""

    shown: str  # in the log: host:port, or host where an edge has heard it over HTTP
    address: str  # what counts as one address: of IPv6 a network of 64 bits


NOWHERE = Peer("-", "-")


def peer_of(told: str, metadata: Mapping[str, Any], is_edge: Callable[[str], bool]) -> Peer:
    """Return where a call comes from, out of what gRPC tells and what came with it; `is_edge` says
    whether a token is an edge's."""
    token = metadata.get(EDGE_TOKEN)
    if isinstance(token, str) and is_edge(token):
        address = literal(str(metadata.get(EDGE_CALLER, "")))
        return (
            Peer(str(address), group_of(str(address))) if address is not None else Peer(HERE, HERE)
        )
    relayed = caller_of_peer(told)
    if relayed is not None:
        return _of(*relayed)
    if told.startswith(TCP):
        return _of(*(split_host_port(unquote(told[5:])) or (unquote(told[5:]), 0)))
    return Peer(HERE, HERE)


def _of(host: str, port: int) -> Peer:
    return Peer(host_port(host, port), group_of(host))
