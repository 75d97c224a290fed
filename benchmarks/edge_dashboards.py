"""Dashboards through the edge and through dask-gateway's proxy: requests a second, for small
answers and for scripts of a mebibyte.

The far end is nginx, which costs little beside either. Ours asks every request for a session and
strips headers, theirs lets anybody in.
"""

from __future__ import annotations

import http.client
import statistics
import subprocess

from benchmarks import edge_proxies, load
from benchmarks.edge_parts import BUILD, UID, Parts, free_port
from benchmarks.edge_proxies import ENDPOINT_CORE, READY_S, Running, pinned, until
from gateway.proxy.http.access import Sessions, session_key
from gateway.wire import SESSION_COOKIE, Ticket

ROUNDS, CONNECTIONS = 5, 16
PATH = f"/clusters/{UID}/"
SIZES = {"small": 4 * 1024, "script": 1024 * 1024}


def measure(found: Parts) -> dict[str, float]:
    """Return requests a second, theirs and ours, and CPU time of the proxy for each, as ratios and
    plain."""
    state = BUILD / "dashboards"
    state.mkdir(mode=0o700, exist_ok=True)
    sessions = Sessions(session_key(state / "session.key"), 3600.0)
    cookie = f"{SESSION_COOKIE}={sessions.text(sessions.begin(Ticket(UID, 'a', 0)))}"
    far_end, port = _far_end(found)
    proxies: list[Running] = []
    runs: dict[tuple[str, str], list[load.Run]] = {}
    try:
        for start in (edge_proxies.go_http, edge_proxies.ours_http):
            proxies.append(start(found, port))
            until(lambda: _answers(proxies[-1].port, cookie), f"{proxies[-1].name} serves", READY_S)
        for number in range(ROUNDS):
            for what, size in SIZES.items():
                for proxy in proxies if number % 2 == 0 else reversed(proxies):
                    words = [
                        "--h1",
                        "-H",
                        f"cookie: {cookie}",
                        f"http://127.0.0.1:{proxy.port}{PATH}{what}",
                    ]
                    call = load.Call(words, proxy.pid, CONNECTIONS, size, core=ENDPOINT_CORE)
                    runs.setdefault((what, proxy.name), []).append(load.run(call))
    finally:
        for proxy in proxies:
            proxy.stop()
        far_end.kill()
        far_end.wait()
    return _figures(runs)


def _figures(runs: dict[tuple[str, str], list[load.Run]]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for what in SIZES:
        ours, theirs = runs[what, "ours"], runs[what, "go"]
        figures[f"dashboard_{what}_per_s"] = statistics.median(run.rate for run in ours)
        figures[f"dashboard_{what}_per_s_go"] = statistics.median(run.rate for run in theirs)
        figures[f"dashboard_{what}_vs_go"] = statistics.median(
            a.rate / b.rate for a, b in zip(ours, theirs)
        )
        figures[f"dashboard_{what}_cpu_us"] = statistics.median(run.cpu_us for run in ours)
        figures[f"dashboard_{what}_cpu_us_go"] = statistics.median(run.cpu_us for run in theirs)
    return figures


def _far_end(found: Parts) -> tuple[subprocess.Popen[bytes], int]:
    """Start nginx over files; return it and its port."""
    port, root, config = (
        free_port(),
        BUILD / "dashboards" / "files",
        BUILD / "dashboards" / "nginx.conf",
    )
    # the Go proxy takes the cluster's path off, or leaves it, as its route says
    for base in (root, root / PATH.strip("/")):
        base.mkdir(parents=True, exist_ok=True)
        for what, size in SIZES.items():
            (base / what).write_bytes(b"x" * size)
    config.write_text(
        f"worker_processes 1;\ndaemon off;\nmaster_process off;\nuser root;\npid"
        f" {config}.pid;\nerror_log {config}.err error;\n"
        "events { worker_connections 1000; }\nhttp {\n  access_log off; sendfile on;"
        " keepalive_requests 100000000;\n"
        f"  server {{ listen 127.0.0.1:{port}; root {root}; }}\n}}\n"
    )
    process = subprocess.Popen(pinned(ENDPOINT_CORE, found.nginx, "-c", str(config)))
    until(lambda: _answers(port, ""), "nginx serves", READY_S)
    return process, port


def _answers(port: int, cookie: str) -> bool:
    talk = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        talk.request("GET", f"{PATH}small", headers={"Cookie": cookie})
        return talk.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        talk.close()
