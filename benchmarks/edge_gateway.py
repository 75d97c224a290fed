"""A real gateway with a real cluster: back after its edge is killed, an edge without a server, and
real TLS end to end with Dask."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.edge_parts import BUILD
from benchmarks.edge_proxies import until

USER, PASSWORD = "alice", "wonderland"
RESTARTS, COLD_STARTS, TRANSFERS = 3, 5, 3
TRANSFER_BYTES = 2**30


def measure() -> dict[str, float]:
    """Return the figures that a real gateway gives."""
    directory = pathlib.Path(tempfile.mkdtemp(dir=BUILD))
    server = _serve(directory)
    try:
        address = re.search(r"serves on (\S+) ", server.stdout.readline() if server.stdout else "")
        if address is None:
            raise RuntimeError((directory / "server.log").read_text())
        return _measure(directory, server, address[1])
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        _end_edge(directory)
        shutil.rmtree(directory, ignore_errors=True)


def _serve(directory: pathlib.Path) -> subprocess.Popen[str]:
    from gateway.authenticators.password import hash_password

    config = directory / "daskgateway_config.py"
    config.write_text(
        f"c = get_config()\nc.DaskGateway.state_dir ="
        f" {str(directory / 'state')!r}\nc.DaskGateway.address = '127.0.0.1:0'\n"
        f"c.Proxy.address = '127.0.0.1:0'\nc.LocalBackend.root = {str(directory / 'local')!r}\n"
        f"c.PasswordAuthenticator.users = {{{USER!r}: {hash_password(PASSWORD)!r}}}\n"
    )
    with (directory / "server.log").open("a") as log:
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )


def _measure(
    directory: pathlib.Path, server: subprocess.Popen[str], address: str
) -> dict[str, float]:
    from distributed import Client

    from gateway import Gateway, GatewayCluster

    figures: dict[str, float] = {}
    gateway = Gateway(address, auth=(USER, PASSWORD))
    cluster = GatewayCluster(
        "bench", gateway=gateway, n_workers=1, options={"worker_memory": "6 GiB"}
    )
    with Client(cluster, timeout=30) as client:
        client.wait_for_workers(1, timeout=60)
        figures |= _transfers(directory, cluster, client)
        times = []
        for _ in range(RESTARTS):
            client.submit(lambda: 1, pure=False).result(timeout=30)
            times.append(_restart(directory, client))
        figures["restart_s"] = statistics.median(times)
        server.kill()
        server.wait()
        _end_edge(directory)
        figures["cold_routes_s"] = statistics.median(
            _cold_start(directory, cluster.uid) for _ in range(COLD_STARTS)
        )
        again = _serve(directory)
        try:
            assert again.stdout is not None
            again.stdout.readline()
            cluster.close(timeout=60)
            gateway.wait(f"{USER}/bench", ("STOPPED",), timeout_s=60)
        finally:
            again.send_signal(signal.SIGTERM)
            again.wait(60)
    return figures


def _restart(directory: pathlib.Path, client: Any) -> float:
    """Kill the edge; return the seconds until the client computes again."""
    began = time.monotonic()
    os.kill(json.loads((directory / "state" / "edge.json").read_text())["pid"], signal.SIGKILL)

    def computes() -> bool:
        try:
            return bool(client.submit(lambda: 1, pure=False).result(timeout=5) == 1)
        except Exception:  # the connection broke below it; what Dask raises then differs
            return False

    until(computes, "the client computes again", 30.0)
    return time.monotonic() - began


def _cold_start(directory: pathlib.Path, uid: str) -> float:
    """Start an edge with the server down; return the seconds until a known cluster's scheduler
    answers through it."""
    import ssl

    from benchmarks.edge_parts import free_port

    state, own, port = directory / "state", directory / "cold", free_port()
    own.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(state / "edge" / "routes.json", own)  # what is in there may be another account's
    settings = {
        "address": f"127.0.0.1:{port}",
        "state_dir": str(own),
        "token_file": str(state / "edge.token"),
        "server_address": f"unix:{state}/server.sock",
    }
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def answers() -> bool:
        try:
            with (
                socket.create_connection(("127.0.0.1", port), 1.0) as raw,
                context.wrap_socket(raw, server_hostname=f"{uid}.daskgateway"),
            ):
                return True
        except (OSError, ssl.SSLError):
            return False

    began = time.monotonic()
    with (directory / "edge.log").open("a") as log:
        words = [f"--Proxy.{name}={value}" for name, value in settings.items()]
        edge = subprocess.Popen([sys.executable, "-m", "gateway", "proxy", *words], stderr=log)
    try:
        until(answers, "a known cluster answers through a cold edge", 20.0)
        return time.monotonic() - began
    finally:
        edge.kill()
        edge.wait()


def _transfers(directory: pathlib.Path, cluster: Any, client: Any) -> dict[str, float]:
    """Return the seconds for 1 GiB to a worker and back, by the edge and straight to the scheduler,
    real TLS both."""
    from distributed import Client

    routes = json.loads((directory / "state" / "edge" / "routes.json").read_text())["routes"]
    host, port = next(route[3] for route in routes if route[0] == cluster.uid)
    times: dict[str, list[float]] = {}
    with Client(
        f"tls://{host}:{port}", security=cluster.security, timeout=30, set_as_default=False
    ) as straight:
        for _ in range(TRANSFERS):
            for name, one in (("edge", client), ("direct", straight)):
                for what, seconds in zip(("scatter", "gather"), _there_and_back(one)):
                    times.setdefault(f"tls_{what}_1gib_s_{name}", []).append(seconds)
    return {name: statistics.median(found) for name, found in times.items()}


def _there_and_back(client: Any) -> tuple[float, float]:
    import numpy as np

    block = np.random.default_rng().integers(0, 255, TRANSFER_BYTES, dtype=np.uint8)
    began = time.monotonic()
    future = client.scatter(block, direct=False, hash=False)
    sent = time.monotonic()
    back = client.gather(future, direct=False)
    done = time.monotonic()
    assert back.nbytes == TRANSFER_BYTES
    return sent - began, done - sent


def _end_edge(directory: pathlib.Path) -> None:
    """End the edge that outlived its server."""
    record = directory / "state" / "edge.json"
    if record.exists():
        try:
            os.kill(json.loads(record.read_text())["pid"], signal.SIGKILL)
        except ProcessLookupError:
            pass
