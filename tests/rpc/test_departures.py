"""The machine room is looked at soon where a worker, or a scheduler, has left unasked; what was
asked to leave is waited for as ever."""

from __future__ import annotations

from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from google.protobuf.field_mask_pb2 import FieldMask

from gateway.server.core.model import Cluster
from tests.rpc.harness import Harness, PretendAgent, as_
from tests.waiting import comes


async def active(harness: Harness, workers: int) -> tuple[pb.Cluster, PretendAgent, list[str]]:
    """Return a cluster whose workers have joined, its agent, and their names."""
    spec = pb.ClusterSpec(worker_groups={"default": pb.WorkerGroup(count=workers)})
    request = service_pb.CreateClusterRequest(cluster_id="etl", cluster=pb.Cluster(spec=spec))
    made = await harness.clusters.CreateCluster(request, metadata=as_("alice"))
    agent = PretendAgent(harness, made.uid)
    await agent.hello()
    await comes(lambda: len(harness.backend.running) == workers + 1)
    names = sorted(one.name for one in harness.backend.running if one.name != "scheduler")
    await agent.report(workers=names)
    await comes(lambda: kept(harness, made.uid).groups["default"].running == workers)
    return made, agent, names


def kept(harness: Harness, uid: str) -> Cluster:
    """Return a cluster as it is stored."""
    cluster = harness.store.view.cluster(uid)
    assert cluster is not None
    return cluster


async def test_a_worker_that_leaves_unasked_is_looked_at_soon_and_one_that_was_asked_is_not(
    harness: Harness,
) -> None:
    made, agent, names = await active(harness, 3)
    await agent.report(left=[names[0]])
    await comes(lambda: harness.backend.expected)
    (target,) = harness.backend.expected
    assert (target.instance.name, target.handle, target.user, target.left) == (
        names[0],
        "handle",
        "alice",
        True,
    )
    harness.backend.expected.clear()
    request = service_pb.UpdateClusterRequest(
        cluster=pb.Cluster(
            name=made.name, spec=pb.ClusterSpec(worker_groups={"default": pb.WorkerGroup(count=0)})
        ),
        update_mask=FieldMask(paths=["spec.worker_groups.default"]),
    )
    await harness.clusters.UpdateCluster(request, metadata=as_("alice"))
    await agent.report(retired=names[1:], left=names[1:])
    await comes(lambda: len(harness.backend.running) == 1)
    assert harness.backend.expected == []
    agent.call.cancel()
    await comes(lambda: harness.backend.expected)
    assert [one.instance.name for one in harness.backend.expected] == ["scheduler"]
