"""What the writer of SQLite knows is what its file holds, whatever fails."""

from __future__ import annotations

import asyncio
import pathlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.server.core.model import Cluster, Event, Remembered, Spec, State, Token, Worker
from gateway.server.store.contract import Conflict, StoreUnreachable, Tx
from gateway.server.store.sqlite import mirror, pending
from gateway.server.store.sqlite import tx as sql
from gateway.server.store.sqlite.store import SqliteStore

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


async def test_the_writer_and_a_reader_see_the_same_after_every_kind_of_write(
    store: SqliteStore,
) -> None:
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


async def test_a_function_that_fails_leaves_nothing_in_the_writers_memory(
    store: SqliteStore,
) -> None:
    def fail(tx: Tx) -> None:
        tx.put_workers([worker(7)])
        tx.delete_workers(UID, ["default-0"])
        tx.put_cluster(replace(CLUSTER, state=State.STOPPED))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.transact(fail)
    assert names(await store.transact(lambda tx: tx.workers(UID))) == ["default-0", "default-1"]
    assert await store.transact(lambda tx: tx.count_living()) == 1


async def test_after_a_commit_that_failed_the_writer_reads_its_file_anew(
    store: SqliteStore,
) -> None:
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
    assert await store.transact(
        lambda tx: (tx.cluster(UID), tx.workers(UID), tx.count_living())
    ) == (None, [], 0)


async def in_one_group(store: SqliteStore, *functions: Callable[[Tx], Any]) -> list[Any]:
    """Run functions so that they are committed together; return what each returned or raised."""
    entered, go = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        entered.set()
        go.wait(10)

    holding = asyncio.ensure_future(store.transact(hold))
    await asyncio.to_thread(entered.wait, 10)
    waiting = [asyncio.ensure_future(store.transact(function)) for function in functions]
    await asyncio.sleep(0)  # each has its turn to queue up
    before = store.view.revision
    go.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    await holding
    assert store.view.revision >= before
    return results


async def test_in_a_group_a_name_is_that_of_the_first_who_asked(store: SqliteStore) -> None:
    one, other = (replace(CLUSTER, uid=f"c{number:020d}", cluster_id="new") for number in (1, 2))
    first, second = await in_one_group(
        store, lambda tx: tx.put_cluster(one), lambda tx: tx.put_cluster(other)
    )
    assert first.uid == one.uid
    assert isinstance(second, Conflict)
    ended, third = await in_one_group(
        store,
        lambda tx: tx.put_cluster(replace(first, state=State.STOPPED)),
        lambda tx: tx.put_cluster(other),
    )
    assert (ended.state, third.uid) == (State.STOPPED, other.uid)
    found = await store.read(lambda tx: tx.cluster(other.uid))
    assert found == third == store.view.named("alice", "new")


async def test_a_name_that_a_purge_freed_is_its_heirs(store: SqliteStore) -> None:
    heir, third = (replace(CLUSTER, uid=f"c{number:020d}") for number in (1, 2))

    def hand_on(tx: Tx) -> None:
        tx.purge_cluster(UID)
        tx.put_cluster(heir)

    await store.transact(hand_on)
    other, late = await in_one_group(
        store, lambda tx: tx.put_meta("k", b"v"), lambda tx: tx.put_cluster(third)
    )
    assert other is None
    assert isinstance(late, Conflict)


async def test_in_a_group_a_name_may_go_to_and_fro(store: SqliteStore) -> None:
    ended = await store.transact(lambda tx: tx.put_cluster(replace(CLUSTER, state=State.STOPPED)))
    heir = await store.transact(lambda tx: tx.put_cluster(replace(CLUSTER, uid="c" + "b" * 20)))
    results = await in_one_group(
        store,
        lambda tx: tx.put_cluster(replace(ended, message="looked at")),
        lambda tx: tx.put_cluster(replace(heir, state=State.STOPPED)),
        lambda tx: tx.put_cluster(replace(ended, state=State.ACTIVE)),
    )
    assert [result.state for result in results] == [State.STOPPED, State.STOPPED, State.ACTIVE]


async def test_one_transaction_may_hand_a_name_on_and_not_give_it_twice(store: SqliteStore) -> None:
    heir = replace(CLUSTER, uid="c" + "b" * 20)

    def hand_on(tx: Tx) -> Cluster:
        tx.put_cluster(replace(CLUSTER, state=State.STOPPED))
        return tx.put_cluster(heir)

    assert (await store.transact(hand_on)).uid == heir.uid

    def twice(tx: Tx) -> None:
        tx.put_cluster(replace(CLUSTER, uid="c" + "d" * 20, cluster_id="twin"))
        tx.put_cluster(replace(CLUSTER, uid="c" + "e" * 20, cluster_id="twin"))

    with pytest.raises(Conflict):
        await store.transact(twice)
    assert store.view.named("alice", "twin") is None


async def test_in_a_group_a_request_is_remembered_by_the_next(store: SqliteStore) -> None:
    effect = Remembered("alice", "CreateCluster", "id", b"digest", UID, 10)

    def look(tx: Tx) -> Remembered | None:
        return tx.remembered("alice", "CreateCluster", "id")

    def ask(tx: Tx) -> Remembered | None:
        tx.remember(effect)
        return look(tx)

    assert await in_one_group(store, look, ask, look) == [None, effect, effect]
    assert await store.read(look) == effect


async def test_what_fails_after_it_reached_the_database_is_undone_alone(store: SqliteStore) -> None:
    token = Token("t", "alice", b"hash", expires_at=1)

    def fail(tx: Tx) -> None:
        tx.put_workers([worker(8)])
        tx.put_token(token)  # which goes straight to the database, and takes along what waited
        tx.add_events([Event(UID, 1, "NEVER", "was")])
        raise ValueError("no")

    results = await in_one_group(
        store, lambda tx: tx.put_workers([worker(7)]), fail, lambda tx: tx.put_workers([worker(9)])
    )
    assert isinstance(results[1], ValueError)
    for look in (store.read, store.transact):
        assert names(await look(lambda tx: tx.workers(UID))) == [
            "default-0",
            "default-1",
            "default-7",
            "default-9",
        ]
        assert await look(lambda tx: tx.token("t")) is None
        assert await look(lambda tx: tx.events(UID)) == []


REFUSED: dict[str, Callable[[Tx], object]] = {
    "half a character": lambda tx: tx.add_events([Event(UID, 1, "R", "\ud800")]),
    "beyond 64 bits": lambda tx: tx.add_events([Event(UID, 2**63, "R", "text")]),
    "nothing": lambda tx: tx.add_events([Event(UID, 1, "R", None)]),  # type: ignore[arg-type]
    "owner": lambda tx: tx.put_cluster(replace(CLUSTER, uid="c" + "b" * 20, owner="\udcff")),
    "worker": lambda tx: tx.put_workers([worker(3), replace(worker(4), name="\udcff")]),
    "worker that was": lambda tx: tx.delete_workers(UID, ["\udcff"]),
    "secret": lambda tx: tx.put_secrets(UID, None),  # type: ignore[arg-type]
    "effect": lambda tx: tx.remember(
        Remembered("\udcff", "CreateCluster", "id", b"digest", UID, 10)
    ),
}


@pytest.mark.parametrize("refused", REFUSED)
async def test_what_the_driver_refuses_fails_who_wrote_it_and_no_other(
    store: SqliteStore, refused: str
) -> None:
    write = REFUSED[refused]
    before, failed, after = await in_one_group(
        store, lambda tx: tx.put_workers([worker(7)]), write, lambda tx: tx.put_workers([worker(8)])
    )
    assert isinstance(failed, UnicodeEncodeError | OverflowError | TypeError)
    assert (before, after) == (None, None)
    assert names(await store.read(lambda tx: tx.workers(UID))) == [
        "default-0",
        "default-1",
        "default-7",
        "default-8",
    ]


async def test_what_is_lost_on_the_way_to_the_database_fails_the_group_and_is_not_written_twice(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(_: object, __: object, rows: Sequence[object]) -> None:
        if rows:
            monkeypatch.undo()
            raise MemoryError

    def write(tx: Tx) -> None:
        tx.add_events([Event(UID, 1, "CAME", "once")])
        tx.remember(Remembered("alice", "CreateCluster", "id", b"digest", UID, 10))

    monkeypatch.setattr(pending, "_remember", SimpleNamespace(run=lose))
    results = await in_one_group(store, write, lambda tx: tx.events(UID))
    assert all(isinstance(result, StoreUnreachable) for result in results)
    assert await store.transact(lambda tx: tx.events(UID)) == []


async def test_a_worker_deleted_and_put_again_has_its_new_age(store: SqliteStore) -> None:
    def renew(tx: Tx) -> None:
        tx.delete_workers(UID, ["default-0"])
        tx.put_workers([replace(worker(0), created_at=9)])

    await store.transact(renew)
    for look in (store.read, store.transact):
        assert names(await look(lambda tx: tx.workers(UID))) == ["default-1", "default-0"]


async def test_a_cluster_put_as_if_it_were_new_keeps_its_workers(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "KEPT_WORKERS", 0)
    # so that the writer forgets those of the other
    await store.transact(lambda tx: tx.workers("c" + "b" * 20))
    await store.transact(lambda tx: tx.put_cluster(CLUSTER))
    assert names(await store.transact(lambda tx: tx.workers(UID))) == ["default-0", "default-1"]


async def test_a_reader_says_when_the_database_does_not_answer(store: SqliteStore) -> None:
    def fail(tx: Tx) -> None:
        # as the driver does where no SQLAlchemy is between
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(StoreUnreachable, match="disk I/O error"):
        await store.read(fail)


async def test_an_error_that_no_future_takes_keeps_nobody_waiting(store: SqliteStore) -> None:
    def fail(tx: Tx) -> None:
        raise StopIteration

    async with asyncio.timeout(5):
        failed, other = await in_one_group(store, fail, lambda tx: tx.count_living())
    assert isinstance(failed, RuntimeError)
    assert other == 1


async def test_a_transaction_reads_what_it_has_written(store: SqliteStore) -> None:
    def write_and_read(tx: Tx) -> tuple[Any, ...]:
        tx.put_cluster(replace(CLUSTER, uid="c" + "b" * 20, cluster_id="new"))
        tx.put_secrets(UID, b"sealed")
        tx.add_events([Event(UID, 1, "CAME", "here")])
        made, secrets, events = tx.cluster("c" + "b" * 20), tx.secrets(UID), tx.events(UID)
        return (
            made.uid if made else "",
            secrets,
            [event.reason for _, event in events],
            tx.count_living(),
        )

    assert await store.transact(write_and_read) == ("c" + "b" * 20, b"sealed", ["CAME"], 2)


async def test_many_rows_are_written_and_deleted_whatever_their_number(store: SqliteStore) -> None:
    many = [worker(number) for number in range(150)]  # more than one statement takes
    await store.transact(lambda tx: tx.put_workers(many))
    assert await store.read(lambda tx: tx.workers(UID)) == many
    await store.transact(lambda tx: tx.delete_workers(UID, [one.name for one in many[3:]]))
    assert await store.read(lambda tx: tx.workers(UID)) == many[:3]


async def test_workers_that_the_writer_forgot_within_a_group_are_found(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "KEPT_WORKERS", 2)
    other = replace(CLUSTER, uid="c" + "b" * 20, cluster_id="other")

    def crowd(tx: Tx) -> None:
        tx.put_cluster(other)
        tx.put_workers([replace(worker(number), uid=other.uid) for number in range(3)])

    *_, found = await in_one_group(
        store, lambda tx: tx.put_workers([worker(2)]), crowd, lambda tx: tx.workers(UID)
    )
    assert names(found) == ["default-0", "default-1", "default-2"]


async def test_events_are_bounded_though_the_server_restarts_often(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "KEPT_EVENTS", 10)
    for _ in range(4):
        store = SqliteStore(tmp_path / "gateway.db")
        await store.open()

        def add(tx: Tx) -> None:
            tx.put_cluster(tx.cluster(UID) or CLUSTER)
            tx.add_events([Event(UID, 1, "MORE", "of them")] * 8)

        await store.transact(add)
        kept = await store.read(lambda tx: tx.events(UID, limit=1000))
        await store.close()
    assert len(kept) == 10
