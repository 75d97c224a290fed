"""The main job from end to end on a real Slurm: jobs really run schedulers and workers, and clients
compute through the edge."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import Client, get_worker

from gateway import ClusterState, Gateway, GatewayCluster, GatewayWarning, WatchEvent
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.parts.slurm import CPUS, NODES, Slurm, running
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LONG_S = 180  # a machine that does much else starts a program in a minute
SETTINGS = """
c.DaskGateway.backends = ['slurm', 'local']
c.SlurmBackend.root = {root!r}
c.SlurmBackend.commands_directory = {commands!r}
c.SlurmBackend.observe_interval_s = 0.5
c.SlurmBackend.command_timeout_s = 20
c.ClusterConfig.scheduler_host = '127.0.0.1'
c.SlurmBackend.local = True
c.ClusterConfig.worker_host = '127.0.0.1'
c.ClusterConfig.worker_memory = '500 MiB'
c.ClusterConfig.max_workers = 40
from gateway.options import Integer, Mapped, Select
c.ClusterConfig.options = [
    Select('partition', ('p', 'down'), 'p'),
    Integer('time_limit', 600, minimum=1, maximum=6000),
    Integer('worker_gpus', 0, minimum=0, maximum=4, per_group=True),
    Mapped('worker_resources', structured=True, per_group=True),
]
c.ClusterConfig.max_gpus = 4
c.SlurmBackend.gpu_name = 'gpu:a100'
"""
# A command that does its work and is slow to say so, while a file says it should be.
SLOW = '#!/bin/sh\n{command} "$@"; code=$?\n[ -e {switch} ] && sleep 60\nexit $code\n'


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """One Slurm for the module; this process's commands find it."""
    with pytest.MonkeyPatch.context() as patch, running() as made:
        patch.setenv("SLURM_CONF", str(made.conf))
        yield made


@pytest.fixture(scope="module")
def slow(slurm: Slurm) -> pathlib.Path:
    """While this file exists, sbatch is slow to answer."""
    (slurm.directory / "commands").mkdir()
    for name in ("sbatch", "squeue", "scancel", "sacct"):
        command = slurm.directory / "commands" / name
        switch = slurm.directory / "slow" if name == "sbatch" else "/nonexistent"
        command.write_text(SLOW.format(command=shutil.which(name), switch=switch))
        command.chmod(0o755)
    return slurm.directory / "slow"


@pytest.fixture(scope="module")
def served(
    slurm: Slurm, slow: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """A gateway that serves clusters on Slurm."""
    more = SETTINGS.format(
        root=str(slurm.directory / "gateway"), commands=str(slow.parent / "commands")
    )
    gateway = GatewayProcess(tmp_path_factory.mktemp("gateway"), *more.splitlines())
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.end()


@pytest.fixture
def user(served: GatewayProcess, slurm: Slurm) -> Iterator[Gateway]:
    """A user of the gateway, whose clusters end with the test: afterwards no job is left."""
    yield Gateway(served.address, auth=(USER, PASSWORD))
    served.end_clusters(timeout_s=LONG_S)
    slurm.command("scancel", "--name=blocker", check=False)
    until(lambda: not slurm.jobs("PENDING", "RUNNING"), "no job is left")


def elements(slurm: Slurm, uid: str, *states: str) -> list[str]:
    """Return the ids of a cluster's workers' jobs, one for an element."""
    return [line.split()[0] for line in slurm.jobs(*states) if f"-{uid}-w-" in line]


def block(slurm: Slurm) -> None:
    """Take every CPU, and let another job wait for them."""
    words = [
        "sbatch",
        "--parsable",
        "--job-name=blocker",
        "--output=/dev/null",
        "--chdir=/",
        "--mem=10",
        f"--cpus-per-task={CPUS}",
    ]
    slurm.command(*words, f"--array=1-{NODES}", "--wrap", "sleep 600")
    until(
        lambda: sum("blocker" in line for line in slurm.jobs("RUNNING")) == NODES,
        "every node is taken",
    )
    slurm.command(*words, "--priority=4000", "--wrap", "sleep 600")


def test_the_main_job_on_slurm(served: GatewayProcess, slurm: Slurm, user: Gateway) -> None:
    cluster = GatewayCluster("etl", gateway=user)
    uid = cluster.uid
    with Client(cluster) as client:
        cluster.scale(8)
        client.wait_for_workers(8, timeout=LONG_S)
        ids = elements(slurm, uid)
        assert len(ids) == 8
        assert len({one.partition("_")[0] for one in ids}) == 1  # one array
        assert sum(client.gather(client.map(lambda x: x + 1, range(100)))) == 5050
        cluster.scale(3)
        until(lambda: len(elements(slurm, uid)) == 3, "three workers are left")
        assert client.submit(sum, range(11)).result(timeout=LONG_S) == 55
        cluster.adapt(2, 4)
        busy = client.map(lambda x: time.sleep(0.2) or x, range(600))
        until(lambda: len(elements(slurm, uid)) == 4, "it grows with its load")
        client.cancel(busy)
        cluster.scale(2)
        until(lambda: len(elements(slurm, uid)) == 2, "two workers are left")
        client.wait_for_workers(2, timeout=LONG_S)
        victim, survivor = elements(slurm, uid)
        slurm.command("scancel", victim)
        until(
            lambda: (
                victim not in elements(slurm, uid) and len(elements(slurm, uid, "RUNNING")) == 2
            ),
            "a killed worker is replaced",
        )
        slurm.command("scontrol", "requeue", survivor)
        until(lambda: elements(slurm, uid, "PENDING") == [survivor], "it is back in the queue")
        until(
            lambda: "1 worker waits in the queue" in show(served, "etl"),
            "its user sees that it waits",
        )
        assert len(elements(slurm, uid)) == 2  # it is waited for, not replaced
        # a slurmd launches nothing of a job within the second in which it killed it ("already
        # killed, do not launch"): the job would fail
        slurm.command("scontrol", "update", f"JobId={survivor}", "StartTime=now+5")
        client.wait_for_workers(2, timeout=LONG_S)
        assert survivor in elements(slurm, uid, "RUNNING"), show(served, "etl")
        assert client.submit(sum, [20, 22]).result(timeout=LONG_S) == 42
    (scheduler,) = [line.split()[0] for line in slurm.jobs() if f"-{uid}-s" in line]
    slurm.command("scancel", scheduler)
    failed = user.wait(f"{USER}/{uid}", ("FAILED",), timeout_s=LONG_S)
    assert failed.status.reason == "SCHEDULER_EXITED"
    assert "its job was cancelled (CANCELLED)" in failed.status.message
    until(lambda: not slurm.jobs("PENDING", "RUNNING"), "nothing is left")
    logs = user.get_logs(f"{USER}/{uid}")
    assert "Scheduler at:" in logs["scheduler"]
    assert "CANCELLED" in logs["scheduler"]
    assert "default-7" in logs
    cluster.close()


def show(served: GatewayProcess, name: str) -> str:
    """Return what the command shows a user of a cluster."""
    words = [sys.executable, "-m", "gateway", "clusters", "show", name]
    return subprocess.run(
        words, env=served.environment(), capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_a_full_queue_is_waited_for_with_reason_and_position_in_sight(
    served: GatewayProcess, slurm: Slurm, user: Gateway
) -> None:
    block(slurm)
    made = user.submit("patient", n_workers=1)
    seen: list[str] = []
    ready = threading.Event()

    def follow() -> None:
        for told in Gateway(served.address, auth=(USER, PASSWORD)).watch(clusters=["patient"]):
            if isinstance(told, WatchEvent):
                seen.append(told.cluster.status.message)
                if told.cluster.state is ClusterState.ACTIVE:
                    ready.set()
                    return

    threading.Thread(target=follow, daemon=True).start()
    until(lambda: "position" in show(served, "patient"), "the command shows the position")
    shown = " ".join(show(served, "patient").split())
    assert "CREATING" in shown
    assert "the scheduler waits in the queue: " in shown
    assert "position 2 in the queue" in shown
    program = (
        "from gateway import GatewayCluster\n"
        "cluster = GatewayCluster.from_name('patient', quiet=False, start_timeout='180 s')\n"
        "print('ready', flush=True)\n"
        "cluster.close()\n"
    )
    waiting = subprocess.Popen(
        [sys.executable, "-u", "-c", program],
        env=served.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stderr is not None
    assert "position 2 in the queue" in waiting.stderr.readline()
    slurm.command("scancel", "--name=blocker")
    out, err = waiting.communicate(timeout=LONG_S)
    assert out.endswith("ready\n"), err
    assert ready.wait(LONG_S)
    assert any("position 2 in the queue" in message for message in seen)
    assert user.get_cluster("patient").uid == made.uid


def test_a_server_killed_between_submission_and_record_finds_its_jobs_again(
    served: GatewayProcess, slurm: Slurm, slow: pathlib.Path, user: Gateway
) -> None:
    def submitted(part: str) -> list[str]:
        return [line.split()[0] for line in slurm.jobs("all") if part in line]

    slow.touch()
    made = user.submit("adopted", n_workers=3)
    until(lambda: len(submitted(f"-{made.uid}-s")) == 1, "the scheduler is submitted")
    served.kill()
    slow.unlink()
    served.start()
    again = Gateway(served.address, auth=(USER, PASSWORD))
    slow.touch()
    assert again.wait("adopted", timeout_s=LONG_S).uid == made.uid
    until(lambda: len(submitted(f"-{made.uid}-w-")) == 3, "the workers are submitted")
    served.kill()
    slow.unlink()
    served.start()
    again = Gateway(served.address, auth=(USER, PASSWORD))
    until(
        lambda: again.get_cluster("adopted").status.worker_groups["default"].running == 3,
        "all workers are known",
    )
    assert len(submitted(f"-{made.uid}-s")) == 1
    assert len(submitted(f"-{made.uid}-w-")) == 3
    shutil.rmtree(slurm.directory / "gateway" / "logs" / made.uid)  # stopping needs no directory
    again.stop_cluster("adopted")
    assert (
        again.wait(f"{USER}/{made.uid}", ("STOPPED",), timeout_s=LONG_S).status.reason
        == "STOP_REQUESTED"
    )


def test_slurm_that_does_not_answer_fails_nobody(
    served: GatewayProcess, slurm: Slurm, user: Gateway
) -> None:
    with GatewayCluster("steady", gateway=user, n_workers=1) as cluster, Client(cluster) as client:
        client.wait_for_workers(1, timeout=LONG_S)
        slurm.stop_controller()
        try:
            user.scale_cluster("steady", 2)
            until(lambda: "trying again" in show(served, "steady"), "its user is told")
            assert client.submit(sum, [1, 2]).result(timeout=LONG_S) == 3
        finally:
            slurm.start_controller()
        client.wait_for_workers(2, timeout=LONG_S)
        until(lambda: "trying again" not in show(served, "steady"), "it answers again")
        assert len(elements(slurm, cluster.uid)) == 2


def test_options_of_the_administrator_reach_slurm_and_refusals_reach_the_user(
    served: GatewayProcess, slurm: Slurm, user: Gateway
) -> None:
    made = user.submit("waits", options={"partition": "down", "time_limit": 17})
    until(
        lambda: "the partition is down (PartitionDown)" in " ".join(show(served, "waits").split()),
        "the reason is shown",
    )
    (line,) = [
        line
        for line in slurm.command("squeue", "-h", "-o", "%l %P %k %j").splitlines()
        if made.uid in line
    ]
    assert line.startswith(f"17:00 down dask for {USER} ")
    user.stop_cluster("waits")
    user.wait(f"{USER}/{made.uid}", ("STOPPED",), timeout_s=LONG_S)
    plain = json.loads(json.dumps(dict(user.cluster_options())))
    assert plain["partition"] == "p"


def test_a_worker_that_outgrows_its_memory_says_so(
    served: GatewayProcess, slurm: Slurm, user: Gateway
) -> None:
    with GatewayCluster("greedy", gateway=user, n_workers=1) as cluster, Client(cluster) as client:
        client.wait_for_workers(1, timeout=LONG_S)

        def grow() -> int:
            grown = [bytes([n % 251]) * 2**20 for n in range(900)]
            time.sleep(60)
            return len(grown)

        client.submit(grow, retries=0)

        def told() -> bool:
            return any(
                event.reason == "WORKER_LOST" and "killed for memory" in event.message
                for event in user.events(cluster.uid)
            )

        until(told, "the end is told with its reason", timeout_s=LONG_S)


def test_gpus_are_slurms_to_give_and_dasks_to_count(
    served: GatewayProcess, slurm: Slurm, user: Gateway
) -> None:
    groups: dict[str, dict[str, Any]] = {
        "gpu": {"n_workers": 1, "worker_gpus": 2, "worker_resources": {"fpga": 1}},
        "more": {"n_workers": 0, "worker_gpus": 1},
    }
    with (
        GatewayCluster("gpus", gateway=user, n_workers=1, worker_groups=groups) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(2, timeout=LONG_S)
        given = slurm.command("squeue", "-h", "-r", "-t", "R", "-O", "name:80,tres-per-node:60")
        (words,) = [line.split()[1:] for line in given.splitlines() if "-w-gpu" in line]
        assert words == ["gres:gpu:a100:2,gres:fpga:1"]
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        assert {str(one["name"]): one["resources"] for one in workers} == {
            "default-0": {},
            "gpu-0": {"GPU": 2.0, "fpga": 1.0},
        }
        where = client.submit(lambda: get_worker().name, resources={"GPU": 1}, pure=False)
        assert where.result(timeout=LONG_S) == "gpu-0"
        status = user.get_cluster("gpus").status.worker_groups["gpu"]
        assert (status.worker_gpus, dict(status.worker_resources)) == (2, {"fpga": 1.0})
        assert "2 GPUs, 1 fpga" in show(served, "gpus")
        with pytest.warns(GatewayWarning, match="2 of 3 workers, by the limit of 4 GPUs"):
            cluster.scale(3, group="more")
        until(lambda: len(elements(slurm, cluster.uid, "RUNNING")) == 4, "two more have come")
