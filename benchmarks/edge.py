"""The edge beside dask-gateway's Go proxy, HAProxy, nginx and no proxy: what relaying costs, what
abuse does. `make bench-edge`.

Everything in one run: every proxy runs all the time on one core, endpoints on the other, and each
round puts each load on each in turn. Bytes are raw behind a genuine ClientHello, so that endpoints
cost little. Figures are medians over rounds, of ratios within a round. `ours-plain` is the edge
with the system's congestion control left as it is also for peers on this machine.
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import resource
import statistics
import sys
from collections.abc import Callable
from typing import Any

from benchmarks import edge_dashboards, edge_gateway, edge_measure, edge_proxies
from benchmarks.edge_parts import Parts, parts
from benchmarks.edge_proxies import Running

ROUNDS = int(os.environ.get("ROUNDS", "7"))
CASES = [("up", 1), ("up", 8), ("down", 1), ("down", 8)]
GIB_EACH = 1
# the Go proxy has 4 descriptors for each and ends when it has no more
IDLE, IDLE_PEER = 9_000, 4_000
SLOW, SLOW_S = 5_000, 4.0

Samples = dict[tuple[str, str], list[float]]  # what was measured, on which proxy → round by round


def main() -> int:
    """Run it all; the last line is the figures as JSON."""
    if (os.cpu_count() or 1) < 2:
        sys.exit("two cores are needed: one for the proxies, one for their endpoints")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(machine())
    found = parts()
    far_end, port = edge_proxies.start_far_end(found)
    running: list[Running] = [edge_proxies.direct(found, port)]
    samples: Samples = {}
    try:
        for start in (edge_proxies.go, edge_proxies.haproxy, edge_proxies.nginx, edge_proxies.ours):
            running.append(start(found, port))
        running.append(edge_proxies.ours(found, port, "ours-plain", "--Proxy.loopback_congestion="))
        for number in range(ROUNDS):
            print(f"round {number + 1} of {ROUNDS}", flush=True)
            _round(found, running, far_end.pid, samples)
        figures = _abuse(found, running)
    finally:
        for proxy in running:
            proxy.stop()
        far_end.kill()
        far_end.wait()
    _show(samples)
    figures |= edge_dashboards.measure(found)
    figures |= edge_gateway.measure()
    figures |= _ratios(samples)
    for name, value in figures.items():
        print(f"{name:32} {value:.3f}")
    print(json.dumps({f"edge.{name}": round(value, 4) for name, value in figures.items()}))
    return 0


def machine() -> str:
    """Return what this runs on."""
    congestion = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    return (
        f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python"
        f" {platform.python_version()}, TCP congestion control {congestion}"
    )


def _round(found: Parts, running: list[Running], far_end: int, samples: Samples) -> None:
    def note(proxy: Running, **values: float) -> None:
        for what, value in values.items():
            samples.setdefault((what, proxy.name), []).append(value)

    for way, streams in CASES:
        for proxy in running:
            speed, cpu = edge_measure.bulk(found, proxy, far_end, way, streams, GIB_EACH)
            note(proxy, **{f"{way}{streams} MB/s": speed, f"{way}{streams} CPU s/GiB": cpu})
    for proxy in running:
        if proxy.name != "ours-plain":
            each, cpu = edge_measure.rate(found, proxy, far_end, "connections", 32, 1.0)
            note(proxy, **{"connections/s": each, "CPU us/connection": cpu})
    for proxy in running:
        if proxy.name != "ours-plain":
            each, cpu = edge_measure.rate(found, proxy, far_end, "pingpong", 64, 1.0)
            note(proxy, **{"pingpong64/s": each, "CPU us/round trip": cpu})


def _abuse(found: Parts, running: list[Running]) -> dict[str, float]:
    by_name = {proxy.name: proxy for proxy in running}
    kib, fds = edge_measure.idle(found, by_name["ours"], IDLE)
    peer_kib, peer_fds = edge_measure.idle(found, by_name["go"], IDLE_PEER)
    growth, closed = edge_measure.slow_hellos(found, by_name["ours"], SLOW, SLOW_S)
    return {
        "idle_kib": kib,
        "idle_fds": fds,
        "idle_kib_go": peer_kib,
        "idle_fds_go": peer_fds,
        "slow_hello_p99_growth_ms": growth,
        "slow_hello_closed_s": closed,
    }


def _ratios(samples: Samples) -> dict[str, float]:
    def ratio(what: str, theirs: str, ours: str = "ours") -> float:
        return statistics.median(a / b for a, b in zip(samples[what, ours], samples[what, theirs]))

    def worst(
        pick: Callable[..., float],
        cases: list[tuple[str, int]],
        unit: str,
        theirs: str,
        ours: str = "ours",
    ) -> float:
        return pick(ratio(f"{way}{streams} {unit}", theirs, ours) for way, streams in cases)

    up, down = CASES[:2], CASES[2:]
    figures: dict[str, Any] = {}
    for suffix, ours in (("", "ours"), ("_plain", "ours-plain")):
        figures |= {
            f"cpu_per_gib_up_vs_go{suffix}": worst(max, up, "CPU s/GiB", "go", ours),
            f"cpu_per_gib_down_vs_go{suffix}": worst(max, down, "CPU s/GiB", "go", ours),
            f"cpu_per_gib_vs_haproxy{suffix}": worst(max, CASES, "CPU s/GiB", "haproxy", ours),
            f"throughput_vs_go{suffix}": worst(min, CASES, "MB/s", "go", ours),
        }
    return figures | {
        "connections_vs_go": ratio("connections/s", "go"),
        "connections_cpu_vs_go": ratio("CPU us/connection", "go"),
        "pingpong64_vs_go": ratio("pingpong64/s", "go"),
    }


def _show(samples: Samples) -> None:
    print(f"{'':20} {'':11} {'median':>10} {'min':>10} {'max':>10}")
    for (what, whose), values in sorted(samples.items()):
        print(
            f"{what:20} {whose:11} "
            + " ".join(
                f"{value:10.4g}" for value in (statistics.median(values), min(values), max(values))
            )
        )


if __name__ == "__main__":
    sys.exit(main())
