"""What is counted, in Prometheus' words: names, labels and help of each number. Knows nothing of
who counts, nor of HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

PREFIX = "daskgateway_edge_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Metric → its help, its label, and which number stands for which value of the label.
COUNTERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "accepted_connections": ("Connections accepted.", "", {"accepted": ""}),
    "sorted_connections": (
        "Connections by what their first bytes said.",
        "kind",
        {
            "to_scheduler": "scheduler",
            "to_http2": "http2",
            "to_https": "https",
            "to_mutual": "mutual_tls",
            "to_http": "http",
            "junk": "junk",
        },
    ),
    "refused_connections": (
        "Connections closed without being served, by reason.",
        "reason",
        {
            "refused_address": "address_limit",
            "refused_cluster": "cluster_limit",
            "refused_newcomer": "newcomer_limit",
            "refused_unknown": "unknown_cluster",
            "refused_clear": "tls_mismatch",
            "hello_timeouts": "hello_timeout",
            "refused_handshake": "handshake_limit",
            "cut_sessions": "http2_abuse",
            "connect_failures": "connect_failure",
            "connect_timeouts": "connect_timeout",
        },
    ),
    "accept_pauses": (
        "Times that accepting rested, by reason.",
        "reason",
        {"paused_full": "full", "paused_descriptors": "descriptors"},
    ),
    "relays_opened": ("Relays begun.", "", {"relays_opened": ""}),
    "linger_timeouts": ("Half-closed relays ended for silence.", "", {"linger_timeouts": ""}),
    "relayed_bytes": (
        "Bytes read from clients (up) and from targets (down).",
        "direction",
        {"bytes_up": "up", "bytes_down": "down"},
    ),
    "route_messages": (
        "Messages on the stream of routes from the server: of routes, or only that it lives.",
        "kind",
        {"route_changes": "change", "route_keepalives": "keepalive"},
    ),
    "route_silences": (
        "Times that the server was silent for too long and was asked anew.",
        "",
        {"route_silences": ""},
    ),
    "forbidden_routes": (
        "Addresses reported outside the permitted networks, or another user's.",
        "",
        {"routes_forbidden": ""},
    ),
    "refused_pipe_leases": (
        "Bulk transfers that got no pipe and were copied.",
        "",
        {"pipe_leases_refused": ""},
    ),
}
GAUGES: dict[str, tuple[str, str]] = {
    "connections": ("connections", "Connections now."),
    "connections_allowed": ("connections_allowed", "Connections that can be served at a time."),
    "newcomers": ("newcomers", "Connections that have not yet said what they want."),
    "http2_sessions": ("sessions", "Connections of HTTP/2 now, gRPC mostly."),
    "relays": ("relays", "Relays now."),
    "tunnels": ("tunnels", "Scheduler connections inside WebSockets now."),
    "half_closed_relays": ("half_closed", "Relays whose one side has ended."),
    "leased_pipes": ("pipes_leased", "Pipes leased to bulk transfers."),
    "routes": ("routes", "Clusters known."),
    "routes_age_seconds": (
        "routes_age_s",
        "Seconds since the server was last heard; -1 for never.",
    ),
    "server_connected": (
        "server_connected",
        "Whether the stream of routes from the server stands.",
    ),
}


class _Snapshot:
    """A collector of what was counted once, in every process."""

    def __init__(self, numbers: Mapping[str, Mapping[str, float]]) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        for name, (words, label, parts) in COUNTERS.items():
            counter = CounterMetricFamily(
                PREFIX + name, words, labels=["process", *([label] if label else [])]
            )
            for process, numbers in self._numbers.items():
                for number, value in parts.items():
                    counter.add_metric(
                        [process, *([value] if label else [])], numbers.get(number, 0.0)
                    )
            yield counter
        for name, (number, words) in GAUGES.items():
            gauge = GaugeMetricFamily(PREFIX + name, words, labels=["process"])
            for process, numbers in self._numbers.items():
                gauge.add_metric([process], numbers.get(number, 0.0))
            yield gauge


def exposition(numbers: Mapping[str, Mapping[str, float]]) -> bytes:
    """Return the text that Prometheus reads, for numbers by name by process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(numbers))
    return generate_latest(registry)
