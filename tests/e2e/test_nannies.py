"""Workers as Dask itself starts them: memory is given back, limits of memory hold, plug-ins of
nannies work; and where there are no nannies, that is said."""

from __future__ import annotations

import gc
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import Client, KilledWorker
from distributed.diagnostics.plugin import Environ

from gateway import Gateway, GatewayCluster
from gateway.server.boot.cluster_config import ClusterConfig
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore"),  # Dask's own, of workers that end
]
OPTIONS = """
from gateway.options import Bool
c.ClusterConfig.options = [Bool("worker_nanny", ClusterConfig_default)]
c.ClusterConfig.worker_memory = "512 MiB"
"""
MIB = 2**20


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway whose users may choose whether workers have nannies."""
    default = ClusterConfig().worker_nanny
    settings = OPTIONS.replace("ClusterConfig_default", repr(default)).splitlines()
    gateway = GatewayProcess(tmp_path_factory.mktemp("gateway"), *settings)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.end()


def cluster_of(served: GatewayProcess, **options: Any) -> GatewayCluster:
    """Return a cluster of one worker."""
    gateway = Gateway(served.address, auth=(USER, PASSWORD))
    return GatewayCluster(gateway=gateway, n_workers=1, **options)


def resident_mib() -> float:
    """Return what the process that runs this holds of memory."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def fill_and_empty() -> tuple[float, float, float]:
    """Return what a worker holds in MiB before, with, and after 150 MiB in pieces; a larger one was
    there before, after which glibc by itself keeps what is freed (mallopt(3), M_TRIM_THRESHOLD)."""
    large = b"x" * (30 * MIB)
    del large
    before = resident_mib()
    held = [bytes([number % 255]) * 300_000 for number in range(150 * MIB // 300_000)]
    full = resident_mib()
    held.clear()
    gc.collect()
    return before, full, resident_mib()


def grow() -> int:
    """Outgrow any worker of this file."""
    held: list[bytearray] = []
    while len(held) < 4096:
        held.append(bytearray(os.urandom(MIB)))
    return len(held)


@pytest.mark.parametrize("options", [{}, {"worker_nanny": True}, {"worker_nanny": False}])
def test_what_a_worker_needs_no_more_is_given_back(
    served: GatewayProcess, options: dict[str, bool]
) -> None:
    with cluster_of(served, **options) as cluster, Client(cluster) as client:
        before, full, after = client.submit(fill_and_empty).result(timeout=120)
        assert full - before > 120
        assert after - before < 30, (before, full, after)  # 64 where it is kept
        threads = client.submit(os.getenv, "OMP_NUM_THREADS").result(timeout=60)
        assert threads == "1"


def test_a_limit_of_memory_holds_and_plug_ins_of_nannies_work_by_default(
    served: GatewayProcess,
) -> None:
    with cluster_of(served) as cluster, Client(cluster) as client:
        client.wait_for_workers(1, timeout=120)
        client.register_plugin(Environ({"SAID_BY_A_PLUGIN": "yes"}))
        assert client.submit(os.getenv, "SAID_BY_A_PLUGIN").result(timeout=120) == "yes"
        (before,) = client.run(os.getpid).values()
        with pytest.raises(KilledWorker):
            client.submit(grow, retries=0).result(timeout=300)
        client.wait_for_workers(1, timeout=120)  # the nanny has started it again
        assert client.submit(os.getpid).result(timeout=120) != before


def test_a_plug_in_of_nannies_is_refused_where_there_are_none(served: GatewayProcess) -> None:
    with cluster_of(served, worker_nanny=False) as cluster, Client(cluster) as client:
        with pytest.raises(RuntimeError, match=r"run without a nanny.*worker_nanny=True"):
            client.register_plugin(Environ({"SAID_BY_A_PLUGIN": "yes"}))
        client.wait_for_workers(1, timeout=120)
        with pytest.raises(RuntimeError, match=r"run without a nanny.*worker_nanny=True"):
            client.register_plugin(Environ({"SAID_BY_A_PLUGIN": "yes"}))
