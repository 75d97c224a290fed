"""A cluster whose process has gone ends, one that is used does not; what was never answered can be
taken back."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from google.protobuf.field_mask_pb2 import FieldMask

from gateway.server.core.lifetimes import next_end
from gateway.server.core.model import Cluster, Lifecycle
from gateway.server.reconcile import loop
from tests.rpc.harness import Harness, PretendAgent, as_
from tests.rpc.test_clusters import active, create, fields
from tests.waiting import comes


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that is set forward has passed, and is no jump of the clock."""
    monkeypatch.setattr(loop, "JUMP_S", float("inf"))


KEPT = pb.Lifecycle()
KEPT.keepalive_timeout.seconds = 300
UNUSED = {"idle_ms": 0, "no_client_ms": 0, "no_task_ms": 0}
MINUTE_MS = 60_000


def stored(harness: Harness, uid: str) -> Cluster:
    """Return the cluster."""
    found = harness.store.view.cluster(uid)
    assert found is not None
    return found


async def sign_of_life(harness: Harness, *names: str, caller: str = "alice") -> list[str]:
    """Give one; return what needs none any more."""
    request = service_pb.KeepAliveRequest(names=names)
    answer = await harness.clusters.KeepAlive(request, metadata=as_(caller))
    return list(answer.ended)


async def told(harness: Harness, name: str) -> pb.Cluster:
    """Return the cluster as its user sees it."""
    found = await harness.clusters.GetCluster(
        service_pb.GetClusterRequest(name=name), metadata=as_("alice")
    )
    assert isinstance(found, pb.Cluster)
    return found


async def unused(harness: Harness, agent: PretendAgent, uid: str, **report: Any) -> None:
    """Say that a cluster has neither task nor client."""
    await agent.report(**(UNUSED | report))
    await comes(lambda: stored(harness, uid).activity.no_client_since_at)


async def test_an_unused_cluster_without_sign_of_life_ends_and_one_with_does_not(
    harness: Harness,
) -> None:
    gone, agent = await active(harness, "gone", lifecycle=KEPT)
    kept, other = await active(harness, "kept", lifecycle=KEPT)
    plain, third = await active(harness, "plain")
    for cluster, one in ((gone, agent), (kept, other), (plain, third)):
        await unused(harness, one, cluster.uid)
    harness.ahead_ms += 4 * MINUTE_MS
    assert await sign_of_life(harness, kept.name) == []
    harness.ahead_ms += 2 * MINUTE_MS
    for cluster in (gone, kept, plain):
        harness.reconciler.wake(cluster.uid)
    await comes(lambda: stored(harness, gone.uid).reason == "NOT_KEPT_ALIVE")
    assert "gave no sign of life for 5 min" in stored(harness, gone.uid).message
    assert stored(harness, kept.uid).stop is None
    assert stored(harness, plain.uid).stop is None
    assert await sign_of_life(harness, gone.name, kept.name, "users/-/clusters/none") == [
        gone.name,
        "users/-/clusters/none",
    ]


@pytest.mark.parametrize(
    "used", [{"no_task_ms": -1, "idle_ms": -1}, {"no_client_ms": -1, "clients": 1}]
)
async def test_a_cluster_that_computes_or_has_a_client_goes_on_without_its_process(
    harness: Harness, used: dict[str, int]
) -> None:
    made, agent = await active(harness, lifecycle=KEPT)
    await agent.report(**(UNUSED | used))
    await comes(lambda: stored(harness, made.uid).activity.no_task_since_at or "idle_ms" in used)
    harness.ahead_ms += 3600_000
    harness.reconciler.wake(made.uid)
    await unused(harness, agent, made.uid)  # and has as long again once it is done
    end = next_end(stored(harness, made.uid))
    assert end is not None
    assert end.at >= harness.now_ms() + 4 * MINUTE_MS
    # what is told is when it ends although its process lives
    assert (await told(harness, made.name)).status.expire_reason == "IDLE_TIMEOUT"


async def test_a_cluster_that_still_waits_for_its_start_ends_without_its_process(
    harness: Harness,
) -> None:
    made = await harness.clusters.CreateCluster(
        create("waits", lifecycle=KEPT), metadata=as_("alice")
    )
    assert made.status.keepalive_time == made.create_time
    harness.ahead_ms += 6 * MINUTE_MS
    harness.reconciler.wake(made.uid)
    await comes(lambda: stored(harness, made.uid).reason == "NOT_KEPT_ALIVE")


async def test_signs_of_life_are_no_changes_of_the_wish_and_are_stored_now_and_then(
    harness: Harness,
) -> None:
    made, _ = await active(harness, lifecycle=KEPT)
    revision = stored(harness, made.uid).revision
    await sign_of_life(harness, made.name)  # at once again: not worth storing
    assert stored(harness, made.uid).revision == revision
    harness.ahead_ms += MINUTE_MS
    await sign_of_life(harness, made.name)
    kept = stored(harness, made.uid)
    assert (kept.generation, kept.kept_alive_at) == (made.generation, kept.updated_at)
    assert (await told(harness, made.name)).status.keepalive_time.ToMilliseconds() == (
        kept.kept_alive_at
    )


async def test_nobody_keeps_anothers_cluster(harness: Harness) -> None:
    made, _ = await active(harness, lifecycle=KEPT)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await sign_of_life(harness, made.name, caller="bob")
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await sign_of_life(harness, *[f"users/-/clusters/c{n}" for n in range(1001)])
    assert fields(refused.value) == {"names"}


async def test_one_lifetime_is_changed_and_the_others_stay(harness: Harness) -> None:
    harness.offers.lifecycle = Lifecycle(idle_timeout_s=60.0)
    life = pb.Lifecycle()
    life.max_lifetime.seconds, life.idle_timeout.seconds = 7200, 30
    made, _ = await active(harness, lifecycle=life)
    changed = pb.Cluster(name=made.name)
    changed.spec.lifecycle.keepalive_timeout.seconds = 300
    request = service_pb.UpdateClusterRequest(
        cluster=changed, update_mask=FieldMask(paths=["spec.lifecycle.keepalive_timeout"])
    )
    found = await harness.clusters.UpdateCluster(request, metadata=as_("alice"))
    lives = found.spec.lifecycle
    assert (lives.max_lifetime.seconds, lives.idle_timeout.seconds) == (7200, 30)
    assert lives.keepalive_timeout.seconds == 300
    assert found.status.HasField("keepalive_time")
    request.update_mask.paths[:] = ["spec.lifecycle.patience"]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await harness.clusters.UpdateCluster(request, metadata=as_("alice"))
    assert fields(refused.value) == {"update_mask"}


async def test_what_a_request_has_made_is_stopped_by_the_requests_id(harness: Harness) -> None:
    wish = create("made")
    wish.request_id = str(uuid.uuid4())
    made = await harness.clusters.CreateCluster(wish, metadata=as_("alice"))
    back = service_pb.StopClusterRequest(create_request_id=wish.request_id)
    stopped = await harness.clusters.StopCluster(back, metadata=as_("alice"))
    assert stopped.uid == made.uid
    assert stored(harness, made.uid).stop is not None
    again = await harness.clusters.StopCluster(back, metadata=as_("alice"))
    assert again.uid == made.uid


async def test_a_request_that_was_taken_back_makes_nothing_any_more(harness: Harness) -> None:
    wish = create("late")
    wish.request_id = str(uuid.uuid4())
    back = service_pb.StopClusterRequest(create_request_id=wish.request_id.upper())
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await harness.clusters.StopCluster(back, metadata=as_("alice"))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError):
        await harness.clusters.CreateCluster(wish, metadata=as_("alice"))
    assert not list(harness.store.view.clusters("alice"))
    # of another user it is another request
    assert await harness.clusters.CreateCluster(wish, metadata=as_("bob"))


async def test_a_request_is_taken_back_alone_and_by_its_id(harness: Harness) -> None:
    for request in (
        service_pb.StopClusterRequest(create_request_id="nonsense"),
        service_pb.StopClusterRequest(
            create_request_id=str(uuid.uuid4()), name="users/-/clusters/x"
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await harness.clusters.StopCluster(request, metadata=as_("alice"))
        assert fields(refused.value) == {"create_request_id"}
