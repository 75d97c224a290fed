"""Which workers are too many is decided once, though server and scheduler both end some."""

from __future__ import annotations

from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from google.protobuf.field_mask_pb2 import FieldMask

from tests.rpc.harness import Harness, as_
from tests.rpc.test_clusters import active


async def test_whom_the_server_ends_itself_the_agent_does_not_count_as_too_many(
    harness: Harness,
) -> None:
    """Of two workers of which one had just joined, scaled to one, the server ended the one that it
    had not heard of yet, and the scheduler the other."""
    cluster, agent = await active(harness)

    async def scale(count: int) -> None:
        spec = pb.ClusterSpec(worker_groups={"default": pb.WorkerGroup(count=count)})
        update = service_pb.UpdateClusterRequest(
            cluster=pb.Cluster(name=cluster.name, spec=spec),
            update_mask=FieldMask(paths=["spec.worker_groups.default"]),
        )
        await harness.clusters.UpdateCluster(update, metadata=as_("alice"))

    async def until_there_are(running: int, pending: int) -> None:
        found = cluster
        while True:
            group = found.status.worker_groups["default"]
            if (group.running, group.pending) == (running, pending):
                return
            wait = service_pb.WaitClusterRequest(name=cluster.name, after_revision=found.revision)
            found = await harness.clusters.WaitCluster(wait, metadata=as_("alice"))

    async def until_told(count: int, surplus: int) -> None:
        while True:
            (group,) = (await agent.directive()).groups
            assert group.HasField("surplus")
            if (group.count, group.surplus) == (count, surplus):
                return
            assert group.surplus == 0

    await scale(2)
    await until_there_are(0, 2)
    await agent.report(workers=["default-0"], idle_ms=-1)
    await until_there_are(1, 1)
    await scale(1)
    await until_told(1, 0)
    await scale(3)
    await until_there_are(1, 2)
    await agent.report(workers=["default-2", "default-3"], idle_ms=-1)
    await until_there_are(3, 0)
    await scale(1)
    await until_told(1, 2)
    await agent.report(retired=["default-0", "default-2"], idle_ms=-1)
    await until_told(1, 0)
    agent.call.cancel()
