"""What clusters and users leave behind in the database is bounded: the newest of it is kept,
whoever else is there."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator

import pytest

from gateway.server.core.model import Event, Remembered
from gateway.server.store.contract import Keeping, Tx
from gateway.server.store.sqlite.counts import MAX_KNOWN, RowCounts
from gateway.server.store.sqlite.store import SqliteStore
from tests.store.test_stores import a_cluster

LITTLE = Keeping(
    events_per_cluster=100, events_per_ended=20, events_per_user=300, effects_per_user=100
)


@pytest.fixture
async def store(tmp_path: pathlib.Path) -> AsyncIterator[SqliteStore]:
    """A store that keeps little."""
    made = SqliteStore(tmp_path / "gateway.db", keeping=LITTLE)
    await made.open()
    yield made
    await made.close()


async def counted(store: SqliteStore, uid: str) -> int:
    """Return how many events of a cluster there are."""
    return len(await store.read(lambda tx: tx.events(uid, limit=10_000)))


async def test_events_of_a_cluster_and_of_all_clusters_of_a_user_are_bounded(
    store: SqliteStore,
) -> None:
    others = a_cluster(99, "other", "bob")
    await store.transact(
        lambda tx: (
            tx.put_cluster(others),
            tx.add_events([Event(others.uid, 1, "R", str(n)) for n in range(90)]),
        )
    )
    uids = [a_cluster(n).uid for n in range(10)]
    for n in range(10):
        await store.transact(lambda tx, n=n: tx.put_cluster(a_cluster(n, f"c{n}")))  # type: ignore[misc]
    for number in range(60):
        for uid in uids:
            await store.transact(
                lambda tx, u=uid, m=number: tx.add_events(  # type: ignore[misc]
                    [Event(u, m, "R", f"{m} {i}") for i in range(5)]
                )
            )
    mine = [await counted(store, uid) for uid in uids]
    assert max(mine) <= 150
    assert sum(mine) <= 330
    assert await counted(store, others.uid) == 90
    newest = await store.read(lambda tx: tx.events(uids[-1], limit=1))
    assert newest[0][1].message == "59 4"


async def test_bounds_hold_over_restarts(tmp_path: pathlib.Path) -> None:
    uid = a_cluster().uid
    for start in range(40):
        store = SqliteStore(tmp_path / "gateway.db", keeping=LITTLE)
        await store.open()

        def write(tx: Tx, start: int = start) -> None:
            tx.put_cluster(tx.cluster(uid) or a_cluster())
            tx.add_events([Event(uid, 1, "R", str(n)) for n in range(10)])
            for n in range(10):
                tx.remember(
                    Remembered("alice", "CreateCluster", f"{start} {n}", b"digest", uid, start)
                )

        await store.transact(write)
        if start == 39:
            assert await counted(store, uid) <= 150
            assert await effects(store, range(40)) <= 130
        await store.close()


async def effects(store: SqliteStore, starts: range) -> int:
    """Return how many effects of alice are remembered."""
    return await store.read(
        lambda tx: sum(
            tx.remembered("alice", "CreateCluster", f"{start} {n}") is not None
            for start in starts
            for n in range(10)
        )
    )


async def test_the_effects_of_a_user_are_bounded_and_those_of_others_stay(
    store: SqliteStore,
) -> None:
    await store.transact(
        lambda tx: tx.remember(Remembered("bob", "CreateCluster", "first", b"digest", "uid", 0))
    )
    for start in range(50):
        for n in range(10):
            effect = Remembered("alice", "CreateCluster", f"{start} {n}", b"digest", "uid", start)
            await store.transact(lambda tx, e=effect: tx.remember(e))  # type: ignore[misc]
    assert await effects(store, range(50)) <= 110
    assert await effects(store, range(49, 50)) == 10
    assert await store.read(lambda tx: tx.remembered("bob", "CreateCluster", "first")) is not None


async def test_an_ended_cluster_keeps_its_last_events_and_no_secrets(store: SqliteStore) -> None:
    uid = a_cluster().uid

    def live(tx: Tx) -> None:
        tx.put_cluster(a_cluster())
        tx.put_secrets(uid, b"sealed")
        tx.add_events([Event(uid, 1, "R", str(n)) for n in range(60)])

    await store.transact(live)
    await store.transact(lambda tx: tx.drop_remains(uid))
    assert [
        event.message for _, event in await store.read(lambda tx: tx.events(uid, limit=100))
    ] == [str(n) for n in range(59, 39, -1)]
    assert await store.read(lambda tx: tx.secrets(uid)) is None


def test_counts_that_nobody_asks_for_are_forgotten() -> None:
    counts = RowCounts()
    assert counts.add("alice", 3) is None
    counts.know("alice", 10)
    assert counts.add("alice", 3) == 13
    for n in range(MAX_KNOWN):
        counts.know(f"user{n}", 0)
    assert counts.add("alice", 1) is None
