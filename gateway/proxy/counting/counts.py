"""What the edge counts: plain numbers, added to where things happen and read when somebody asks.
Knows nothing of their display."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Counts:
    """Since the process started."""

    accepted: int = 0
    # By what the first bytes said.
    to_scheduler: int = 0
    to_http2: int = 0  # in clear text; with TLS it is agreed on later
    to_https: int = 0
    to_http: int = 0
    to_mutual: int = 0  # to the server's listener for client certificates
    junk: int = 0
    # Refused, and why.
    refused_address: int = 0  # the address has its share
    refused_cluster: int = 0  # the cluster has its share, or there are too many tunnels
    refused_newcomer: int = 0  # the oldest newcomer gave way to another
    refused_unknown: int = 0  # no such cluster, or none that runs
    refused_clear: int = 0  # clear text where TLS is spoken, or the other way
    hello_timeouts: int = 0
    refused_handshake: int = 0  # too many TLS handshakes of the address wait
    cut_sessions: int = 0  # connections of HTTP/2 that were ended for what they sent
    # Accepting rested, and why.
    paused_full: int = 0
    paused_descriptors: int = 0
    # Relays.
    relays_opened: int = 0
    connect_failures: int = 0
    connect_timeouts: int = 0
    linger_timeouts: int = 0  # half-closed, and silent for too long
    bytes_up: int = 0  # client to scheduler, of relays that are over
    bytes_down: int = 0
    # Routes.
    route_changes: int = 0  # messages of the server that told of routes
    route_keepalives: int = 0  # messages that told only that the server lives
    # times that the server was not heard for so long that it was asked anew
    route_silences: int = 0
    # targets outside the networks that are allowed, and dashboards that are another user's
    routes_forbidden: int = 0


@dataclass(slots=True)
class Gauges:
    """Now."""

    connections: int = 0
    newcomers: int = 0
    sessions: int = 0  # connections of HTTP/2, gRPC mostly
    relays: int = 0
    tunnels: int = 0
    half_closed: int = 0
    pipes_leased: int = 0
    pipe_leases_refused: int = 0
    bytes_up: int = 0  # of all relays, those that are over and those that go on
    bytes_down: int = 0
    routes: int = 0
    routes_age_s: float = -1.0  # since the server was heard; -1 for never
    server_connected: int = 0
    connections_allowed: int = 0


def as_numbers(*groups: Counts | Gauges) -> dict[str, float]:
    """Return everything by name; of a name that stands twice the last one."""
    return {field.name: getattr(group, field.name) for group in groups for field in fields(group)}
