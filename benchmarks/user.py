"""A user in a process of their own, of either gateway: asks for a cluster and computes on it, and
prints how long that took.

Run by path, in the environment of the gateway it is a user of; imports nothing of the benchmarks.
Each line on standard input is one cluster, the answer is one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def gateway_of(kind: str, address: str, proxy: str, user: str, password: str) -> Any:
    """Return a client of either kind."""
    if kind == "ours":
        from gateway import Gateway

        return Gateway(address, (user, password))
    from dask_gateway import BasicAuth
    from dask_gateway import Gateway as TheirGateway

    return TheirGateway(address, proxy_address=proxy, auth=BasicAuth(user, password))


def add(x: int) -> int:
    """The task."""
    return x + 1


def one_cluster(gateway: Any, kept: list[Any]) -> dict[str, float]:
    """Return the seconds until new_cluster() returned, until a client was connected, and until the
    first result."""
    began = time.perf_counter()
    cluster = gateway.new_cluster()
    new_cluster_s = time.perf_counter() - began
    # dask-gateway's client hangs for ever if a Gateway is collected on its own event loop
    kept.append(cluster)
    cluster.scale(1)
    client = cluster.get_client()
    client_s = time.perf_counter() - began
    assert client.submit(add, 1).result(timeout=120) == 2
    first_result_s = time.perf_counter() - began
    client.close()
    cluster.shutdown()
    return {"new_cluster_s": new_cluster_s, "client_s": client_s, "first_result_s": first_result_s}


def main() -> None:
    """Serve one line after the other."""
    gateway = gateway_of(*sys.argv[1:6])
    gateway.list_clusters()
    print("ready", flush=True)
    kept: list[Any] = [gateway]
    for _ in sys.stdin:
        print(json.dumps(one_cluster(gateway, kept)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
