"""A scheduler that hangs is told as silent, its workers are not replaced meanwhile, and it goes on
where it was."""

from __future__ import annotations

import os
import pathlib
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from distributed import Client

from gateway import Gateway, GatewayCluster
from gateway.backends.local import proc
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.waiting import until

HANGS_S = 30.0  # longer than what is taken for silence


@pytest.fixture
def gateway(tmp_path: pathlib.Path) -> Iterator[GatewayProcess]:
    """A gateway that serves."""
    made = GatewayProcess(tmp_path)
    made.start()
    yield made
    assert made.stop() == 0
    for pid in made.processes():
        os.kill(pid, signal.SIGKILL)


def pids(gateway: GatewayProcess, role: str) -> list[int]:
    """Return the processes of a role."""
    found = proc.marked({"DASKGATEWAY_ROOT": str(gateway.local)})
    return sorted(
        process.pid
        for process, environment in found
        if environment.get("DASKGATEWAY_ROLE") == role and os.getsid(process.pid) == process.pid
    )


def condition(client: Gateway, name: str) -> str:
    """Return why the scheduler is, or is not, told as reachable."""
    found = client.get_cluster(name).status.conditions
    return next(one.reason for one in found if one.type == "SchedulerReachable")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", ["suspended", "held up"])
def test_a_scheduler_that_hangs(gateway: GatewayProcess, how: str) -> None:
    client = Gateway(gateway.address, auth=(USER, PASSWORD))
    with (
        GatewayCluster(gateway=client, name="etl", n_workers=2) as cluster,
        Client(cluster) as dask,
    ):
        cluster.wait_for_workers(2)
        assert dask.submit(sum, [1, 2]).result(timeout=40) == 3
        (scheduler,), workers = pids(gateway, "scheduler"), pids(gateway, "worker")
        if how == "suspended":
            os.kill(scheduler, signal.SIGSTOP)
        else:
            # Python's lock is free meanwhile: threads of the scheduler's process go on, and its
            # connection stays open.
            holding = threading.Thread(
                target=lambda: dask.run_on_scheduler(lambda: time.sleep(HANGS_S)), daemon=True
            )
            holding.start()
        os.kill(workers[0], signal.SIGKILL)
        try:
            until(lambda: condition(client, "etl") == "AGENT_SILENT", "the silence", 28)
            assert "its connection is open" in client.get_cluster("etl").status.message
            assert pids(gateway, "worker") == workers[1:]
        finally:
            os.kill(scheduler, signal.SIGCONT)
        until(lambda: condition(client, "etl") == "REPORTING", "that it is heard again", 60)
        until(lambda: len(pids(gateway, "worker")) == 2, "the replacement")
        cluster.wait_for_workers(2)
        assert dask.submit(sum, [3, 4]).result(timeout=40) == 7
        reasons = [event.reason for event in client.events("etl")]
        assert {"AGENT_SILENT", "AGENT_HEARD"} <= set(reasons)
