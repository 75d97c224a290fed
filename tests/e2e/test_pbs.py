"""The main story on PBS, from end to end, over the stand-in: jobs are processes, and a client
computes through the edge."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Callable, Iterator

import pytest
from distributed import Client

from gateway import Gateway, GatewayCluster
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.parts.pbs_cases import case
from tests.parts.pbs_replay import PbsReplay
from tests.parts.pbs_state import ENDED, Job, Part
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
GENERAL = """
c.DaskGateway.backends = ['pbs', 'local']
c.ClusterConfig.max_workers = 20
c.ClusterConfig.scheduler_host = '127.0.0.1'
c.PbsBackend.local = True
c.ClusterConfig.worker_host = '127.0.0.1'
from gateway.options import Select
c.ClusterConfig.options = [Select('queue', ('workq', 'long'), 'workq')]
"""


class PbsGateway(GatewayProcess):
    """A gateway whose machine room is a stand-in for PBS."""

    def __init__(self, directory: pathlib.Path, replay: PbsReplay) -> None:
        settings = {
            "root": str(directory / "room"),
            "commands_directory": str(replay.bin),
            "observe_interval_s": 0.5,
            "absent_grace_s": 30,
        }
        super().__init__(
            directory,
            GENERAL
            + "".join(f"c.PbsBackend.{name} = {value!r}\n" for name, value in settings.items()),
        )
        self.replay = replay

    def living(self) -> list[tuple[Job, Part]]:
        """Return the jobs and parts that have not ended."""
        with self.replay.machine.lock:
            return [
                (job, part) for job, part in self.replay.machine.parts() if part.state not in ENDED
            ]

    def wait_for(self, holds: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Wait until something holds of the jobs."""
        self.replay.machine.wait_for(holds, timeout_s)


@pytest.fixture
def served(tmp_path: pathlib.Path) -> Iterator[PbsGateway]:
    """A gateway on a stand-in with 12 processors."""
    replay = PbsReplay(tmp_path / "pbs", cpus=12)
    gateway = PbsGateway(tmp_path, replay)
    gateway.start()
    yield gateway
    gateway.stop()
    replay.close()


def running(cluster: GatewayCluster) -> int:
    """Return how many workers the server shows as running."""
    return int(cluster.describe().status.worker_groups["default"].running)


def reasons(cluster: GatewayCluster) -> str:
    """Return what a user is told of the cluster's workers."""
    return " ".join(condition.message for condition in cluster.describe().status.conditions)


def test_the_main_story(served: PbsGateway) -> None:
    machine = served.replay.machine
    gateway = Gateway(served.address, auth=(USER, PASSWORD))
    cluster = GatewayCluster("etl", gateway=gateway, queue="long")
    with Client(cluster) as client:
        cluster.scale(8)
        client.wait_for_workers(8, timeout=90)
        arrays = [call for call in served.replay.commands("qsub") if "-J" in call.argv]
        assert [call.argv[call.argv.index("-J") + 1] for call in arrays] == ["0-7"]
        # as the user chose among what the administrator offers
        assert {job.queue for job, _ in served.living()} == {"long"}
        assert client.submit(sum, range(101)).result(timeout=30) == 5050
        cluster.scale(3)
        served.wait_for(lambda: len(served.living()) == 4)
        until(lambda: running(cluster) == 3, "three workers are left")
        cluster.adapt(1, 3)
        assert sum(client.gather(client.map(lambda x: x + 1, range(10)), errors="raise")) == 55
        cluster.scale(3)
        client.wait_for_workers(3, timeout=60)

        job, part = next((job, part) for job, part in served.living() if job.array)
        with machine.lock:
            machine.delete(job, [part], "alice", False)  # somebody's qdel by hand
        served.wait_for(lambda: part.state in ENDED)
        until(
            lambda: running(cluster) == 3 and (job, part) not in served.living(),
            "the worker is replaced",
        )

        job, part = next((job, part) for job, part in served.living() if job.array)
        machine.requeue(job, part)
        served.wait_for(lambda: part.runs == 2 and part.state == "R")
        until(lambda: running(cluster) == 3, "the requeued worker has come back")
        assert client.submit(sum, [20, 22]).result(timeout=60) == 42
    uid = cluster.uid
    cluster.close()
    assert (
        gateway.wait(f"{USER}/{uid}", ("STOPPED",), timeout_s=60).status.reason == "STOP_REQUESTED"
    )
    assert served.living() == []
    assert not served.replay.crashed
    logs = gateway.get_logs(f"{USER}/{uid}")
    assert "Scheduler at:" in logs["scheduler"]
    assert "default-0" in logs


def test_a_scheduler_that_is_killed_fails_its_cluster_with_the_reason_and_its_logs_stay(
    served: PbsGateway,
) -> None:
    gateway = Gateway(served.address, auth=(USER, PASSWORD))
    cluster = GatewayCluster("doomed", gateway=gateway, shutdown_on_close=False)
    cluster.scale(2)
    served.wait_for(lambda: len([part for _, part in served.living() if part.state == "R"]) == 3)
    job, part = next((job, part) for job, part in served.living() if not job.array)
    served.replay.machine.end(job, part, -27, " and exceeded resource mem")
    failed = gateway.wait("doomed", ("FAILED",), timeout_s=60)
    assert failed.status.reason == "SCHEDULER_EXITED"
    assert "killed for memory" in failed.status.message
    served.wait_for(lambda: served.living() == [])
    assert "Scheduler at:" in gateway.get_logs(f"{USER}/{cluster.uid}")["scheduler"]
    cluster.close()


def test_a_full_queue_is_waited_for_and_the_user_sees_why(served: PbsGateway) -> None:
    gateway = Gateway(served.address, auth=(USER, PASSWORD))
    served.replay.machine.cpus = 2
    cluster = GatewayCluster("waits", gateway=gateway)
    cluster.scale(3)
    until(
        lambda: (
            "Not enough free nodes available" in reasons(cluster)
            or "waiting in queue workq" in reasons(cluster)
        ),
        "the reason is shown",
    )
    until(lambda: "position 1 in the queue" in reasons(cluster), "the place is shown")
    with served.replay.machine.lock:
        served.replay.machine.cpus = 12
        served.replay.machine.schedule()
    with Client(cluster) as client:
        client.wait_for_workers(3, timeout=90)
    cluster.close()


def test_killed_between_submission_and_record_nothing_is_doubled_and_nothing_left(
    served: PbsGateway,
) -> None:
    gateway = Gateway(served.address, auth=(USER, PASSWORD))
    served.replay.losing.add("qsub")  # it submits, and its answer never comes
    asked = threading.Thread(target=lambda: gateway.submit("crashed", n_workers=2))
    asked.start()
    asked.join(30)
    served.wait_for(lambda: len(served.living()) == 1)
    served.kill()
    served.replay.losing.clear()
    served.start()
    gateway = Gateway(served.address, auth=(USER, PASSWORD))
    gateway.wait("crashed", ("ACTIVE",), timeout_s=90)
    cluster = gateway.connect("crashed")
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=90)
        assert client.submit(sum, [1, 2]).result(timeout=30) == 3
    assert len([job for job, _ in served.living() if not job.array]) == 1
    assert len([call for call in served.replay.commands("qsub") if "-J" not in call.argv]) == 1
    served.kill()
    served.start()
    Gateway(served.address, auth=(USER, PASSWORD)).stop_cluster("crashed")
    served.wait_for(lambda: served.living() == [])


def test_a_server_that_is_down_or_lies_kills_nobodys_cluster(served: PbsGateway) -> None:
    gateway = Gateway(served.address, auth=(USER, PASSWORD))
    cluster = GatewayCluster("lives", gateway=gateway)
    with Client(cluster) as client:
        cluster.scale(2)
        client.wait_for_workers(2, timeout=90)
        served.replay.crashed = True
        looks = len(served.replay.calls)
        until(lambda: len(served.replay.calls) >= looks + 3, "the server was asked in vain")
        served.replay.restart()
        served.replay.foreign = [
            block
            for name in ("371-json-name-inf", "379-json-account-backslash")
            for block in case(name).blocks
        ]
        served.replay.canned["qstat"] = [
            (0, case("651-qstat-no-jobs").out, ""),
            (0, "garbage", ""),
            (139, "", ""),
        ]
        until(lambda: not served.replay.canned["qstat"], "the wrong answers were taken")
        looks = len(served.replay.calls)
        until(lambda: len(served.replay.calls) >= looks + 3, "it was asked again")
        gateway.wait("lives", ("ACTIVE",), timeout_s=5)
        assert running(cluster) == 2
        assert client.submit(sum, [1, 2]).result(timeout=30) == 3
    cluster.close()
    served.wait_for(lambda: served.living() == [])
