"""The reconciler loses nothing that it was told, whatever it is busy with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from google.protobuf.duration_pb2 import Duration

from gateway.backends.contract import Instance, Launch, StartOutcome
from gateway.server.core.facts import AgentNews, Patience
from gateway.server.core.model import Cluster, State
from gateway.server.reconcile.loop import ROUNDS
from tests.rpc.harness import Harness, PretendAgent, PretendBackend, as_


class TalkingBackend(PretendBackend):
    """While a cluster's last start in a row is done, its agent tells something."""

    harness: Harness
    starts = 0

    async def start(self, launches: Sequence[Launch]) -> Mapping[Instance, StartOutcome]:
        uid = launches[0].instance.uid
        self.starts += launches[0].instance.name != "scheduler"
        if self.starts == ROUNDS:
            self.harness.reconciler.inbox.hear(uid, AgentNews(clients=7))
        return await super().start(launches)


async def test_news_that_come_while_many_workers_are_started_are_not_lost() -> None:
    backend = TalkingBackend()
    harness = backend.harness = Harness(backend=backend, patience=Patience(batch=1))
    await harness.start()
    try:
        spec = pb.ClusterSpec(worker_groups={"default": pb.WorkerGroup(count=ROUNDS + 4)})
        request = service_pb.CreateClusterRequest(cluster_id="large", cluster=pb.Cluster(spec=spec))
        made = await harness.clusters.CreateCluster(request, metadata=as_("alice"))
        agent = PretendAgent(harness, made.uid)
        await agent.hello()
        subscription = harness.store.view.subscribe()
        async with asyncio.timeout(20):
            while harness.store.view.cluster(made.uid).activity.clients != 7 or backend.starts < ROUNDS + 4:
                await subscription.next()
        agent.call.cancel()
    finally:
        await harness.stop()


HOUR_MS = 3_600_000


async def test_a_clock_that_jumps_ends_no_cluster_that_was_not_idle_for_so_long(harness: Harness) -> None:
    lifecycle = pb.Lifecycle(idle_timeout=Duration(seconds=3600))
    request = service_pb.CreateClusterRequest(cluster_id="kept", cluster=pb.Cluster(spec=pb.ClusterSpec(lifecycle=lifecycle)))
    made = await harness.clusters.CreateCluster(request, metadata=as_("alice"))
    agent = PretendAgent(harness, made.uid)
    await agent.hello()
    subscription = harness.store.view.subscribe(start_revision=0)

    async def seen(holds: Callable[[Cluster], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds(harness.store.view.cluster(made.uid)):
                await subscription.next()

    await agent.report(idle_ms=60_000)
    await seen(lambda cluster: cluster.activity.idle_since_at > 0)
    idle_since_at = harness.store.view.cluster(made.uid).activity.idle_since_at
    harness.ahead_ms = 2 * HOUR_MS
    call = service_pb.UpdateClusterRequest(
        cluster=pb.Cluster(name="users/alice/clusters/kept", labels={"looked": "at"}), update_mask={"paths": ["labels"]}
    )
    await harness.clusters.UpdateCluster(call, metadata=as_("alice"))
    await seen(lambda cluster: cluster.observed_generation == 2)  # a step was made, and ended nothing
    assert harness.store.view.cluster(made.uid).state is State.ACTIVE
    await agent.report(idle_ms=61_000)
    await seen(lambda cluster: cluster.activity.idle_since_at > idle_since_at + HOUR_MS)
    assert harness.store.view.cluster(made.uid).state is State.ACTIVE
    await agent.report(idle_ms=HOUR_MS)  # by the agent's own clock, which is steady
    await seen(lambda cluster: cluster.stop is not None)
    assert harness.store.view.cluster(made.uid).stop.reason == "IDLE_TIMEOUT"
    agent.call.cancel()
