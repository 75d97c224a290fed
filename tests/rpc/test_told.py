"""The answer to a wish tells what it comes to, and nobody takes what was before for that."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct

from gateway.backends.contract import Observation, Phase
from gateway.server.core.model import Limits
from tests.rpc.harness import FIELDS, SETTINGS, Harness, as_
from tests.rpc.test_clusters import active, create


def groups(**sizes: int) -> dict[str, pb.WorkerGroup]:
    """Return worker groups of so many."""
    return {name: pb.WorkerGroup(count=count) for name, count in sizes.items()}


def within(cluster: pb.Cluster) -> tuple[int, str, str]:
    """Return what is said of the limits."""
    (found,) = [c for c in cluster.status.conditions if c.type == "WithinLimits"]
    return found.status, found.reason, found.message


async def scaled(harness: Harness, name: str, **sizes: int) -> pb.Cluster:
    """Return the answer to a scale."""
    request = service_pb.UpdateClusterRequest(
        cluster=pb.Cluster(name=name, spec=pb.ClusterSpec(worker_groups=groups(**sizes))),
        update_mask=FieldMask(paths=[f"spec.worker_groups.{group}" for group in sizes]),
    )
    found: pb.Cluster = await harness.clusters.UpdateCluster(request, metadata=as_("alice"))
    return found


async def test_a_create_beyond_the_limits_says_so_in_its_answer(harness: Harness) -> None:
    wish = create("etl", worker_groups=groups(default=30, gpu=2))
    made = await harness.clusters.CreateCluster(wish, metadata=as_("alice"))
    status, reason, message = within(made)
    assert (status, reason) == (pb.CONDITION_STATUS_FALSE, "CLAMPED")
    assert "20 of 30 workers" in message
    assert "by the limit of 20 workers" in message
    default, gpu = made.status.worker_groups["default"], made.status.worker_groups["gpu"]
    assert (default.wished, default.desired, default.limit, default.running) == (30, 20, 20, 0)
    assert (gpu.wished, gpu.desired, gpu.limit) == (2, 0, 0)


async def test_a_create_within_the_limits_says_that_too(harness: Harness) -> None:
    wish = create("etl", worker_groups=groups(default=3))
    made = await harness.clusters.CreateCluster(wish, metadata=as_("alice"))
    assert within(made)[:2] == (pb.CONDITION_STATUS_TRUE, "WITHIN")
    default = made.status.worker_groups["default"]
    assert (default.wished, default.desired, default.limit) == (3, 3, 20)
    assert made.status.reconciling


async def test_without_limits_there_is_none(harness: Harness) -> None:
    harness.offers.limits = Limits()
    made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    assert not made.status.worker_groups["default"].HasField("limit")


async def test_what_is_only_validated_is_told_the_same(harness: Harness) -> None:
    wish = create("etl", worker_groups=groups(default=30))
    wish.validate_only = True
    told = await harness.clusters.CreateCluster(wish, metadata=as_("alice"))
    assert within(told)[1] == "CLAMPED"


async def test_a_scale_tells_what_is_desired_now(harness: Harness) -> None:
    """The CLI said "2 desired" after `scale 20`."""
    cluster, agent = await active(harness, worker_groups=groups(default=2))
    answer = await scaled(harness, cluster.name, default=7)
    default = answer.status.worker_groups["default"]
    assert (default.wished, default.desired) == (7, 7)
    assert answer.status.reconciling
    answer = await scaled(harness, cluster.name, default=21)
    default = answer.status.worker_groups["default"]
    assert (default.wished, default.desired) == (21, 20)
    assert within(answer)[1] == "CLAMPED"
    answer = await scaled(harness, cluster.name, gpu=1, default=1)
    assert within(answer)[1] == "WITHIN"
    assert answer.status.worker_groups["gpu"].desired == 1
    agent.call.cancel()


async def test_a_stop_tells_that_it_stops(harness: Harness) -> None:
    """It said ACTIVE."""
    cluster, agent = await active(harness, worker_groups=groups(default=2))
    stop = service_pb.StopClusterRequest(name=cluster.name)
    answer = await harness.clusters.StopCluster(stop, metadata=as_("alice"))
    assert answer.status.state == pb.CLUSTER_STATE_STOPPING
    assert answer.status.reason == "STOP_REQUESTED"
    assert "alice asked for its end" in answer.status.message
    assert answer.status.worker_groups["default"].desired == 0
    assert not answer.status.endpoints.scheduler
    wait = service_pb.WaitClusterRequest(name=cluster.name, states=[pb.CLUSTER_STATE_STOPPED])
    await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
    events = service_pb.ListEventsRequest(parent=cluster.name)
    listed = await harness.clusters.ListEvents(events, metadata=as_("alice"))
    reasons = [event.reason for event in listed.events]
    assert (reasons.count("STOPPING"), reasons.count("STOPPED")) == (1, 1)
    agent.call.cancel()


async def test_a_cluster_that_never_began_stops_too(harness: Harness) -> None:
    made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    stop = service_pb.StopClusterRequest(name=made.name)
    answer = await harness.clusters.StopCluster(stop, metadata=as_("alice"))
    assert answer.status.state in (pb.CLUSTER_STATE_STOPPING, pb.CLUSTER_STATE_STOPPED)
    wait = service_pb.WaitClusterRequest(name=made.name, states=[pb.CLUSTER_STATE_STOPPED])
    ended = await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
    assert ended.status.state == pb.CLUSTER_STATE_STOPPED


async def test_a_lifecycle_that_is_held_to_the_most_says_so(harness: Harness) -> None:
    year = pb.Lifecycle(max_lifetime=Duration(seconds=365 * 86400))
    made = await harness.clusters.CreateCluster(create(lifecycle=year), metadata=as_("alice"))
    words = "max_lifetime is 1 d, the most that anybody may have, not 365 d"
    assert made.status.message == f"accepted; {words}"
    assert made.spec.lifecycle.max_lifetime.seconds == 86400
    update = service_pb.UpdateClusterRequest(
        cluster=pb.Cluster(
            name=made.name, spec=pb.ClusterSpec(lifecycle=pb.Lifecycle(max_lifetime=Duration()))
        ),
        update_mask=FieldMask(paths=["spec.lifecycle"]),
    )
    await harness.clusters.UpdateCluster(update, metadata=as_("alice"))
    events = service_pb.ListEventsRequest(parent=made.name)
    listed = (await harness.clusters.ListEvents(events, metadata=as_("alice"))).events
    told = {event.reason: event.message for event in listed}
    assert told["CREATED"].endswith(f"; {words}")
    assert told["CLAMPED"].endswith("the most that anybody may have, not never")


# What is in force


def options(**values: Any) -> Struct:
    """Return options of a wish."""
    message = Struct()
    message.update(values)
    return message


async def test_what_is_in_force_can_be_seen(harness: Harness) -> None:
    assert any(field.name == "environment" for field in FIELDS)
    harness.offers.settings = {
        **SETTINGS,
        "environment": {"SITE": "x", "OMP_NUM_THREADS": "2"},
        "dask_config": {"distributed.worker.resources.GPU": 1},
    }
    wish = create(options=options(environment={"OMP_NUM_THREADS": "4", "MINE": "y"}))
    made = await harness.clusters.CreateCluster(wish, metadata=as_("alice"))
    status = made.status
    assert dict(status.environment) == {"SITE": "x", "OMP_NUM_THREADS": "4", "MINE": "y"}
    of_workers = dict(status.worker_groups["default"].environment)
    assert of_workers == {
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_TRIM_THRESHOLD_": "65536",
    }
    told = status.dask_config["distributed"]["worker"]["resources"]
    assert dict(told) == {"GPU": 1}


async def test_of_an_ended_cluster_nothing_is_in_force(harness: Harness) -> None:
    made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    stop = service_pb.StopClusterRequest(name=made.name)
    await harness.clusters.StopCluster(stop, metadata=as_("alice"))
    wait = service_pb.WaitClusterRequest(name=made.name, states=[pb.CLUSTER_STATE_STOPPED])
    ended = await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
    assert not ended.status.environment
    assert not ended.status.worker_groups["default"].environment


# Why it waits


@pytest.mark.parametrize("after", ["create", "anything"])
async def test_why_it_waits_is_told_within_a_second(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """The first reason came after 30 s."""
    started = harness.backend.start

    async def queued(launches: Any) -> Any:
        outcomes = await started(launches)
        waits = [Observation(i, Phase.QUEUED, message="Resources") for i in outcomes]
        harness.backend.push(waits)
        return outcomes

    monkeypatch.setattr(harness.backend, "start", queued)
    made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    wait = service_pb.WaitClusterRequest(
        name=made.name,
        states=[pb.CLUSTER_STATE_ACTIVE],
        after_revision=made.revision if after == "create" else 1,
    )
    told = made
    async with asyncio.timeout(30):
        while told.status.reason != "SCHEDULER_QUEUED":
            begun = asyncio.get_running_loop().time()
            told = await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
            assert asyncio.get_running_loop().time() - begun < 5
            wait.after_revision = told.revision
    assert "Resources" in told.status.message
