"""The main job from end to end: ask, scale, compute, adapt, survive a killed server, stop."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from distributed import Client

from gateway import Gateway, GatewayCluster, GatewayWarning
from gateway.client.calls import errors
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.waiting import until


def workers(cluster: GatewayCluster) -> int:
    """Return how many workers the server shows as running."""
    return int(cluster.describe().status.worker_groups["default"].running)


@pytest.mark.timeout(240)
def test_the_main_job(served: GatewayProcess) -> None:
    gateway = Gateway(served.address, auth=(USER, PASSWORD))
    cluster = GatewayCluster("etl", gateway=gateway)
    with Client(cluster) as client:
        cluster.scale(2)
        client.wait_for_workers(2, timeout=40)
        assert client.submit(sum, range(101)).result(timeout=20) == 5050
        until(lambda: workers(cluster) == 2, "two workers are shown")
        cluster.scale(1)
        until(lambda: workers(cluster) == 1 and len(served.processes()) == 2, "one worker is left")
        adaptive = cluster.adapt(0, 3)
        assert (adaptive.minimum, adaptive.maximum) == (0, 3)
        assert sum(client.gather(client.map(lambda x: x + 1, range(10)), errors="raise")) == 55
        served.kill()
        # the data plane does not need the server
        assert client.submit(lambda: 1, pure=False).result(timeout=30) == 1
        served.start()
        assert Gateway(served.address, auth=(USER, PASSWORD)).get_cluster("etl").uid == cluster.uid
        cluster.scale(2)
        client.wait_for_workers(2, timeout=40)
        assert client.submit(sum, [20, 22]).result(timeout=30) == 42
    uid = cluster.uid
    cluster.close()
    stopped = gateway.wait(f"{USER}/{uid}", ("STOPPED",), timeout_s=40)
    assert stopped.status.reason == "STOP_REQUESTED"
    assert served.processes() == []
    assert not (served.local / "clusters" / uid).exists()
    logs = gateway.get_logs(f"{USER}/{uid}")
    assert "Scheduler at:" in logs["scheduler"]
    assert "default-0" in logs


@pytest.fixture(scope="module")
def shared(served: GatewayProcess) -> str:
    """A cluster with a worker, for tests that only use one; return its scheduler's address."""
    cluster = GatewayCluster(
        "shared",
        gateway=Gateway(served.address, auth=(USER, PASSWORD)),
        n_workers=1,
        shutdown_on_close=False,
    )
    with cluster, cluster.get_client() as client:
        client.wait_for_workers(1, timeout=40)
        return str(cluster.scheduler_address)


def test_a_plain_client_computes_in_a_process_that_imports_nothing_of_ours(
    served: GatewayProcess, shared: str
) -> None:
    program = (
        "import sys\n"
        "from distributed import Client\n"
        "assert not any(name.split('.')[0] in ('gateway', 'daskgateway') for name in sys.modules)\n"
        f"with Client({shared!r}, timeout=20) as client:\n"
        "    print(client.submit(sum, [1, 2, 3]).result(timeout=20))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=served.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "6"


def test_a_forked_child_goes_on_after_the_parent_has_used_grpc(
    served: GatewayProcess, shared: str
) -> None:
    program = (
        "import os, sys\n"
        "from gateway import Gateway\n"
        "gateway = Gateway()\n"
        "gateway.whoami()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    names = [cluster.name for cluster in gateway.list_clusters()]\n"
        "    os._exit(0 if 'users/alice/clusters/shared' in names else 1)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "print(gateway.whoami().user)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=served.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "alice"


def test_two_threads_with_event_loops_of_their_own(served: GatewayProcess, shared: str) -> None:
    import asyncio

    found: list[str] = []

    async def look() -> None:
        async with Gateway(served.address, auth=(USER, PASSWORD), asynchronous=True) as gateway:
            for _ in range(5):
                found.append((await gateway.get_cluster("shared")).name)
            async with await gateway.connect("shared") as cluster:
                found.append(cluster.name)

    threads = [threading.Thread(target=lambda: asyncio.run(look())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert found.count("users/alice/clusters/shared") == 10
    assert found.count("shared") == 2


def test_a_foreign_cluster_is_not_there(served: GatewayProcess, shared: str) -> None:
    bob = Gateway(served.address, auth=("bob", "builder"))
    with pytest.raises(errors.PermissionDenied):
        bob.get_cluster("alice/shared")
    with pytest.raises(errors.ClusterNotFound):
        bob.get_cluster("shared")
    with pytest.raises(errors.AuthenticationFailed):
        Gateway(served.address, auth=("bob", "wrong")).list_clusters()


def test_a_scale_beyond_the_limit_is_clamped_and_says_so(served: GatewayProcess) -> None:
    gateway = Gateway(served.address, auth=(USER, PASSWORD))
    with pytest.warns(GatewayWarning, match="6 of 100 workers"):
        made = gateway.submit("clamped", n_workers=100)
    (condition,) = [
        c
        for c in gateway.wait(made.name, ("ACTIVE",), timeout_s=40).status.conditions
        if c.type == "WithinLimits"
    ]
    assert "6 of 100 workers" in condition.message
    gateway.stop_cluster("clamped")


def test_the_command_line(served: GatewayProcess) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gateway", *words]
        return subprocess.run(
            command, env=served.environment(), capture_output=True, text=True, timeout=90
        )

    made = run("clusters", "create", "shell", "-n", "1", "-o", "worker_memory=1 GiB")
    assert made.returncode == 0, made.stderr
    assert "ACTIVE" in made.stdout
    assert "alice/shell" in run("clusters", "list").stdout
    assert '"worker_memory": "1 GiB"' in run("clusters", "show", "shell", "--output", "json").stdout
    assert run("clusters", "scale", "shell", "2").returncode == 0
    assert "Scheduler at:" in run("clusters", "logs", "shell", "scheduler").stdout
    refused = run("clusters", "create", "other", "-o", "worker_cores=1000")
    assert refused.returncode == 2  # it need not be sent to be known as wrong
    assert "option worker_cores must be at most 64" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "STOPPED" in run("clusters", "stop", "shell", "--wait").stdout


def test_curl_like_calls_reach_the_same_api(served: GatewayProcess) -> None:
    def curl(method: str, body: str, *more: str) -> subprocess.CompletedProcess[str]:
        url = f"{served.address}/daskgateway.v1.ClusterService/{method}"
        words = [
            "curl",
            "-s",
            "-m",
            "20",
            "-u",
            f"{USER}:{PASSWORD}",
            "-H",
            "content-type: application/json",
            "-d",
            body,
            *more,
            url,
        ]
        return subprocess.run(words, capture_output=True, text=True, timeout=30)

    assert (
        '"state": "CLUSTER_STATE_PENDING"'
        in curl("CreateCluster", '{"clusterId": "by-curl"}').stdout
    )
    assert "users/alice/clusters/by-curl" in curl("ListClusters", "{}").stdout
    wrong = curl("CreateCluster", '{"clusterId": ', "-w", " %{http_code}").stdout
    assert '"code": "invalid_argument"' in wrong
    assert wrong.endswith(" 400")
    assert (
        '"code": "not_found"' in curl("GetCluster", '{"name": "users/-/clusters/nothing"}').stdout
    )


def test_a_client_that_knows_only_reflection_lists_clusters(served: GatewayProcess) -> None:
    import grpc
    from google.protobuf import message_factory
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
        ProtoReflectionDescriptorDatabase,
    )

    from gateway.wire import basic_credentials

    with grpc.insecure_channel(served.address.removeprefix("http://")) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "daskgateway.v1.ClusterService" in database.get_services()
        service = DescriptorPool(database).FindServiceByName("daskgateway.v1.ClusterService")
        method = service.FindMethodByName("ListClusters")
        request = message_factory.GetMessageClass(method.input_type)(show_finished=True)
        answer = message_factory.GetMessageClass(method.output_type)
        call = channel.unary_unary(
            "/daskgateway.v1.ClusterService/ListClusters",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        listed = call(
            request, metadata=(("authorization", basic_credentials(USER, PASSWORD)),), timeout=10
        )
        assert listed.clusters
