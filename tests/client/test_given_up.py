"""Who waits for workers that the gateway has given up reads so at once, and waits on after a new
wish."""

from __future__ import annotations

import pytest
from daskgateway.v1 import cluster_pb2 as pb

from gateway.client.calls import errors
from gateway.client.dask.sizing import check_granted
from gateway.client.model import Cluster

WORDS = "workers ended soon after they had joined"


def a_cluster(*, generation: int = 3, running: int = 1) -> Cluster:
    """Return a cluster whose workers were given up, as of its third wish."""
    condition = pb.Condition(
        type="WorkersAvailable",
        status=pb.CONDITION_STATUS_FALSE,
        reason="WORKERS_GIVEN_UP",
        message=WORDS,
    )
    status = pb.ClusterStatus(
        state=pb.CLUSTER_STATE_ACTIVE,
        observed_generation=3,
        conditions=[condition],
        worker_groups={"default": pb.WorkerGroupStatus(desired=4, running=running)},
    )
    groups = {"default": pb.WorkerGroup(count=4)}
    spec = pb.ClusterSpec(worker_groups=groups)
    return Cluster.from_proto(pb.Cluster(generation=generation, spec=spec, status=status))


def test_waiting_for_them_ends_with_the_reason() -> None:
    with pytest.raises(errors.WorkersLate, match=f"4 workers will not come: {WORDS}"):
        check_granted(4, a_cluster())


def test_after_a_new_wish_they_are_waited_for() -> None:
    check_granted(4, a_cluster(generation=4))


def test_as_many_as_there_are_need_no_waiting() -> None:
    check_granted(1, a_cluster())
