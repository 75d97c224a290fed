"""What has ended does not pile up: of each user so many are kept, and little of each, in memory, on
disk and in the machine room."""

from __future__ import annotations

import asyncio
import gc
import pathlib
import random
import string
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from google.protobuf.json_format import MessageToJson

from gateway.server.core.model import Cluster, Event
from gateway.server.core.quotas import Quotas
from gateway.server.store.sqlite import pending
from gateway.server.store.sqlite.store import SqliteStore
from tests.rpc.harness import Harness, PretendAgent, as_
from tests.rpc.test_clusters import create
from tests.waiting import comes

KEPT = 5


@pytest.fixture(params=["memory", "sqlite"])
async def keeping(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> AsyncIterator[Harness]:
    """A server that keeps few ended clusters."""
    made = Harness(quotas=Quotas(ended=KEPT))
    if request.param == "sqlite":
        made.store = SqliteStore(tmp_path / "gateway.db")
    await made.start()
    yield made
    await made.stop()


def large(seed: int) -> dict[str, Any]:
    """Return options of about 56 KB that no compression makes small."""
    rng = random.Random(seed)
    return {
        "environment": {
            f"V{n}": "".join(rng.choices(string.printable[:90], k=7000)) for n in range(8)
        }
    }


async def ended(
    harness: Harness, caller: str = "alice", options: dict[str, Any] | None = None
) -> pb.Cluster:
    """Return a cluster that was made and stopped."""
    request = create("")
    request.cluster.spec.options.update(options or {})
    made = await harness.clusters.CreateCluster(request, metadata=as_(caller))
    await harness.clusters.StopCluster(
        service_pb.StopClusterRequest(name=made.name), metadata=as_(caller)
    )
    name = f"users/{caller}/clusters/{made.uid}"
    wait = service_pb.WaitClusterRequest(name=name, states=[pb.CLUSTER_STATE_STOPPED])
    return await harness.clusters.WaitCluster(wait, metadata=as_(caller))


async def test_of_many_that_have_ended_the_last_are_kept(
    keeping: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    purged: list[str] = []

    async def purge(uid: str) -> None:
        purged.append(uid)

    monkeypatch.setattr(keeping.backend, "purge", purge)
    of_bob = await ended(keeping, "bob")
    living = await keeping.clusters.CreateCluster(create("lives"), metadata=as_("alice"))
    watch = keeping.clusters.WatchClusters(service_pb.WatchClustersRequest(), metadata=as_("alice"))
    while not (await watch.read()).HasField("bookmark"):
        pass
    uids = [(await ended(keeping)).uid for _ in range(KEPT + 7)]
    view = keeping.store.view
    await comes(lambda: len(view.ended("alice")) == KEPT)
    assert [cluster.uid for cluster in view.ended("alice")] == uids[-KEPT:]
    await comes(lambda: sorted(purged) == sorted(uids[:-KEPT]))  # their logs too
    removed: set[str] = set()
    async with asyncio.timeout(20):
        while len(removed) < 7:
            told = await watch.read()
            if told.event.type == service_pb.WATCH_EVENT_TYPE_REMOVED:
                removed.add(told.event.cluster.uid)
    assert removed == set(uids[:-KEPT])
    assert view.cluster(living.uid) is not None
    assert [cluster.uid for cluster in view.ended("bob")] == [of_bob.uid]
    watch.cancel()


async def test_a_server_that_is_to_keep_fewer_purges_at_its_start(tmp_path: pathlib.Path) -> None:
    first = Harness(store=SqliteStore(tmp_path / "gateway.db"))
    await first.start()
    uids = [(await ended(first)).uid for _ in range(6)]
    await first.stop()
    again = Harness(
        store=SqliteStore(tmp_path / "gateway.db"), backend=first.backend, quotas=Quotas(ended=2)
    )
    await again.start()
    try:
        await comes(
            lambda: [cluster.uid for cluster in again.store.view.clusters()] == uids[:-3:-1]
        )
    finally:
        await again.stop()


async def test_what_an_ended_cluster_needs_no_more_is_gone_and_what_was_cut_says_so(
    keeping: Harness,
) -> None:
    stopped = await ended(keeping, options=large(1) | {"worker_cores": 2})
    record: Cluster = keeping.store.view.cluster(stopped.uid)
    assert record.spec.settings == record.spec.groups["default"].settings == {}
    assert record.scheduler.handle == record.scheduler.address == ""
    assert await keeping.store.read(lambda tx: tx.secrets(stopped.uid)) is None
    found = await keeping.clusters.GetCluster(
        service_pb.GetClusterRequest(name=stopped.name), metadata=as_("alice")
    )
    MessageToJson(found)
    assert found.ByteSize() < 4096
    assert found.spec.options["worker_cores"] == 2.0
    assert found.spec.options["environment"]["…"] == "8 of 8 were not kept after the end"
    assert found.status.worker_groups["default"].worker_memory_bytes == 2 * 2**30


async def test_of_an_ended_clusters_events_the_last_are_kept(keeping: Harness) -> None:
    made = await keeping.clusters.CreateCluster(create(), metadata=as_("alice"))
    events = [Event(made.uid, keeping.now_ms(), "NOISE", str(n)) for n in range(500)]
    await keeping.store.transact(lambda tx: tx.add_events(events))
    await keeping.clusters.StopCluster(
        service_pb.StopClusterRequest(name=made.name), metadata=as_("alice")
    )
    wait = service_pb.WaitClusterRequest(name=made.name, states=[pb.CLUSTER_STATE_STOPPED])
    await keeping.clusters.WaitCluster(wait, metadata=as_("alice"))
    told = await keeping.store.read(lambda tx: tx.events(made.uid, limit=1000))
    assert len(told) == 100
    assert told[0][1].reason == "STOPPED"


async def test_a_spec_is_written_when_it_is_wished_and_at_the_end_and_not_with_every_step(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = Harness(store=SqliteStore(tmp_path / "gateway.db"))
    await harness.start()
    written: list[str] = []
    run = pending._put_specs.run

    def count(cursor: Any, dialect: Any, rows: Any) -> None:
        written.extend(row["uid"] for row in rows)
        run(cursor, dialect, rows)

    monkeypatch.setattr(pending._put_specs, "run", count)
    try:
        made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
        agent = PretendAgent(harness, made.uid)
        await agent.hello()
        wait = service_pb.WaitClusterRequest(name=made.name, states=[pb.CLUSTER_STATE_ACTIVE])
        active = await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
        assert active.revision > made.revision + 1
        await harness.clusters.StopCluster(
            service_pb.StopClusterRequest(name=made.name), metadata=as_("alice")
        )
        wait = service_pb.WaitClusterRequest(name=made.name, states=[pb.CLUSTER_STATE_STOPPED])
        await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
        assert written == [made.uid, made.uid]
        agent.call.cancel()
    finally:
        await harness.stop()


@pytest.mark.slow
async def test_memory_and_disk_of_ended_clusters_are_small_and_bounded(
    tmp_path: pathlib.Path,
) -> None:
    """216 that were made and stopped within seconds had taken 190 MiB of memory and 96 MB of disk,
    for a day."""
    most = 30
    harness = Harness(store=SqliteStore(tmp_path / "gateway.db"), quotas=Quotas(ended=most))
    await harness.start()
    try:
        for seed in range(8):  # whatever is made once is made by now
            await ended(harness, "bob", large(seed))

        async def churn(count: int) -> tuple[int, int]:
            for seed in range(0, count, 6):
                await asyncio.gather(*(ended(harness, "alice", large(seed + n)) for n in range(6)))
            await comes(lambda: len(harness.store.view.ended("alice")) <= most)
            gc.collect()
            return tracemalloc.get_traced_memory()[0], (tmp_path / "gateway.db").stat().st_size

        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        held, file = await churn(most)
        assert (held - before) / most < 16 * 1024  # each of these asked for 56 KB
        later, larger = await churn(5 * most)
        assert later - held < 512 * 1024  # five times as many take no more
        assert larger - file < 4 * 2**20
        assert larger < 8 * 2**20
    finally:
        tracemalloc.stop()
        await harness.stop()
