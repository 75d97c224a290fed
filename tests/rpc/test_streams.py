"""Watches, logs, agents and routes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from daskgateway.internal.v1 import agent_pb2, route_pb2
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from gateway.backends.contract import BackendUnavailable
from gateway.server.core.errors import CredentialsInvalid, RightsChanged
from gateway.server.core.model import GroupStatus
from gateway.server.rpc import agent_service, route_service
from gateway.server.rpc.agent_service import news_of
from tests.rpc.harness import Harness, PretendAgent, as_
from tests.rpc.test_clusters import active, create, fields, reason
from tests.waiting import comes


async def test_a_watch_tells_the_present_then_a_bookmark_then_changes(harness: Harness) -> None:
    await harness.clusters.CreateCluster(create("one"), metadata=as_("alice"))
    watch = harness.clusters.WatchClusters(service_pb.WatchClustersRequest(), metadata=as_("alice"))
    first = await watch.read()
    assert first.event.type == service_pb.WATCH_EVENT_TYPE_ADDED
    assert first.event.cluster.name.endswith("/one")
    assert (await watch.read()).bookmark.initial_state_complete
    await harness.clusters.CreateCluster(create("two"), metadata=as_("alice"))
    while True:
        told = await watch.read()
        if told.event.cluster.name.endswith("/two"):
            break
    assert told.event.type == service_pb.WATCH_EVENT_TYPE_ADDED
    watch.cancel()


async def test_a_watch_begins_with_what_a_list_shows(harness: Harness) -> None:
    """It began with finished clusters, which a list hides."""
    ended = await harness.clusters.CreateCluster(create("ended"), metadata=as_("alice"))
    await harness.clusters.StopCluster(
        service_pb.StopClusterRequest(name=ended.name), metadata=as_("alice")
    )
    wait = service_pb.WaitClusterRequest(name=ended.name, states=[pb.CLUSTER_STATE_STOPPED])
    await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
    await harness.clusters.CreateCluster(create("lives"), metadata=as_("alice"))

    async def present(**words: Any) -> set[str]:
        watch = harness.clusters.WatchClusters(
            service_pb.WatchClustersRequest(**words), metadata=as_("alice")
        )
        found = set()
        while (told := await watch.read()).HasField("event"):
            found.add(told.event.cluster.name)
        watch.cancel()
        return found

    listed = await harness.clusters.ListClusters(
        service_pb.ListClustersRequest(), metadata=as_("alice")
    )
    assert await present() == {cluster.name for cluster in listed.clusters}
    assert await present() == {"users/alice/clusters/lives"}
    assert len(await present(clusters=[ended.uid])) == 1  # whoever asks for it is told


async def test_a_watch_resumes_after_a_revision_and_misses_nothing(harness: Harness) -> None:
    await harness.clusters.CreateCluster(create("one"), metadata=as_("alice"))
    page = await harness.clusters.ListClusters(
        service_pb.ListClustersRequest(), metadata=as_("alice")
    )
    await harness.clusters.CreateCluster(create("two"), metadata=as_("alice"))
    request = service_pb.WatchClustersRequest(start_revision=page.revision)
    watch = harness.clusters.WatchClusters(request, metadata=as_("alice"))
    names = set()
    while "users/alice/clusters/two" not in names:
        told = await watch.read()
        assert told.revision > page.revision
        names.add(told.event.cluster.name)
    watch.cancel()


async def test_a_future_revision_is_refused(harness: Harness) -> None:
    watch = harness.clusters.WatchClusters(
        service_pb.WatchClustersRequest(start_revision=10**9), metadata=as_("alice")
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch.read()
    assert fields(caught.value) == {"start_revision"}


async def test_an_idle_watch_gets_bookmarks(harness: Harness) -> None:
    request = service_pb.WatchClustersRequest(bookmark_interval=Duration(seconds=1))
    watch = harness.clusters.WatchClusters(request, metadata=as_("alice"))
    assert (await watch.read()).bookmark.initial_state_complete
    told = await watch.read()
    assert told.HasField("bookmark")
    assert not told.bookmark.initial_state_complete
    watch.cancel()


async def test_a_drain_says_goodbye_and_ends_at_once(harness: Harness) -> None:
    watch = harness.clusters.WatchClusters(service_pb.WatchClustersRequest(), metadata=as_("alice"))
    await watch.read()
    harness.draining.set()
    assert (await watch.read()).HasField("goodbye")
    assert await watch.read() is grpc.aio.EOF  # type: ignore[attr-defined]
    await asyncio.wait_for(harness.server.stop(30), 5)


async def test_streams_of_one_user_are_bounded(harness: Harness) -> None:
    watches = [
        harness.clusters.WatchClusters(service_pb.WatchClustersRequest(), metadata=as_("alice"))
        for _ in range(50)
    ]
    for watch in watches:
        await watch.read()
    beyond = harness.clusters.WatchClusters(
        service_pb.WatchClustersRequest(), metadata=as_("alice")
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await beyond.read()
    assert reason(caught.value) == "OVERLOADED"
    other = harness.clusters.WatchClusters(service_pb.WatchClustersRequest(), metadata=as_("bob"))
    await other.read()
    for watch in [*watches, other]:
        watch.cancel()


async def test_a_stream_ends_with_the_credentials_it_was_opened_with(harness: Harness) -> None:
    mine, other = [
        harness.clusters.WatchClusters(service_pb.WatchClustersRequest(), metadata=as_(user))
        for user in ("alice", "bob")
    ]
    for watch in (mine, other):
        await watch.read()
    for token, end in tuple(harness.doors.held):
        if token == "alice":
            end(CredentialsInvalid())
            end(RightsChanged())  # the first counts
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await mine.read()
    assert reason(caught.value) == "CREDENTIALS_INVALID"
    assert [token for token, _ in harness.doors.held] == ["bob"]
    await harness.clusters.CreateCluster(create(), metadata=as_("bob"))
    assert (await other.read()).event.cluster.name == "users/bob/clusters/etl"
    other.cancel()


async def test_logs_of_all_or_some_instances(harness: Harness) -> None:
    cluster, agent = await active(harness, worker_groups={"default": pb.WorkerGroup(count=2)})
    await agent.report(workers=["default-0", "default-1"])
    harness.backend.texts = {"scheduler": "s\n", "default-1": "w\n"}
    request = service_pb.StreamLogsRequest(name=cluster.name)
    while len(harness.backend.running) < 3:
        wait = service_pb.WaitClusterRequest(name=cluster.name, after_revision=cluster.revision)
        cluster = await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
    pieces = [
        (p.instance, p.text)
        async for p in harness.clusters.StreamLogs(request, metadata=as_("alice"))
    ]
    assert pieces == [("scheduler", "s\n"), ("default-1", "w\n")]
    request.instances.append("default-9")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.clusters.StreamLogs(request, metadata=as_("alice")).read()
    assert fields(caught.value) == {"instances"}
    agent.call.cancel()


async def test_logs_of_a_machine_room_that_does_not_answer_are_unavailable_not_a_fault(
    harness: Harness,
) -> None:
    async def unanswered(*_: Any, **__: Any) -> AsyncIterator[str]:
        raise BackendUnavailable("sacct did not answer")
        yield ""

    cluster, _ = await active(harness)
    harness.backend.logs = unanswered  # type: ignore[method-assign]
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await harness.clusters.StreamLogs(
            service_pb.StreamLogsRequest(name=cluster.name), metadata=as_("alice")
        ).read()
    assert told.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason(told.value) == "BACKEND_UNAVAILABLE"
    assert "sacct" not in (told.value.details() or "")


async def test_events_tell_what_happened(harness: Harness) -> None:
    cluster, agent = await active(harness)
    request = service_pb.ListEventsRequest(parent=cluster.name, page_size=2)
    reasons: list[str] = []
    while True:
        page = await harness.clusters.ListEvents(request, metadata=as_("alice"))
        reasons += [event.reason for event in page.events]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert reasons[-1] == "CREATED"
    assert reasons[0] == "ACTIVE"
    agent.call.cancel()


async def test_an_agent_is_believed_only_with_its_own_token(harness: Harness) -> None:
    made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    for token, uid in (("wrong", made.uid), ("agent", "c" + "z" * 20)):
        agent = PretendAgent(harness, uid, token)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await agent.call.read()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_an_agents_malformed_address_is_refused(harness: Harness) -> None:
    made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    agent = PretendAgent(harness, made.uid)
    await agent.report(snapshot=True, scheduler_address="tls://nowhere")
    await agent.directive()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await agent.call.read()
    assert fields(caught.value) == {"scheduler_address"}


INWARD = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "localhost",
    "localhost.",
    "169.254.169.254",
    "0.0.0.0",
]


@pytest.mark.parametrize("host", INWARD)
async def test_an_agent_elsewhere_cannot_point_the_edge_at_its_own_machine(host: str) -> None:
    """Its connection may well come from here: from the edge, which passes it on. Nor does a setting
    that users choose say where it is."""
    harness = Harness(local_backends=())
    await harness.start()
    harness.offers.settings = {**harness.offers.settings, "scheduler_host": "127.0.0.1"}
    made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    for field in ("scheduler_address", "dashboard_address"):
        agent = PretendAgent(harness, made.uid)
        await agent.directive()
        await agent.report(snapshot=True, **{field: f"{host}:8786"})
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await agent.directive()
        assert fields(caught.value) == {field}
    await harness.stop()


@pytest.mark.parametrize(
    "address",
    [
        "--preload:80",
        "tls://--host=x:80",
        "-h:1",
        "tls://a b:1",
        "tls://user@10.0.0.1:1",
        "tls://10.0.0.1:1/x",
    ],
)
async def test_an_address_that_a_command_would_take_for_a_flag_is_refused(
    harness: Harness, address: str
) -> None:
    made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    agent = PretendAgent(harness, made.uid)
    await agent.directive()
    await agent.report(snapshot=True, scheduler_address=address)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await agent.directive()
    assert fields(caught.value) == {"scheduler_address"}


def test_names_that_no_worker_ever_had_are_not_kept() -> None:
    """They come from a user's scheduler, as many as it likes, and are kept until the cluster's next
    step."""
    made_up = [f"default-{n}" for n in range(1000)] + [
        "other-0",
        "default-x",
        "default",
        "-1",
        "default-²",
        "default-01",
        "default-00",
        "default--1",
        "default-1 ",
        "default-" + "9" * 5000,
    ]
    report = agent_pb2.AgentReport(workers=made_up, left=made_up, retired=made_up)
    news = news_of(report, 0, {"default": GroupStatus(next_sequence=2)}, local=True)
    assert news.workers == news.left == news.retired == {"default-0", "default-1"}


async def test_an_agent_whose_reports_are_refused_cannot_call_again_at_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a user's program, which knows no pause."""
    monkeypatch.setattr(agent_service, "REFUSAL_S", 0.3)
    made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(3):
        agent = PretendAgent(harness, made.uid)
        await agent.directive()
        await agent.report(snapshot=False)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await agent.directive()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert loop.time() - began >= 0.9


async def test_routes_come_and_go_with_clusters(harness: Harness) -> None:
    metadata = (("authorization", "Bearer edge"),)
    watch = harness.routes.WatchRoutes(route_pb2.WatchRoutesRequest(), metadata=metadata)
    first = await watch.read()
    assert first.snapshot
    assert list(first.ticket_keys) == [b"k" * 32]
    cluster, agent = await active(harness)
    update = await watch.read()
    assert [(route.uid, route.scheduler_address, route.local) for route in update.routes] == [
        (cluster.uid, "127.0.0.1:9", True)
    ]
    await harness.clusters.StopCluster(
        service_pb.StopClusterRequest(name=cluster.name), metadata=as_("alice")
    )
    assert list((await watch.read()).removed) == [cluster.uid]
    watch.cancel()
    agent.call.cancel()


async def test_a_route_says_whether_its_backend_runs_on_this_machine() -> None:
    harness = Harness(local_backends=("other",))
    await harness.start()
    made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    agent = PretendAgent(harness, made.uid)
    await agent.report(snapshot=True, scheduler_address="tls://10.0.0.1:9")
    watch = harness.routes.WatchRoutes(route_pb2.WatchRoutesRequest(), metadata=as_("edge"))
    while not (update := await watch.read()).routes:
        pass
    assert [(route.uid, route.local) for route in update.routes] == [(made.uid, False)]
    watch.cancel()
    agent.call.cancel()
    await harness.stop()


async def test_the_edge_is_told_that_the_server_lives_while_what_changes_are_no_routes(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as clusters that wait in a queue: whatever is told of them came in place of the sign of
    life."""
    monkeypatch.setattr(route_service, "HEARTBEAT_S", 0.3)
    watch = harness.routes.WatchRoutes(
        route_pb2.WatchRoutesRequest(), metadata=(("authorization", "Bearer edge"),)
    )
    assert (await watch.read()).snapshot
    cluster = await harness.clusters.CreateCluster(create("waits"), metadata=as_("alice"))

    async def change() -> None:
        for turn in itertools.count():
            changed = pb.Cluster(name=cluster.name, labels={"turn": str(turn)})
            request = service_pb.UpdateClusterRequest(
                cluster=changed, update_mask=FieldMask(paths=["labels"])
            )
            await harness.clusters.UpdateCluster(request, metadata=as_("alice"))

    changing = asyncio.ensure_future(change())
    try:
        async with asyncio.timeout(20):
            for _ in range(3):
                told = await watch.read()
                assert not told.snapshot
                assert not told.routes
        assert not changing.done()
    finally:
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)
        watch.cancel()


async def test_routes_are_for_edges_only(harness: Harness) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.routes.WatchRoutes(
            route_pb2.WatchRoutesRequest(), metadata=as_("root")
        ).read()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_snapshots_that_an_agent_sends_one_after_the_other_are_taken_in_together(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each was stored at once: fifty changes a second for as long as its user liked, which all
    watches were told of."""
    monkeypatch.setattr("gateway.server.reconcile.loop.NEWS_DELAY_S", 0.5)
    cluster, agent = await active(harness)
    before = harness.store.view.revision
    for number in range(20):
        await agent.report(
            snapshot=True,
            scheduler_address="tls://127.0.0.1:9",
            versions={"dask": str(number)},
            idle_ms=-1,
            no_client_ms=-1,
        )
    await comes(
        lambda: harness.store.view.cluster(cluster.uid).scheduler.versions == {"dask": "19"}
    )
    assert harness.store.view.revision - before < 15
    agent.call.cancel()
