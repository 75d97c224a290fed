"""The reconciler loses nothing that it was told, whatever it is busy with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb

from gateway.backends.contract import Instance, Launch, StartOutcome
from gateway.server.core.facts import AgentNews, Patience
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
