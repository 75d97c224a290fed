"""dask-gateway's backend of nothing: whatever is started runs at once. Runs in dask-gateway's own
process and environment.

Names of workers are its secret until their processes report, so it writes them down for the
benchmark that plays their scheduler.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from dask_gateway_server.backends.local import UnsafeLocalBackend

from benchmarks import probe


class NoopBackend(UnsafeLocalBackend):  # type: ignore[misc]
    """Starts nothing and says that it runs."""

    async def do_setup(self) -> None:
        """Begin to measure the event loop."""
        await super().do_setup()
        self._names = open(os.environ["BENCH_NAMES_FILE"], "a", buffering=1)  # noqa: ASYNC230, SIM115 (once, at start)
        probe.begin(asyncio.get_running_loop(), os.environ["BENCH_STALL_FILE"])

    async def do_start_cluster(self, cluster: Any) -> AsyncIterator[dict[str, int]]:
        yield {"pid": 1}

    async def do_stop_cluster(self, cluster: Any) -> None:
        """Nothing runs."""

    async def do_check_clusters(self, clusters: list[Any]) -> list[bool]:
        return [True] * len(clusters)

    async def do_start_worker(self, worker: Any) -> AsyncIterator[dict[str, int]]:
        self._names.write(f"{worker.cluster.name} {worker.name}\n")
        yield {"pid": 1}

    async def do_stop_worker(self, worker: Any) -> None:
        """Nothing runs."""

    async def do_check_workers(self, workers: list[Any]) -> list[bool]:
        return [True] * len(workers)
