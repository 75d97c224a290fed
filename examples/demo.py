"""The main job, once: start a gateway, ask it for a cluster, compute on it, and show where to go
on.

usage: python examples/demo.py [--once]
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

HERE = pathlib.Path(__file__).resolve().parent


@contextlib.contextmanager
def served(directory: str) -> Iterator[str]:
    """Run a server and an edge, and yield the address users know them by."""
    words = [sys.executable, "-m", "gateway", "serve", "--config", str(HERE / "demo_config.py")]
    environment = os.environ | {"DEMO_DIRECTORY": directory}
    server = subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        assert server.stdout is not None
        found = re.search(r"serves on (\S+)", server.stdout.readline())
        if found is None:
            raise SystemExit(f"the server did not start (exit code {server.wait()})")
        yield found[1]
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(90)


def compute(address: str) -> None:
    """Ask for a cluster with two workers and compute on it."""
    import dask.array as da
    from daskgateway import GatewayCluster

    began = time.perf_counter()
    with GatewayCluster("demo", gateway=address, auth=("demo", "demo"), n_workers=2) as cluster:
        print(f"  cluster {cluster.name} answers after {time.perf_counter() - began:.1f} s")
        with cluster.get_client() as client:
            client.wait_for_workers(2)
            print(f"  two workers are there after {time.perf_counter() - began:.1f} s")
            x = da.random.default_rng(7).random((8000, 8000), chunks=(1000, 1000))
            mean = ((x + x.T) / 2).mean(axis=0).std().compute()
            print(
                f"  the spread of column means of an 8000 x 8000 random matrix, made symmetric:"
                f" {mean:.6f}"
            )
            print(
                f"  computed on {len(client.scheduler_info()['workers'])} workers;"
                f" {time.perf_counter() - began:.1f} s in all"
            )
        print(f"  dashboard (once, within a minute): {cluster.gateway.dashboard_url('demo')}")
        yield_to_user(address)


def yield_to_user(address: str) -> None:
    """Say what to try next, and wait until interrupted; return at once with --once."""
    print("What to try next, in another shell:")
    print(f"  export DASKGATEWAY_ADDRESS={address} DASKGATEWAY_USER=demo DASKGATEWAY_PASSWORD=demo")
    print(f"  {pathlib.Path(sys.executable).parent}/daskgateway clusters scale demo 4")
    print(f"  {pathlib.Path(sys.executable).parent}/daskgateway clusters watch")
    print(
        f"  curl -u demo:demo -H 'content-type: application/json' -d '{{}}'"
        f" {address}/daskgateway.v1.ClusterService/ListClusters"
    )
    if "--once" in sys.argv:
        return
    print("Ctrl-C stops all of it.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="daskgateway-demo-") as directory:
        print("starting server and edge …", flush=True)
        with served(directory) as address:
            print(f"  they serve on {address}", flush=True)
            compute(address)
        print("stopped; nothing is left running.")


if __name__ == "__main__":
    main()
