"""The main job from end to end on a real Hadoop: containers really run schedulers and workers, and
clients compute through the edge."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator

import pytest
from distributed import Client

from gateway import Gateway, GatewayCluster
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.parts.yarn import Hadoop, running
from tests.parts.yarn.configuration import LEAST_MB, MOST_MB
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LONG_S = 240.0  # a JVM that starts on a machine that does much else takes a minute and more
SETTINGS = """
c.DaskGateway.backends = ['yarn', 'local']
c.YarnBackend.resourcemanager_urls = [{rm!r}]
c.YarnBackend.commands_directory = {commands!r}
c.YarnBackend.root = {root!r}
c.YarnBackend.allocation_mb = {least}
c.YarnBackend.observe_interval_s = 1.0
c.YarnBackend.driver_start_s = 240
c.YarnBackend.submit_timeout_s = 180
c.YarnBackend.local = True
c.ClusterConfig.scheduler_host = '127.0.0.1'
c.ClusterConfig.worker_host = '127.0.0.1'
c.ClusterConfig.scheduler_memory = '512 MiB'
c.ClusterConfig.worker_memory = '384 MiB'
c.ClusterConfig.scheduler_cores = 1
c.ClusterConfig.max_workers = 20
from gateway.options import Select, Text
c.ClusterConfig.options = [Select('queue', ('default', 'small', 'stopped'), 'default'), Text('worker_memory', '384 MiB')]
"""  # noqa: E501


@pytest.fixture(scope="module")
def hadoop() -> Iterator[Hadoop]:
    """One Hadoop for the module."""
    with running() as made:
        yield made


@pytest.fixture(scope="module")
def served(hadoop: Hadoop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that serves clusters on YARN."""
    directory = tmp_path_factory.mktemp("gateway")
    more = SETTINGS.format(
        rm=hadoop.rm_url, commands=str(hadoop.bin), root=str(directory / "yarn"), least=LEAST_MB
    )
    gateway = GatewayProcess(directory, *more.splitlines())
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.end()


@pytest.fixture
def user(served: GatewayProcess, hadoop: Hadoop) -> Iterator[Gateway]:
    """A user of the gateway, whose clusters end with the test: nothing is left of them in YARN or
    HDFS."""
    yield Gateway(served.address, auth=(USER, PASSWORD))
    served.end_clusters(timeout_s=120)
    until(lambda: not hadoop.applications(), "no application is left", timeout_s=LONG_S)
    until(lambda: not hadoop.listed("/user/root/.skein"), "HDFS is empty", timeout_s=LONG_S)


def nap(_: int) -> None:
    """Keep a worker busy for a while."""
    time.sleep(3)


def grow() -> int:
    """Outgrow the memory of a worker."""
    grown = [bytes([n % 251]) * 2**20 for n in range(900)]
    time.sleep(60)
    return len(grown)


def test_the_main_job_on_yarn(served: GatewayProcess, hadoop: Hadoop, user: Gateway) -> None:
    cluster = GatewayCluster("etl", gateway=user)
    uid = cluster.uid
    (application,) = hadoop.applications()
    with Client(cluster) as client:
        cluster.scale(3)
        client.wait_for_workers(3, timeout=120)
        assert sum(client.gather(client.map(lambda x: x + 1, range(100)))) == 5050
        # a worker that has results is kept; the scheduler chooses who goes
        held = client.submit(lambda: 42, pure=False)
        assert held.result(timeout=60) == 42
        (keeper,) = client.who_has(held)[held.key]
        cluster.scale(1)
        until(lambda: len(client.scheduler_info()["workers"]) == 1, "one worker is left")
        assert list(client.scheduler_info()["workers"]) == [keeper]
        assert held.result(timeout=60) == 42
        del held
        until(lambda: len(running_containers(hadoop, application["id"])) == 3, "as in YARN")
        cluster.adapt(1, 2)
        busy = client.map(nap, range(40))
        client.wait_for_workers(2, timeout=120)
        client.cancel(busy)
        cluster.scale(1)
        until(lambda: len(client.scheduler_info()["workers"]) == 1, "one worker is left again")
        # a worker's process is killed from outside, and replaced
        until(
            lambda: user.get_cluster("etl").status.worker_groups["default"].running == 1,
            "the server knows it",
        )
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        until(
            lambda: any(one.reason == "WORKER_LOST" for one in user.events(uid)),
            "the loss is told",
        )
        client.wait_for_workers(1, timeout=120)
        client.submit(grow, retries=0)
        until(
            lambda: any(
                one.reason == "WORKER_LOST"
                and re.search(r"killed for memory: it used [\d.]+ MB of the 384 MB", one.message)
                for one in user.events(uid)
            ),
            "memory is told as the reason",
            timeout_s=120.0,
        )
    hadoop.kill(application["id"])
    failed = user.wait(f"{USER}/{uid}", ("FAILED",), timeout_s=120)
    assert "it was killed in YARN by admin" in failed.status.message
    logs = user.get_logs(f"{USER}/{uid}")
    assert "Scheduler at:" in logs["scheduler"]
    assert "default-0" in logs
    until(lambda: not hadoop.containers_of(application["id"]), "no process is left")
    cluster.close()


def running_containers(hadoop: Hadoop, application_id: str) -> list[int]:
    """Return one number for each container that the ResourceManager says runs."""
    found = [one for one in hadoop.applications() if one["id"] == application_id]
    return list(range(found[0]["runningContainers"])) if found else []


def test_what_yarn_would_not_do_is_said_before_it_is_asked(
    served: GatewayProcess, hadoop: Hadoop, user: Gateway
) -> None:
    made = user.submit("stopped", options={"queue": "stopped"})
    failed = user.wait(f"{USER}/{made.uid}", ("FAILED",), timeout_s=LONG_S)
    assert "queue stopped is stopped" in failed.status.message
    with GatewayCluster(
        "large", gateway=user, options={"worker_memory": "6 GiB"}, n_workers=1
    ) as cluster:
        until(
            lambda: (
                any(
                    f"gives at most {MOST_MB} to one container" in one.message
                    for one in user.events(cluster.uid)
                )
                or f"gives at most {MOST_MB}" in str(user.get_cluster(cluster.uid).status)
            ),
            "the number is told",
            timeout_s=LONG_S,
        )
        assert len(hadoop.applications()) == 1  # the cluster goes on


def test_a_server_killed_around_its_submission_finds_its_application_again(
    served: GatewayProcess, hadoop: Hadoop, user: Gateway
) -> None:
    made = user.submit("adopted", n_workers=2)
    until(hadoop.applications, "it is submitted", timeout_s=LONG_S)
    served.kill()
    served.start()
    again = Gateway(served.address, auth=(USER, PASSWORD))
    assert again.wait("adopted", timeout_s=LONG_S).uid == made.uid
    served.kill()
    served.start()
    again = Gateway(served.address, auth=(USER, PASSWORD))
    until(
        lambda: again.get_cluster("adopted").status.worker_groups["default"].running == 2,
        "both workers run",
        timeout_s=LONG_S,
    )
    (application,) = hadoop.applications()
    until(
        lambda: len(running_containers(hadoop, application["id"])) == 4,
        "its master, its scheduler and two workers are all there is",
        timeout_s=LONG_S,
    )
    again.stop_cluster("adopted")
    again.wait(f"{USER}/{made.uid}", ("STOPPED",), timeout_s=LONG_S)
    until(
        lambda: not hadoop.containers_of(application["id"]), "no process is left", timeout_s=LONG_S
    )
