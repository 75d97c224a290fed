"""How long it takes from a worker's joining its scheduler until GetCluster shows it: a real local
cluster, one clock.

The scheduler itself notes when a worker joins, by a plugin of the benchmark's client; beside it
GetCluster is asked again and again.
"""

from __future__ import annotations

import pathlib
import time
from typing import Any

import dask.config

from benchmarks.figures import Samples
from benchmarks.ours import PASSWORD, USER, OurGateway

POLL_S = 0.002
LIMIT_S = 60.0
NAME = "worker visible, s"


def measure_visible(samples: Samples, directory: pathlib.Path, rounds: int) -> None:
    """Measure once for each of some workers that join one cluster one after the other."""
    from gateway import Gateway

    served = OurGateway(directory, noop=False)
    served.start()
    try:
        dask.config.set({"distributed.comm.timeouts.connect": "30s"})
        gateway = Gateway(served.address, (USER, PASSWORD))
        with gateway.new_cluster() as cluster, cluster.get_client() as client:
            client.run_on_scheduler(_note_joins)
            for count in range(1, rounds + 1):
                cluster.scale(count)
                seen_at = _seen(gateway, cluster.cluster_id, count)
                joined_at = client.run_on_scheduler(_joins)[count - 1]
                samples.add(NAME, "ours", seen_at - joined_at)
    finally:
        served.stop()


def _seen(gateway: Any, name: str, count: int) -> float:
    """Return when GetCluster first showed so many workers."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        cluster = gateway.get_cluster(name)
        if cluster.status.worker_groups["default"].running >= count:
            return time.time()
        time.sleep(POLL_S)
    raise TimeoutError(f"worker {count} is not shown after {LIMIT_S:g} s")


def _note_joins(dask_scheduler: Any = None) -> None:
    """Runs in the scheduler: note the instant of each worker's joining from now on."""
    from distributed.diagnostics.plugin import SchedulerPlugin

    class Joins(SchedulerPlugin):
        def add_worker(self, scheduler: Any, worker: str) -> None:
            scheduler.benchmark_joins.append(time.time())

    dask_scheduler.benchmark_joins = []
    dask_scheduler.add_plugin(Joins(), name="benchmark-joins")


def _joins(dask_scheduler: Any = None) -> list[float]:
    """Runs in the scheduler: return those instants."""
    noted: list[float] = dask_scheduler.benchmark_joins
    return noted
