"""A record that cannot be read harms nobody else: the server starts, and what it stands for is left
alone."""

from __future__ import annotations

import asyncio
import logging
import pathlib
import sqlite3
from collections.abc import Mapping, Sequence

import pytest

from gateway.backends.contract import Instance, Observation, Phase, Role, Target
from gateway.backends.noop import NoopBackend
from gateway.server.core.model import GroupStatus, Launching, Scheduler, Token, Worker
from gateway.server.reconcile.sweep import Watcher
from gateway.server.store.contract import Conflict, StoreUnreachable, Tx
from gateway.server.store.sqlite.store import SqliteStore
from tests.store.test_stores import a_cluster

BAD, GOOD = a_cluster(1, "bad").uid, a_cluster(2, "good").uid
SPOILT: Mapping[str, str] = {
    "cut short": "substr(document, 1, 20)",
    "empty": "''",
    "no object": "'[]'",
    "null": "'null'",
    "another's": f"""json_set(document, '$.uid', '{GOOD}')""",
    "a text for an instant": """json_set(document, '$.created_at', 'yesterday')""",
    "a float for a revision": """json_set(document, '$.revision', 1.5)""",
    "a number for a name": """json_set(document, '$.owner', 7)""",
    "a truth value for a number": """json_set(document, '$.generation', json('true'))""",
    "an unknown state": """json_set(document, '$.state', 'LOST')""",
    "a number that is none": """replace(document, '"groups":{', '"activity":{"clients":NaN},"groups":{')""",  # noqa: E501
    "another's cluster": """json_set(document, '$.owner', 'bob')""",
    "another name": """json_set(document, '$.cluster_id', 'good')""",
    "an end that its row does not know": """json_set(document, '$.state', 'STOPPED')""",
    "far too deep": "replace(hex(zeroblob(100000)), '00', '[')",
    "no UTF-8": "CAST(x'7bff7d' AS TEXT)",
}


def damage(path: pathlib.Path, statement: str) -> None:
    """Change the file beside the server."""
    raw = sqlite3.connect(path)
    raw.execute(statement)
    raw.commit()
    raw.close()


async def opened(path: pathlib.Path) -> SqliteStore:
    """Return an open store."""
    store = SqliteStore(path)
    await store.open()
    return store


async def with_damage(path: pathlib.Path, document: str) -> SqliteStore:
    """Return a store that was opened again after one of its two clusters was damaged."""
    store = await opened(path)
    for number, cluster_id in ((1, "bad"), (2, "good")):
        await store.transact(lambda tx, n=number, i=cluster_id: tx.put_cluster(a_cluster(n, i)))  # type: ignore[misc]
    await store.close()
    damage(path, f"UPDATE cluster SET document = {document} WHERE uid = '{BAD}'")
    return await opened(path)


@pytest.mark.parametrize("kind", SPOILT)
async def test_a_database_opens_with_a_record_that_cannot_be_read(
    kind: str,
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "gateway.db"
    with caplog.at_level(logging.WARNING):
        store = await with_damage(path, SPOILT[kind])
        try:
            assert [cluster.uid for cluster in store.view.clusters()] == [GOOD]
            assert await store.transact(lambda tx: tx.cluster(BAD)) is None
            assert await store.transact(lambda tx: tx.count_living("alice")) == 2  # it may well run
            with pytest.raises(Conflict):  # and its name is its own
                await store.transact(lambda tx: tx.put_cluster(a_cluster(3, "bad")))
            made = await asyncio.gather(
                *(
                    store.transact(lambda tx, n=n: tx.put_cluster(a_cluster(n, f"c{n}")))  # type: ignore[misc]
                    for n in range(4, 9)
                )
            )
            assert len(made) == 5
            monkeypatch.setattr(store, "_mirror", None)  # as after a commit that failed
            await store.transact(lambda tx: tx.put_cluster(a_cluster(9, "c9")))
            with pytest.raises(Conflict):
                await store.transact(lambda tx: tx.put_cluster(a_cluster(3, "bad")))
        finally:
            await store.close()
    lines = [record.getMessage() for record in caplog.records if BAD in record.getMessage()]
    assert len(lines) == 1, lines
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT count(*) FROM cluster").fetchone() == (8,)  # it is kept
    raw.close()


async def test_a_worker_that_cannot_be_read_is_intended_anew_and_its_neighbours_are_as_they_were(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "gateway.db"
    store = await opened(path)
    workers = [
        Worker(GOOD, f"gpu-x-{n}", "gpu-x", Launching.RUNNING, "handle", created_at=n)
        for n in range(3)
    ]

    def put(tx: Tx) -> None:
        tx.put_cluster(a_cluster(2, "good", groups={"gpu-x": GroupStatus(next_sequence=3)}))
        tx.put_workers(workers)

    await store.transact(put)
    await store.close()
    damage(path, "UPDATE worker SET document = '{' WHERE name = 'gpu-x-1'")
    store = await opened(path)
    try:
        for found in (
            await store.read(lambda tx: tx.workers(GOOD)),
            await store.transact(lambda tx: tx.workers(GOOD)),
        ):
            assert found == [workers[0], Worker(GOOD, "gpu-x-1", "gpu-x", created_at=1), workers[2]]
    finally:
        await store.close()


async def test_a_token_that_cannot_be_read_is_passed_over_and_lets_nobody_in(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "gateway.db"
    store = await opened(path)
    for n in range(5):
        await store.transact(
            lambda tx, n=n: tx.put_token(Token(f"t{n}", "alice", b"hash", created_at=n))  # type: ignore[misc]
        )
    await store.close()
    damage(path, "UPDATE token SET document = 'null' WHERE id IN ('t4', 't2')")
    store = await opened(path)
    try:
        assert await store.read(lambda tx: tx.token("t2")) is None
        assert [token.id for token in await store.read(lambda tx: tx.tokens("alice", limit=2))] == [
            "t3",
            "t1",
        ]
        assert [
            token.id
            for token in await store.read(lambda tx: tx.tokens("alice", before=(3, "t3"), limit=5))
        ] == ["t1", "t0"]
    finally:
        await store.close()


async def test_events_that_are_no_utf8_are_told_all_the_same(tmp_path: pathlib.Path) -> None:
    """The driver takes the whole database for unusable."""
    path = tmp_path / "gateway.db"
    store = await with_damage(path, "document")
    await store.close()
    damage(
        path,
        f"INSERT INTO event (uid, revision, at, reason, message, instance) VALUES ('{GOOD}', 1, 1,"
        f" 'X', CAST(x'41ff' AS TEXT), '')",
    )
    store = await opened(path)
    try:
        assert [event.message for _, event in await store.read(lambda tx: tx.events(GOOD))] == [
            "A\ufffd"
        ]
    except StoreUnreachable as error:
        raise AssertionError(error) from None
    finally:
        await store.close()


class Room(NoopBackend):
    """A machine room that remembers what it was asked to end."""

    def __init__(self, runs: Sequence[Instance]) -> None:
        super().__init__()
        self.runs, self.ended, self.asked = runs, list[str](), list[str]()

    async def find(self) -> Sequence[Observation]:
        return [Observation(instance, Phase.RUNNING) for instance in self.runs]

    async def stop(self, targets: Sequence[Target]) -> None:
        self.ended += [target.instance.uid for target in targets]

    async def observations(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        self.asked += [target.instance.uid for target in targets]
        return {target.instance: Observation(target.instance, Phase.RUNNING) for target in targets}


class Willing:
    """Lets everything be ended that no record intends."""

    async def permitted(
        self, backend: str, left_over: Sequence[Observation], unknown: Sequence[Observation]
    ) -> Sequence[Observation]:
        return [*left_over, *unknown]


async def test_processes_of_a_cluster_that_cannot_be_read_are_left_alone_and_others_are_looked_at(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "gateway.db"
    store = await opened(path)
    running = Scheduler(launching=Launching.RUNNING, handle="handle")
    for number, cluster_id in ((1, "bad"), (2, "good")):
        await store.transact(
            lambda tx, n=number, i=cluster_id: tx.put_cluster(a_cluster(n, i, scheduler=running))  # type: ignore[misc]
        )
    gone = "c" + "z" * 20
    room = Room([Instance(uid, Role.SCHEDULER, "scheduler") for uid in (BAD, GOOD, gone)])
    watcher = Watcher(store, "local", room, lambda _: None, Willing())
    # the view still has it
    damage(path, f"UPDATE cluster SET document = 'null' WHERE uid = '{BAD}'")
    try:
        await watcher.poll()
        assert room.asked == [GOOD]
        await watcher.sweep()
        assert room.ended == [gone]
    finally:
        await store.close()
    store = await opened(path)
    try:
        await Watcher(store, "local", room, lambda _: None, Willing()).sweep()
        assert room.ended == [gone, gone]
    finally:
        await store.close()


@pytest.mark.parametrize("revision", [-5, 0, 1000, 2**62, 2**63 - 1])
async def test_revisions_that_this_database_never_gave_are_not_told(
    revision: int, tmp_path: pathlib.Path
) -> None:
    """By them whoever pages or watches would go on from where nobody ever was."""
    store = await with_damage(tmp_path / "gateway.db", "document")
    await store.close()
    document = f"json_set(document, '$.revision', {revision}, '$.created_revision', {revision})"
    damage(
        tmp_path / "gateway.db",
        f"UPDATE cluster SET revision = {revision}, created_revision = {revision}, document ="
        f" {document}",
    )
    store = await opened(tmp_path / "gateway.db")
    assert list(store.view.clusters()) == []
    assert (await store.transact(lambda tx: tx.put_cluster(a_cluster(3, "new")))).revision == 3
    await store.close()


@pytest.mark.parametrize("revision", ["4611686018427387904", "9" * 30, "-5", "-" + "9" * 30])
@pytest.mark.parametrize("name", ["revision", "created_revision"])
async def test_revisions_are_what_the_row_says_whatever_its_document_does(
    name: str, revision: str, tmp_path: pathlib.Path
) -> None:
    store = await with_damage(
        tmp_path / "gateway.db", f"""replace(document, '"{name}":1', '"{name}":' || '{revision}')"""
    )
    assert [
        (cluster.uid, cluster.revision, cluster.created_revision)
        for cluster in store.view.clusters()
    ] == [(GOOD, 2, 2), (BAD, 1, 1)]
    written = await store.transact(lambda tx: tx.put_cluster(store.view.clusters()[1]))  # type: ignore[index]
    assert (written.uid, written.revision, written.created_revision) == (BAD, 3, 1)
    await store.close()
