"""SIGKILL of the server loses nothing that was answered OK, doubles nothing, and leaves nothing
running that nobody wants."""

from __future__ import annotations

import os
import pathlib
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import cluster_service_pb2_grpc

from gateway.wire import basic_credentials
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess

CREATORS = 6
KILLS = 4
BETWEEN_KILLS = (5, 40)  # creates that are answered before the next kill
# what is purged early is not lost
UNBOUNDED = ("max_ended_per_user", "max_clusters_per_user", "max_creates_per_minute")
ALONE = "--DaskGateway.start_proxy=False"
NOOP = "--DaskGateway.backends=['noop', 'local']"  # the first is the default
METADATA = (("authorization", basic_credentials(USER, PASSWORD)),)
# while a server may be starting
PATIENTLY: dict[str, Any] = {"metadata": METADATA, "timeout": 60, "wait_for_ready": True}
LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


@pytest.fixture
def gateway(tmp_path: pathlib.Path) -> Iterator[GatewayProcess]:
    """A gateway that is not started yet; whatever runs of it at the end is ended."""
    made = GatewayProcess(tmp_path, *(f"c.DaskGateway.{name} = 0" for name in UNBOUNDED))
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()
    for pid in made.processes():
        os.kill(pid, signal.SIGKILL)


def channel_to(gateway: GatewayProcess) -> grpc.Channel:
    """Return a channel to the server's own socket, which is at the same place after restarts."""
    return grpc.insecure_channel(
        f"unix:{gateway.directory}/state/server.sock",
        [("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 100)],
    )


def request() -> service_pb.CreateClusterRequest:
    """Return a request whose effect can be told from all others."""
    request_id = str(uuid.uuid4())
    return service_pb.CreateClusterRequest(
        cluster=pb.Cluster(labels={"request": request_id}), request_id=request_id
    )


class Creator(threading.Thread):
    """Creates clusters one after the other, each again and again with the same request until it is
    answered."""

    def __init__(
        self,
        stub: cluster_service_pb2_grpc.ClusterServiceStub,
        ended: threading.Event,
        answered: threading.Semaphore,
    ) -> None:
        super().__init__(daemon=True)
        self._stub, self._ended, self._answered = stub, ended, answered
        self.answers: list[tuple[service_pb.CreateClusterRequest, str]] = []
        self.asked: set[str] = set()
        self.repeats = 0
        self.refusal: grpc.RpcError | None = None

    def run(self) -> None:
        while not self._ended.is_set():
            wish = request()
            self.asked.add(wish.request_id)
            while not self._ended.is_set():
                try:
                    made = self._stub.CreateCluster(wish, metadata=METADATA, timeout=10)
                except grpc.RpcError as error:
                    if error.code() not in LOST:
                        self.refusal = error
                        return
                    self.repeats += 1
                    time.sleep(0.02)  # nothing tells when a server is back
                    continue
                self.answers.append((wish, made.uid))
                self._answered.release()
                break


def every_cluster(stub: cluster_service_pb2_grpc.ClusterServiceStub) -> list[pb.Cluster]:
    """Return every cluster there is, finished ones too."""
    found: list[pb.Cluster] = []
    token = ""
    while True:
        page = stub.ListClusters(
            service_pb.ListClustersRequest(show_finished=True, page_size=500, page_token=token),
            metadata=METADATA,
            timeout=20,
            wait_for_ready=True,
        )
        found += page.clusters
        token = page.next_page_token
        if not token:
            return found


@pytest.mark.timeout(180)
def test_a_kill_of_the_server_loses_nothing_that_was_answered_ok(gateway: GatewayProcess) -> None:
    gateway.start(ALONE, NOOP)
    ended, answered = threading.Event(), threading.Semaphore(0)
    with channel_to(gateway) as channel:
        stub = cluster_service_pb2_grpc.ClusterServiceStub(channel)
        creators = [Creator(stub, ended, answered) for _ in range(CREATORS)]
        for creator in creators:
            creator.start()
        for _ in range(KILLS):
            for _ in range(random.randint(*BETWEEN_KILLS)):
                assert answered.acquire(timeout=30), [creator.refusal for creator in creators]
            gateway.kill()
            gateway.start(ALONE, NOOP)
        ended.set()
        for creator in creators:
            creator.join(30)
            assert not creator.is_alive()
            assert creator.refusal is None
        # calls were under way when the server went
        assert sum(creator.repeats for creator in creators) >= KILLS
        clusters = every_cluster(stub)
        uids = Counter(cluster.labels["request"] for cluster in clusters)
        assert [label for label, count in uids.items() if count > 1] == []
        assert uids.keys() <= set().union(*(creator.asked for creator in creators))
        present = {cluster.labels["request"]: cluster.uid for cluster in clusters}
        for creator in creators:
            for wish, uid in creator.answers:
                assert present.get(wish.request_id) == uid
        for wish, uid in random.choice(creators).answers[-20:]:
            assert stub.CreateCluster(wish, **PATIENTLY).uid == uid
        assert len(every_cluster(stub)) == len(clusters)


def wait_for(
    stub: cluster_service_pb2_grpc.ClusterServiceStub,
    cluster: pb.Cluster,
    state: Any,
) -> pb.Cluster:
    """Return a cluster once it is in a state, or finished."""
    wish = service_pb.WaitClusterRequest(name=f"users/-/clusters/{cluster.uid}", states=[state])
    wish.timeout.seconds = 50
    return stub.WaitCluster(wish, **PATIENTLY)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("point", "left"), [("start.before", 0), ("start.after", 1)])
def test_a_kill_around_the_backends_start_makes_one_scheduler(
    gateway: GatewayProcess, point: str, left: int
) -> None:
    gateway.start(
        ALONE, module="tests.e2e.failing_server", environment={"DASKGATEWAY_TEST_FAILPOINT": point}
    )
    wish = request()
    with channel_to(gateway) as channel:
        stub = cluster_service_pb2_grpc.ClusterServiceStub(channel)
        try:
            uid = stub.CreateCluster(wish, **PATIENTLY).uid
        except grpc.RpcError:  # it was killed before the answer had left
            uid = ""
        assert gateway.process is not None
        assert gateway.process.wait(30) == -signal.SIGKILL
        gateway.kill()
        before = gateway.processes()
        assert len(before) == left
        gateway.start(ALONE)
        made = stub.CreateCluster(wish, **PATIENTLY)
        assert uid in (made.uid, "")
        assert wait_for(stub, made, pb.CLUSTER_STATE_ACTIVE).status.state == pb.CLUSTER_STATE_ACTIVE
        assert len(gateway.processes()) == 1
        assert set(before) <= set(gateway.processes())
        stub.StopCluster(service_pb.StopClusterRequest(name=made.name), **PATIENTLY)
        assert (
            wait_for(stub, made, pb.CLUSTER_STATE_STOPPED).status.state == pb.CLUSTER_STATE_STOPPED
        )
        assert gateway.processes() == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize("point", ["stop.before", "stop.after", "cleanup.after"])
def test_a_kill_around_the_backends_stop_forgets_no_stop(
    gateway: GatewayProcess, point: str
) -> None:
    gateway.start(
        ALONE, module="tests.e2e.failing_server", environment={"DASKGATEWAY_TEST_FAILPOINT": point}
    )
    with channel_to(gateway) as channel:
        stub = cluster_service_pb2_grpc.ClusterServiceStub(channel)
        made = stub.CreateCluster(request(), **PATIENTLY)
        assert wait_for(stub, made, pb.CLUSTER_STATE_ACTIVE).status.state == pb.CLUSTER_STATE_ACTIVE
        stopping = stub.StopCluster.future(
            service_pb.StopClusterRequest(name=made.name), **PATIENTLY
        )
        # it may be killed before the answer has left
        assert stopping.exception() is None or stopping.code() in LOST
        assert gateway.process is not None
        assert gateway.process.wait(30) == -signal.SIGKILL
        gateway.kill()
        gateway.start(ALONE)
        stopped = wait_for(stub, made, pb.CLUSTER_STATE_STOPPED)
        assert (stopped.status.state, stopped.status.reason) == (
            pb.CLUSTER_STATE_STOPPED,
            "STOP_REQUESTED",
        )
        assert gateway.processes() == []
        assert not (gateway.local / "clusters" / made.uid).exists()
