"""The main job from end to end on a real Kubernetes with a real kubelet: pods really run schedulers
and workers, in a namespace of the `restricted` level, and clients compute through the edge."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import Client

from gateway import Gateway, GatewayCluster
from gateway.backends.kubernetes import names
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.parts import kubernetes_node
from tests.parts.kubernetes import Kubernetes
from tests.parts.kubernetes_node import Node
from tests.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # the image has neither numpy nor pandas
    pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning"),
]
NAMESPACE = "dask"
MORE = """
c.KubernetesBackend.requested_memory_share = 0.1
c.ClusterConfig.worker_memory = '500 MiB'
"""
Room = tuple[Kubernetes, Node]


@pytest.fixture(scope="module")
def room() -> Iterator[Room]:
    """One Kubernetes with one node for the module."""
    with kubernetes_node.running() as made:
        made[0].namespace(NAMESPACE)
        yield made


@pytest.fixture(scope="module")
def served(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that serves clusters there, with the rights that the chart gives it and no more."""
    kubernetes, node = room
    settings = kubernetes_node.gateway(
        kubernetes, node, NAMESPACE, kubernetes.directory / "gateway"
    )
    settings += MORE
    gateway = GatewayProcess(tmp_path_factory.mktemp("gateway"), *settings.splitlines())
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.end()


@pytest.fixture
def user(served: GatewayProcess, room: Room) -> Iterator[Gateway]:
    """A user of the gateway, whose clusters end with the test: nothing of them is left then."""
    yield Gateway(served.address, auth=(USER, PASSWORD))
    served.end_clusters(timeout_s=90)
    until(lambda: not objects(room), "no object is left")


def objects(room: Room) -> list[str]:
    """Return what there is of clusters: pods, Secrets and disruption budgets."""
    words = ["pods,secrets,poddisruptionbudgets", "-l", names.TAG_LABEL, "-n", NAMESPACE]
    return room[0].kubectl("get", *words, "-o", "name").split()


def pods(room: Room, uid: str, role: str) -> dict[str, str]:
    """Return a cluster's pods that are not being deleted, each with its uid."""
    labels = f"{names.UID_LABEL}={uid},{names.ROLE_LABEL}={role}"
    found: list[dict[str, Any]] = room[0].get("pods", "-l", labels, "-n", NAMESPACE)["items"]
    return {
        one["metadata"]["name"]: one["metadata"]["uid"]
        for one in found
        if "deletionTimestamp" not in one["metadata"]
    }


def show(served: GatewayProcess, name: str) -> str:
    """Return what the command shows a user of a cluster."""
    words = [sys.executable, "-m", "gateway", "clusters", "show", name]
    done = subprocess.run(
        words, env=served.environment(), capture_output=True, text=True, timeout=60, check=True
    )
    return " ".join(done.stdout.split())


def test_the_main_job_on_kubernetes(room: Room, user: Gateway) -> None:
    kubernetes, node = room
    cluster = GatewayCluster("etl", gateway=user)
    uid = cluster.uid
    with Client(cluster) as client:
        cluster.scale(3)
        client.wait_for_workers(3, timeout=120)
        assert len(pods(room, uid, "worker")) == 3
        assert sum(client.gather(client.map(lambda x: x + 1, range(100)))) == 5050
        cluster.scale(2)
        until(lambda: len(pods(room, uid, "worker")) == 2, "two workers are left")
        before = pods(room, uid, "worker")
        victim = min(before)
        kubernetes.kubectl("delete", "pod", victim, "-n", NAMESPACE, "--now")
        until(
            lambda: victim not in pods(room, uid, "worker") and len(pods(room, uid, "worker")) == 2,
            "a deleted worker is replaced",
        )
        client.wait_for_workers(2, timeout=120)
        assert client.submit(sum, [20, 22]).result(timeout=60) == 42
        logs = user.get_logs(f"{USER}/{uid}")
        assert "Scheduler at:" in logs["scheduler"]
        survivor = max(before).rpartition("default-")[2]
        assert "Registered to:" in logs[f"default-{survivor}"]
    (scheduler,) = pods(room, uid, "scheduler")
    status = kubernetes.get("pod", scheduler, "-n", NAMESPACE)["status"]
    container = status["containerStatuses"][0]["containerID"].rpartition("/")[2]
    node.run("ctr", "tasks", "kill", "--signal", "SIGKILL", container)
    failed = user.wait(f"{USER}/{uid}", ("FAILED",), timeout_s=120)
    assert failed.status.reason == "SCHEDULER_EXITED"
    assert "ended with code 137. it was ended by SIGKILL" in failed.status.message
    until(lambda: not objects(room), "nothing is left")
    kept = user.get_logs(f"{USER}/{uid}")
    assert "Scheduler at:" in kept["scheduler"]
    cluster.close()


def test_a_scheduler_whose_pod_is_deleted_has_failed(room: Room, user: Gateway) -> None:
    """It ends well, as it is told to: that was taken for a cluster that its user had closed."""
    made = user.submit("deleted")
    user.wait("deleted", timeout_s=120)
    (scheduler,) = pods(room, made.uid, "scheduler")
    room[0].kubectl("delete", "pod", scheduler, "-n", NAMESPACE, "--wait=false")
    failed = user.wait(f"{USER}/{made.uid}", ("FAILED", "STOPPED"), timeout_s=120)
    assert failed.status.reason == "SCHEDULER_EXITED"
    assert "somebody, or something, has deleted its pod" in failed.status.message
    until(lambda: not objects(room), "nothing is left")


def test_a_server_killed_between_a_pod_and_its_record_adopts_it(
    room: Room, served: GatewayProcess, user: Gateway
) -> None:
    def start(whose: str) -> Gateway:
        served.kill()
        if whose:
            there = {"DASKGATEWAY_TEST_FAILPOINT": whose}
            served.start(module="tests.e2e.killed_at_create", environment=there)
        else:
            served.start()
        return Gateway(served.address, auth=(USER, PASSWORD))

    def died() -> None:
        assert served.process is not None
        served.process.wait(120)

    made = start("scheduler").submit("adopted", n_workers=2)
    died()
    scheduler = pods(room, made.uid, "scheduler")
    assert len(scheduler) == 1
    start("default")
    died()
    workers = pods(room, made.uid, "worker")
    assert workers
    again = start("")
    assert again.wait("adopted", timeout_s=120).uid == made.uid
    until(
        lambda: again.get_cluster("adopted").status.worker_groups["default"].running == 2,
        "all workers are known",
        timeout_s=120,
    )
    assert pods(room, made.uid, "scheduler") == scheduler
    now = pods(room, made.uid, "worker")
    assert len(now) == 2
    assert workers.items() <= now.items()
    with GatewayCluster.from_name("adopted", gateway=again) as cluster, Client(cluster) as client:
        assert client.submit(sum, range(11)).result(timeout=60) == 55


def test_a_worker_that_outgrows_its_memory_says_so(room: Room, user: Gateway) -> None:
    with GatewayCluster("greedy", gateway=user, n_workers=1) as cluster, Client(cluster) as client:
        client.wait_for_workers(1, timeout=120)

        def grow() -> int:
            grown = [bytes([n % 251]) * 2**20 for n in range(900)]
            time.sleep(60)
            return len(grown)

        client.submit(grow, retries=0)

        def told() -> bool:
            return any(
                event.reason == "WORKER_LOST" and "OOMKilled" in event.message
                for event in user.events(cluster.uid)
            )

        until(told, "the end is told with its reason", timeout_s=120)
