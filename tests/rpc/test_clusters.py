"""What a user does with clusters, over the wire."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from google.rpc import error_details_pb2, status_pb2

from gateway.proxy.http import bridge
from gateway.server.core.facts import Patience
from gateway.server.usecases import follow
from tests.rpc.harness import Harness, PretendAgent, as_

DETAILS = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.RetryInfo,
    error_details_pb2.QuotaFailure,
)


def create(cluster_id: str = "etl", **spec: Any) -> service_pb.CreateClusterRequest:
    """Return a request."""
    return service_pb.CreateClusterRequest(
        cluster_id=cluster_id,
        cluster=pb.Cluster(spec=pb.ClusterSpec(**spec)),
        request_id=str(uuid.uuid4()),
    )


def trailers_of(error: Any) -> dict[str, Any]:
    """Return what came with an error."""
    return dict(error.trailing_metadata())


def details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """Return the typed details of an error by their names."""
    status = status_pb2.Status.FromString(trailers_of(error)["grpc-status-details-bin"])
    found: dict[str, Any] = {}
    for packed in status.details:
        for kind in DETAILS:
            if packed.Is(kind.DESCRIPTOR):
                message = kind()
                packed.Unpack(message)
                found[kind.DESCRIPTOR.name] = message
    return found


def reason(error: grpc.aio.AioRpcError) -> str:
    """Return the reason of an error."""
    info = details(error)["ErrorInfo"]
    assert info.domain == "daskgateway"
    return str(info.reason)


def fields(error: grpc.aio.AioRpcError) -> set[str]:
    """Return the fields an error names."""
    return {violation.field for violation in details(error)["BadRequest"].field_violations}


async def active(
    harness: Harness, cluster_id: str = "etl", **spec: Any
) -> tuple[pb.Cluster, PretendAgent]:
    """Return an active cluster and its agent."""
    made = await harness.clusters.CreateCluster(create(cluster_id, **spec), metadata=as_("alice"))
    agent = PretendAgent(harness, made.uid)
    await agent.hello()
    wait = service_pb.WaitClusterRequest(name=made.name, states=[pb.CLUSTER_STATE_ACTIVE])
    return await harness.clusters.WaitCluster(wait, metadata=as_("alice")), agent


async def test_a_cluster_is_created_becomes_active_and_stops(harness: Harness) -> None:
    cluster, agent = await active(harness)
    assert cluster.name == "users/alice/clusters/etl"
    assert cluster.status.state == pb.CLUSTER_STATE_ACTIVE
    assert cluster.status.endpoints.scheduler == f"dgw://edge.example:8000/{cluster.uid}"
    await harness.clusters.StopCluster(
        service_pb.StopClusterRequest(name=cluster.name), metadata=as_("alice")
    )
    wait = service_pb.WaitClusterRequest(name=cluster.name, states=[pb.CLUSTER_STATE_STOPPED])
    stopped = await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
    assert stopped.status.state == pb.CLUSTER_STATE_STOPPED
    assert stopped.HasField("stop_time")
    assert harness.backend.cleaned == [cluster.uid]
    assert not harness.backend.running
    agent.call.cancel()


async def test_waiting_ends_before_the_calls_own_deadline_does(harness: Harness) -> None:
    """Over HTTP both are a minute by default, and most such calls ended in 504."""
    made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    for asked in (None, Duration(seconds=60)):
        wait = service_pb.WaitClusterRequest(name=made.name, states=[pb.CLUSTER_STATE_ACTIVE])
        if asked is not None:
            wait.timeout.CopyFrom(asked)
        found = await harness.clusters.WaitCluster(wait, metadata=as_("alice"), timeout=2.0)
        assert found.status.state != pb.CLUSTER_STATE_ACTIVE
    assert bridge.DEFAULT_TIMEOUT_S > follow.MAX_WAIT_S + 10


async def test_scaling_reaches_backend_and_agent_and_workers_become_visible(
    harness: Harness,
) -> None:
    cluster, agent = await active(harness)
    await agent.directive()
    spec = pb.ClusterSpec(worker_groups={"default": pb.WorkerGroup(count=3)})
    update = service_pb.UpdateClusterRequest(
        cluster=pb.Cluster(name=cluster.name, spec=spec),
        update_mask=FieldMask(paths=["spec.worker_groups.default"]),
    )
    updated = await harness.clusters.UpdateCluster(update, metadata=as_("alice"))
    assert updated.generation == cluster.generation + 1
    directive = await agent.directive()
    assert directive.groups[0].count == 3
    await agent.report(workers=["default-0", "default-1", "default-2"], idle_ms=-1, no_client_ms=-1)
    while updated.status.worker_groups["default"].running < 3:
        wait = service_pb.WaitClusterRequest(name=cluster.name, after_revision=updated.revision)
        updated = await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
    assert not updated.status.reconciling
    agent.call.cancel()


async def test_a_pace_reaches_the_agent_and_is_shown(harness: Harness) -> None:
    cluster, agent = await active(harness)
    await agent.directive()
    size = pb.Adaptive(minimum=1, maximum=50, wait_count=4)
    size.interval.seconds, size.target_duration.seconds = 2, 60
    spec = pb.ClusterSpec(worker_groups={"default": pb.WorkerGroup(adaptive=size)})
    update = service_pb.UpdateClusterRequest(
        cluster=pb.Cluster(name=cluster.name, spec=spec),
        update_mask=FieldMask(paths=["spec.worker_groups.default"]),
    )
    updated = await harness.clusters.UpdateCluster(update, metadata=as_("alice"))
    assert updated.spec.worker_groups["default"].adaptive == size
    (group,) = (await agent.directive()).groups
    assert (group.interval_ms, group.wait_count, group.target_duration_ms) == (2000, 4, 60_000)
    assert (group.minimum, group.maximum) == (1, 20)
    # what the limits leave is told at once, and not only once it was reconciled
    within = {one.type: one for one in updated.status.conditions}["WithinLimits"]
    assert within.message.startswith("group default: 20 of 50 workers, by the limit of 20 workers")
    for field, value in (("interval", 0), ("interval", 7200), ("target_duration", 10**8)):
        wrong = service_pb.UpdateClusterRequest()
        wrong.CopyFrom(update)
        asked = wrong.cluster.spec.worker_groups["default"].adaptive
        getattr(asked, field).seconds = value
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await harness.clusters.UpdateCluster(wrong, metadata=as_("alice"))
        assert fields(refused.value) == {f"cluster.spec.worker_groups.default.adaptive.{field}"}
    agent.call.cancel()


async def test_a_new_cluster_says_at_once_what_the_limits_leave_of_it(harness: Harness) -> None:
    made = await harness.clusters.CreateCluster(
        create("big", worker_groups={"default": pb.WorkerGroup(count=21)}), metadata=as_("alice")
    )
    (condition,) = made.status.conditions
    assert condition.message.startswith("group default: 20 of 21 workers")


async def test_a_retired_worker_is_stopped_and_goes(harness: Harness) -> None:
    _, agent = await active(harness, worker_groups={"default": pb.WorkerGroup(count=1)})
    await agent.report(workers=["default-0"], idle_ms=-1)
    await agent.report(retired=["default-0"], idle_ms=-1)
    watch = harness.clusters.WatchClusters(service_pb.WatchClustersRequest(), metadata=as_("alice"))
    async for told in watch:
        names = {instance.name for instance in harness.backend.running}
        # one was retired, and the wish is still one
        if "default-1" in names and "default-0" not in names:
            break
        assert told is not None
    watch.cancel()
    agent.call.cancel()


async def test_every_violation_is_told_at_once(harness: Harness) -> None:
    options = Struct()
    options.update(
        {
            "worker_cores": 99,
            "retries": 1.5,
            "queue": "middle",
            "colour": "red",
            "worker_memory": "much",
        }
    )
    request = create(
        "Not An Id",
        options=options,
        backend="moon",
        worker_groups={"default": pb.WorkerGroup(count=-1)},
    )
    request.request_id = "no uuid"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.clusters.CreateCluster(request, metadata=as_("alice"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(caught.value) == "FIELD_INVALID"
    assert fields(caught.value) >= {
        "cluster_id",
        "request_id",
        "cluster.spec.backend",
        "cluster.spec.options.worker_cores",
        "cluster.spec.options.retries",
        "cluster.spec.options.queue",
        "cluster.spec.options.colour",
        "cluster.spec.worker_groups.default.count",
    }
    listed = await harness.clusters.ListClusters(
        service_pb.ListClustersRequest(show_finished=True), metadata=as_("alice")
    )
    assert not listed.clusters


async def test_a_very_long_list_of_violations_still_arrives(harness: Harness) -> None:
    """gRPC's clients refuse trailers beyond 8 KiB, at random, and the whole error was lost with
    them."""
    groups = {"\u202e" * 60 + str(number): pb.WorkerGroup(count=-1) for number in range(200)}
    for _ in range(20):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await harness.clusters.CreateCluster(
                create(worker_groups=groups), metadata=as_("alice")
            )
        assert reason(refused.value) == "FIELD_INVALID"
        *_, last = details(refused.value)["BadRequest"].field_violations
        assert last.description.startswith("and ")


async def test_the_same_request_id_makes_one_cluster(harness: Harness) -> None:
    request = create("")
    first = await harness.clusters.CreateCluster(request, metadata=as_("alice"))
    call = harness.clusters.CreateCluster(request, metadata=as_("alice"))
    assert (await call).uid == first.uid
    assert dict(await call.trailing_metadata())["x-idempotent-replay"] == "1"
    request.cluster_id = "other"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.clusters.CreateCluster(request, metadata=as_("alice"))
    assert reason(caught.value) == "REQUEST_ID_REUSED"


async def test_a_request_id_has_one_effect_even_when_that_was_purged() -> None:
    harness = Harness(patience=Patience(retention_s=0.0))
    await harness.start()
    try:
        request = create("short")
        request.request_id = str(uuid.uuid4())
        made = await harness.clusters.CreateCluster(request, metadata=as_("alice"))
        await harness.clusters.StopCluster(
            service_pb.StopClusterRequest(name=made.name), metadata=as_("alice")
        )
        subscription = harness.store.view.subscribe()
        async with asyncio.timeout(20):
            while harness.store.view.cluster(made.uid) is not None:
                await subscription.next()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await harness.clusters.CreateCluster(request, metadata=as_("alice"))
        assert reason(caught.value) == "CLUSTER_NOT_FOUND"
        assert list(harness.store.view.clusters()) == []
    finally:
        await harness.stop()


async def test_another_users_cluster_and_none_look_the_same(harness: Harness) -> None:
    made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    seen: list[tuple[Any, ...]] = []
    for name in (made.name, "users/alice/clusters/nothing", f"users/alice/clusters/{made.uid}"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await harness.clusters.GetCluster(
                service_pb.GetClusterRequest(name=name), metadata=as_("bob")
            )
        seen.append(
            (
                caught.value.code(),
                caught.value.details(),
                trailers_of(caught.value)["grpc-status-details-bin"],
            )
        )
    assert len(set(seen)) == 1
    assert seen[0][0] is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.clusters.GetCluster(
            service_pb.GetClusterRequest(name=f"users/bob/clusters/{made.uid}"), metadata=as_("bob")
        )
    assert reason(caught.value) == "CLUSTER_NOT_FOUND"


async def test_a_living_clusters_id_is_taken_and_free_again_after_its_end(harness: Harness) -> None:
    cluster, agent = await active(harness)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    assert reason(caught.value) == "CLUSTER_EXISTS"
    await harness.clusters.StopCluster(
        service_pb.StopClusterRequest(name=cluster.name), metadata=as_("alice")
    )
    wait = service_pb.WaitClusterRequest(name=cluster.name, states=[pb.CLUSTER_STATE_STOPPED])
    await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
    again = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    assert again.uid != cluster.uid
    found = await harness.clusters.GetCluster(
        service_pb.GetClusterRequest(name=cluster.name), metadata=as_("alice")
    )
    assert found.uid == again.uid
    agent.call.cancel()


async def test_a_living_clusters_id_is_free_as_soon_as_it_is_told_to_stop(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`c.close(); GatewayCluster("etl")` was refused while the first still stopped."""
    cluster, agent = await active(harness)

    async def slow(targets: object) -> None:
        """Take the wish, and end nothing yet."""

    monkeypatch.setattr(harness.backend, "stop", slow)
    stop = service_pb.StopClusterRequest(name=cluster.name)
    await harness.clusters.StopCluster(stop, metadata=as_("alice"))
    again = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    assert again.uid != cluster.uid
    get = service_pb.GetClusterRequest(name=cluster.name)
    found = await harness.clusters.GetCluster(get, metadata=as_("alice"))
    assert found.uid == again.uid
    get = service_pb.GetClusterRequest(name=f"users/alice/clusters/{cluster.uid}")
    before = await harness.clusters.GetCluster(get, metadata=as_("alice"))
    assert before.status.state == pb.CLUSTER_STATE_STOPPING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    assert reason(caught.value) == "CLUSTER_EXISTS"
    assert "connect to it" in str(caught.value.details())
    agent.call.cancel()


async def test_an_old_etag_is_refused(harness: Harness) -> None:
    made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    update = service_pb.UpdateClusterRequest(
        cluster=pb.Cluster(name=made.name, labels={"a": "b"}, etag=made.etag),
        update_mask=FieldMask(paths=["labels"]),
    )
    await harness.clusters.UpdateCluster(update, metadata=as_("alice"))
    update.cluster.labels["a"] = "c"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.clusters.UpdateCluster(update, metadata=as_("alice"))
    assert caught.value.code() is grpc.StatusCode.ABORTED
    assert reason(caught.value) == "ETAG_MISMATCH"


async def test_pages_hold_every_cluster_once_newest_first(harness: Harness) -> None:
    for number in range(7):
        await harness.clusters.CreateCluster(create(f"c-{number}"), metadata=as_("alice"))
    seen: list[str] = []
    request = service_pb.ListClustersRequest(page_size=3)
    while True:
        page = await harness.clusters.ListClusters(request, metadata=as_("alice"))
        seen += [cluster.name.rpartition("/")[2] for cluster in page.clusters]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == [f"c-{number}" for number in reversed(range(7))]
    request = service_pb.ListClustersRequest(page_size=2, page_token=seen[0])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.clusters.ListClusters(request, metadata=as_("alice"))
    assert fields(caught.value) == {"page_token"}


async def test_only_admins_see_everybody(harness: Harness) -> None:
    await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    everybody = service_pb.ListClustersRequest(parent="users/*")
    assert len((await harness.clusters.ListClusters(everybody, metadata=as_("root"))).clusters) == 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.clusters.ListClusters(everybody, metadata=as_("bob"))
    assert reason(caught.value) == "NOT_PERMITTED"


async def test_a_token_without_the_scope_changes_nothing(harness: Harness) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.clusters.CreateCluster(create(), metadata=as_("reader"))
    assert reason(caught.value) == "NOT_PERMITTED"
    await harness.clusters.ListClusters(service_pb.ListClustersRequest(), metadata=as_("reader"))


async def test_validate_only_stores_nothing(harness: Harness) -> None:
    request = create()
    request.validate_only = True
    answer = await harness.clusters.CreateCluster(request, metadata=as_("alice"))
    assert answer.spec.options["worker_cores"] == 1.0
    assert not (
        await harness.clusters.ListClusters(service_pb.ListClustersRequest(), metadata=as_("alice"))
    ).clusters


async def test_the_offer_has_typed_fields(harness: Harness) -> None:
    offer = await harness.clusters.GetClusterOptions(
        service_pb.GetClusterOptionsRequest(), metadata=as_("alice")
    )
    kinds = {option.name: option.WhichOneof("kind") for option in offer.fields}
    assert kinds == {
        "worker_cores": "float_field",
        "worker_memory": "string_field",
        "retries": "int_field",
        "queue": "select_field",
        "environment": "mapping_field",
    }
    assert list(offer.backends) == ["pretend", "other"]
    assert offer.limits.workers == 20
    assert not offer.limits.HasField("cores")


async def test_a_page_of_large_clusters_ends_before_other_clients_would_refuse_it(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.server.usecases.clusters.MAX_PAGE_BYTES", 4000)
    for number in range(6):
        request = create(f"large-{number}")
        request.cluster.labels["note"] = "x" * 250
        await harness.clusters.CreateCluster(request, metadata=as_("alice"))
    found: list[str] = []
    token, pages = "", 0
    while token or not pages:
        page = await harness.clusters.ListClusters(
            service_pb.ListClustersRequest(page_size=1000, page_token=token), metadata=as_("alice")
        )
        assert page.ByteSize() < 4500
        found += [cluster.name.rpartition("-")[2] for cluster in page.clusters]
        token, pages = page.next_page_token, pages + 1
    assert found == ["5", "4", "3", "2", "1", "0"]
    assert 1 < pages < 6
