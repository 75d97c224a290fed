"""What the writer of SQLite knows is what its file holds, whatever fails."""

from __future__ import annotations

import pathlib
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.server.core.model import Cluster, Spec, State, Worker
from gateway.server.store.contract import StoreUnreachable, Tx
from gateway.server.store.sqlite import SqliteStore

UID = "c" + "a" * 20
CLUSTER = Cluster(UID, "alice", "etl", Spec("local"))


def worker(number: int, **fields: Any) -> Worker:
    """Return a worker."""
    return Worker(UID, f"default-{number}", "default", created_at=number, **fields)


def names(workers: list[Worker]) -> list[str]:
    """Return the workers' names."""
    return [found.name for found in workers]


@pytest.fixture
async def store(tmp_path: pathlib.Path) -> AsyncIterator[SqliteStore]:
    """An open store with a cluster of two workers."""
    made = SqliteStore(tmp_path / "gateway.db")
    await made.open()

    def fill(tx: Tx) -> None:
        tx.put_cluster(CLUSTER)
        tx.put_workers([worker(0), worker(1)])

    await made.transact(fill)
    yield made
    await made.close()


async def test_the_writer_and_a_reader_see_the_same_after_every_kind_of_write(store: SqliteStore) -> None:
    def change(tx: Tx) -> list[Worker]:
        tx.put_workers([worker(2), worker(0, connected=True)])
        tx.delete_workers(UID, ["default-1", "never-there"])
        return tx.workers(UID)

    within = await store.transact(change)
    assert names(within) == ["default-0", "default-2"]
    for look in (store.read, store.transact):
        assert await look(lambda tx: tx.workers(UID)) == within
        assert await look(lambda tx: tx.cluster(UID)) == store.view.cluster(UID)
        assert await look(lambda tx: tx.count_living()) == 1


async def test_a_function_that_fails_leaves_nothing_in_the_writers_memory(store: SqliteStore) -> None:
    def fail(tx: Tx) -> None:
        tx.put_workers([worker(7)])
        tx.delete_workers(UID, ["default-0"])
        tx.put_cluster(replace(CLUSTER, state=State.STOPPED))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.transact(fail)
    assert names(await store.transact(lambda tx: tx.workers(UID))) == ["default-0", "default-1"]
    assert await store.transact(lambda tx: tx.count_living()) == 1


async def test_after_a_commit_that_failed_the_writer_reads_its_file_anew(store: SqliteStore) -> None:
    def write_then_break(tx: Tx) -> None:
        tx.put_workers([worker(8)])
        tx.put_cluster(replace(CLUSTER, state=State.STOPPED))
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(StoreUnreachable, match="disk I/O error"):
        await store.transact(write_then_break)
    assert names(await store.transact(lambda tx: tx.workers(UID))) == ["default-0", "default-1"]
    found = await store.transact(lambda tx: tx.cluster(UID))
    assert found is not None
    assert found.state is State.PENDING
    assert await store.transact(lambda tx: tx.count_living("alice")) == 1


async def test_a_purged_cluster_is_gone_for_the_writer_too(store: SqliteStore) -> None:
    def purge(tx: Tx) -> tuple[Cluster | None, list[Worker]]:
        tx.purge_cluster(UID)
        return tx.cluster(UID), tx.workers(UID)

    assert await store.transact(purge) == (None, [])
    assert await store.transact(lambda tx: (tx.cluster(UID), tx.workers(UID), tx.count_living())) == (None, [], 0)
