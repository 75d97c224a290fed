"""A record that cannot be shown harms nobody else: lists, watches, waits, routes and the reconciler
pass it over, and it can be stopped."""

from __future__ import annotations

import asyncio
import logging
import math
import pathlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from daskgateway.internal.v1 import route_pb2
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import credential_service_pb2 as credential_pb
from google.protobuf.json_format import MessageToJson

from gateway.backends.contract import Resources
from gateway.server.core.model import (
    Activity,
    Cluster,
    Count,
    Event,
    GroupStatus,
    Lifecycle,
    Scheduler,
    Spec,
    State,
    Token,
    WorkerGroup,
)
from gateway.server.store.sqlite.store import SqliteStore
from tests.rpc.harness import Harness, as_
from tests.rpc.test_clusters import active, create
from tests.waiting import comes

EVERYBODY = service_pb.ListClustersRequest(parent="users/*", show_finished=True)


def _group(**fields: Any) -> Callable[[Cluster], Cluster]:
    return lambda c: replace(c, spec=replace(c.spec, groups={"default": WorkerGroup(**fields)}))


def _spec(**fields: Any) -> Callable[[Cluster], Cluster]:
    return lambda c: replace(c, spec=replace(c.spec, **fields))


def _cluster(**fields: Any) -> Callable[[Cluster], Cluster]:
    return lambda c: replace(c, **fields)


# What an older version, a backend or a disk may have left behind; none of it can be told as
# protobuf, or as JSON of it.
SPOILT: dict[str, Callable[[Cluster], Cluster]] = {
    "memory beyond 64 bits": _group(resources=Resources(1.0, 10_000 * 2**50)),
    "workers beyond 32 bits": _group(size=Count(2**40)),
    "an endless lifetime": _spec(lifecycle=Lifecycle(max_lifetime_s=math.inf)),
    "a lifetime beyond durations": _spec(lifecycle=Lifecycle(max_lifetime_s=1e13)),
    "an option that is no number": _spec(options={"ratio": math.nan}),
    "an endless option": _spec(options={"ratio": -math.inf}),
    "an option beyond any float": _spec(options={"many": 10**400}),
    "an option of no type": _spec(options={"many": [[[["x"]]], {"y": math.inf}]}),
    "half a character in its id": _cluster(cluster_id="half-\ud800"),
    "half a character in a label": _cluster(labels={"half": "\udcff"}),
    "half a character in a version": _cluster(scheduler=Scheduler(versions={"dask": "\udcff"})),
    "an instant beyond the year 9999": _cluster(created_at=10**18),
    "an instant before the year 1": _cluster(started_at=-(10**18)),
    "a generation beyond 64 bits": _cluster(generation=2**70),
    "clients beyond 32 bits": _cluster(activity=Activity(clients=2**40)),
    "more than a client takes": _cluster(labels={str(n): "x" * 1024 for n in range(5000)}),
}


async def plant(
    harness: Harness,
    spoil: Callable[[Cluster], Cluster],
    uid: str = "cspoilt" + "a" * 14,
    owner: str = "alice",
) -> str:
    """Store what no call of today would."""
    spec = Spec("pretend", groups={"default": WorkerGroup()})
    now = harness.now_ms()
    sound = Cluster(
        uid, owner, uid[1:8], spec, created_at=now, state_at=now, groups={"default": GroupStatus()}
    )
    await harness.store.transact(lambda tx: tx.put_cluster(spoil(sound)))
    harness.reconciler.wake(uid)
    return uid


async def uids(harness: Harness, request: service_pb.ListClustersRequest, token: str) -> set[str]:
    """Return what is listed, all pages of it, each of which must have its JSON."""
    found: set[str] = set()
    request = service_pb.ListClustersRequest.FromString(request.SerializeToString())
    while True:
        page = await harness.clusters.ListClusters(request, metadata=as_(token))
        MessageToJson(page)
        found |= {cluster.uid for cluster in page.clusters}
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


@pytest.mark.parametrize("kind", SPOILT)
async def test_a_record_that_cannot_be_shown_is_passed_over_by_everybody_else(
    kind: str, harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    good, agent = await active(harness)
    watches = [
        harness.clusters.WatchClusters(service_pb.WatchClustersRequest(), metadata=as_("alice"))
    ]
    watches += [
        harness.clusters.WatchClusters(
            service_pb.WatchClustersRequest(parent="users/*"), metadata=as_("root")
        )
    ]
    for watch in watches:
        while not (await watch.read()).HasField("bookmark"):
            pass
    with caplog.at_level(logging.WARNING):
        bad = await plant(harness, SPOILT[kind])
        for _ in range(3):
            assert await uids(harness, service_pb.ListClustersRequest(page_size=1), "alice") == {
                good.uid
            }
            assert await uids(harness, EVERYBODY, "root") == {good.uid}
        other = await harness.clusters.CreateCluster(create("other"), metadata=as_("alice"))
        for watch in watches:  # those that are open go on, and do not show it
            async with asyncio.timeout(20):
                while (told := await watch.read()).event.cluster.uid != other.uid:
                    assert told.event.cluster.uid != bad
        fresh = harness.clusters.WatchClusters(
            service_pb.WatchClustersRequest(), metadata=as_("alice")
        )
        shown = set()
        async with asyncio.timeout(20):
            while not (told := await fresh.read()).HasField("bookmark"):
                shown.add(told.event.cluster.uid)
        assert shown == {good.uid, other.uid}
        wait = service_pb.WaitClusterRequest(name=good.name, states=[pb.CLUSTER_STATE_ACTIVE])
        assert (await harness.clusters.WaitCluster(wait, metadata=as_("alice"))).uid == good.uid
    lines = [
        record
        for record in caplog.records
        if bad in record.getMessage() and "shown" in record.getMessage()
    ]
    assert len(lines) == 1, [record.getMessage() for record in caplog.records]
    for call in [*watches, fresh, agent.call]:
        call.cancel()


@pytest.mark.parametrize("kind", SPOILT)
async def test_a_record_that_cannot_be_shown_can_be_asked_for_and_stopped(
    kind: str, harness: Harness
) -> None:
    """Or it would run for ever. What can be told of it is told."""
    bad = await plant(harness, SPOILT[kind])
    name = f"users/alice/clusters/{bad}"
    told = await harness.clusters.GetCluster(
        service_pb.GetClusterRequest(name=name), metadata=as_("alice")
    )
    assert (told.uid, told.owner, told.status.reason) == (bad, "alice", "UNSHOWABLE")
    assert told.status.message
    stopped = await harness.clusters.StopCluster(
        service_pb.StopClusterRequest(name=name), metadata=as_("alice")
    )
    assert stopped.uid == bad
    wait = service_pb.WaitClusterRequest(name=name, states=[pb.CLUSTER_STATE_STOPPED])
    async with asyncio.timeout(20):
        assert (
            await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
        ).status.state == pb.CLUSTER_STATE_STOPPED


async def test_a_step_that_always_fails_is_told_once_and_others_are_worked_on(
    harness: Harness, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.server.reconcile.loop.RETRY_S", (0.01, 0.02))
    with caplog.at_level(logging.WARNING):
        bad = await plant(harness, _cluster(purge_at="soon", state=State.STOPPED))
        await comes(lambda: harness.reconciler._failures.get(bad, 0) >= 5)
        await active(harness)
    lines = [record for record in caplog.records if bad in record.getMessage()]
    assert len(lines) == 1, [record.getMessage() for record in caplog.records]


async def test_an_end_that_is_far_beyond_all_time_stops_no_reconciling(harness: Harness) -> None:
    for number in range(40):  # more than there are workers of the loop
        uid = f"cfar{number:02d}".ljust(21, "a").replace("0", "o").replace("1", "l")
        await plant(
            harness,
            _cluster(purge_at=10**400, state=State.STOPPED),
            uid.replace("8", "x").replace("9", "y"),
        )
    await active(harness)


async def test_a_route_that_cannot_be_told_ends_no_stream_of_routes(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        spoilt = _cluster(state=State.ACTIVE, scheduler=Scheduler(address="tls://\udcff:1"))
        bad = await plant(harness, spoilt)
        metadata = (("authorization", "Bearer edge"),)
        watch = harness.routes.WatchRoutes(route_pb2.WatchRoutesRequest(), metadata=metadata)
        assert not (await watch.read()).routes
        good, agent = await active(harness)
        async with asyncio.timeout(20):
            assert [route.uid for route in (await watch.read()).routes] == [good.uid]
        await plant(harness, spoilt, "canother" + "a" * 13)
        second = harness.routes.WatchRoutes(route_pb2.WatchRoutesRequest(), metadata=metadata)
        assert [route.uid for route in (await second.read()).routes] == [good.uid]
    assert (
        len(
            [
                record
                for record in caplog.records
                if bad in record.getMessage() and "route" in record.getMessage()
            ]
        )
        == 1
    )
    for call in (watch, second, agent.call):
        call.cancel()


async def test_events_and_tokens_that_cannot_be_shown_are_passed_over(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    now = harness.now_ms()
    events = [
        Event(made.uid, 10**18, "LATE", "x"),
        Event(made.uid, now, "HALF", "\ud800"),
        Event(made.uid, now, "GOOD", "x"),
    ]
    tokens = [
        Token("late", "alice", b"", expires_at=10**18),
        Token("half", "alice", b"", "\ud800"),
        Token("good", "alice", b""),
    ]
    await harness.store.transact(
        lambda tx: (tx.add_events(events), [tx.put_token(token) for token in tokens])
    )
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            listed = await harness.clusters.ListEvents(
                service_pb.ListEventsRequest(parent=made.name), metadata=as_("alice")
            )
            assert "GOOD" in [event.reason for event in listed.events]
            assert not {"LATE", "HALF"} & {event.reason for event in listed.events}
            found = await harness.credentials.ListTokens(
                credential_pb.ListTokensRequest(), metadata=as_("alice")
            )
            assert [token.id for token in found.tokens] == ["good"]
    lines = [record.getMessage() for record in caplog.records if "shown" in record.getMessage()]
    assert len(lines) == 3, lines  # one of the cluster's events, one each of the tokens


async def test_what_a_machine_room_says_can_be_stored_and_shown_whatever_its_bytes(
    harness: Harness, tmp_path: pathlib.Path
) -> None:
    """Such as a file name that is no UTF-8, in the words of an error."""
    from gateway.backends.contract import StartFailed

    harness = Harness(store=SqliteStore(tmp_path / "gateway.db"))

    async def start(launches: Any) -> Any:
        return {
            launch.instance: StartFailed("no room in /tmp/\udcff", permanent=True)
            for launch in launches
        }

    harness.backend.start = start  # type: ignore[method-assign]
    await harness.start()
    try:
        made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
        wait = service_pb.WaitClusterRequest(name=made.name, states=[pb.CLUSTER_STATE_FAILED])
        async with asyncio.timeout(20):
            failed = await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
        assert failed.status.state == pb.CLUSTER_STATE_FAILED
        assert "no room in /tmp/" in failed.status.message
    finally:
        await harness.stop()


# which no database takes
@pytest.mark.parametrize("kind", [kind for kind in SPOILT if kind != "half a character in its id"])
async def test_a_server_starts_with_records_that_cannot_be_shown(
    kind: str, tmp_path: pathlib.Path
) -> None:
    first = Harness(store=SqliteStore(tmp_path / "gateway.db"))
    await first.start()
    made = await first.clusters.CreateCluster(create(), metadata=as_("alice"))
    bad = await plant(first, SPOILT[kind])
    await first.stop()
    again = Harness(store=SqliteStore(tmp_path / "gateway.db"), backend=first.backend)
    await again.start()
    try:
        assert await uids(again, EVERYBODY, "root") == {made.uid}
        await again.clusters.StopCluster(
            service_pb.StopClusterRequest(name=f"users/alice/clusters/{bad}"), metadata=as_("alice")
        )
        wait = service_pb.WaitClusterRequest(
            name=f"users/alice/clusters/{bad}", states=[pb.CLUSTER_STATE_STOPPED]
        )
        async with asyncio.timeout(20):
            assert (
                await again.clusters.WaitCluster(wait, metadata=as_("alice"))
            ).status.state == pb.CLUSTER_STATE_STOPPED
    finally:
        await again.stop()


async def test_tokens_that_were_made_before_1970_end_no_list(harness: Harness) -> None:
    """As a clock that was wrong leaves them: where the next page begins is told by that instant."""
    tokens = [Token(str(at), "alice", b"", created_at=at) for at in (-(2**53), -5, -1, 0, 5)]
    await harness.store.transact(lambda tx: [tx.put_token(token) for token in tokens])
    found, page_token = [], ""
    for _ in tokens:
        request = credential_pb.ListTokensRequest(page_size=1, page_token=page_token)
        page = await harness.credentials.ListTokens(request, metadata=as_("alice"))
        found += [token.id for token in page.tokens]
        page_token = page.next_page_token
    assert (found, page_token) == (["5", "0", "-1", "-5"], "")
