"""A database of an older version becomes one of this version."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import sqlite3
from dataclasses import replace

import pytest

from gateway.server.core.model import (
    Adaptive,
    Count,
    Scope,
    Spec,
    State,
    StopWish,
    Token,
    Worker,
    WorkerGroup,
)
from gateway.server.store import migrations, tables
from gateway.server.store.codec import encode
from gateway.server.store.contract import Conflict, StoreError
from gateway.server.store.sqlite.store import SqliteStore
from tests.store import stored
from tests.store.test_stores import a_cluster

TOKEN = Token(
    "t", "alice", b"hash", "laptop", frozenset({Scope.CLUSTERS_READ}), created_at=1, expires_at=2
)


def test_every_version_has_its_step() -> None:
    assert len(migrations.MIGRATIONS) == tables.SCHEMA_VERSION - 1


async def test_tokens_lose_the_rights_that_were_copied_into_them(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gateway.db"
    store = SqliteStore(path)
    await store.open()
    await store.transact(lambda tx: tx.put_token(TOKEN))
    await store.close()
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(
            """UPDATE token SET document = json_insert(document, '$.admin', json('true'), '$.groups', json('["physics"]'))"""  # noqa: E501
        )
        raw.execute("DROP TABLE spent")
        raw.execute("UPDATE meta SET value = CAST('1' AS BLOB) WHERE key = 'schema_version'")
    for _ in range(2):
        store = SqliteStore(path)
        await store.open()
        assert await store.read(lambda tx: tx.token("t")) == TOKEN
        assert await store.read(lambda tx: tx.spent({"x"})) == set()
        await store.close()
    with contextlib.closing(sqlite3.connect(path)) as raw:
        assert raw.execute(
            "SELECT CAST(value AS TEXT) FROM meta WHERE key = 'schema_version'"
        ).fetchone() == (str(tables.SCHEMA_VERSION),)


async def test_specs_are_moved_into_a_table_of_their_own(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gateway.db"
    store = SqliteStore(path)
    await store.open()
    settings = {"environment": {"A": "B"}}
    groups = {
        "default": WorkerGroup(Count(2), settings=settings),
        "gpu": WorkerGroup(Adaptive(0, 3), {"cores": 2}, {"cores": 2}),
    }
    clusters = [
        await store.transact(
            lambda tx, n=n: tx.put_cluster(  # type: ignore[misc]
                replace(a_cluster(n, f"c{n}"), spec=Spec("local", {}, settings, groups))
            )
        )
        for n in range(3)
    ]
    await store.close()
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:  # as version 3 wrote them
        for cluster in clusters:
            raw.execute(
                "UPDATE cluster SET document = ? WHERE uid = ?", (encode(cluster), cluster.uid)
            )
        raw.execute(
            "UPDATE cluster SET document = substr(document, 1, 20) WHERE uid = ?",
            (clusters[2].uid,),
        )
        raw.execute("DROP TABLE spec")
        raw.execute("UPDATE meta SET value = CAST('3' AS BLOB) WHERE key = 'schema_version'")
    for _ in range(2):
        store = SqliteStore(path)
        await store.open()
        assert list(store.view.clusters()) == clusters[1::-1]
        assert await store.read(lambda tx: tx.cluster(clusters[0].uid)) == clusters[0]
        await store.close()
    with contextlib.closing(sqlite3.connect(path)) as raw:
        assert [
            row
            for (row,) in raw.execute("SELECT document FROM cluster ORDER BY uid")
            if "spec" in row
        ] == []


def _set(path: pathlib.Path, **meta: int) -> None:
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        for key, value in meta.items():
            raw.execute("DELETE FROM meta WHERE key = ?", (key,))
            raw.execute("INSERT INTO meta VALUES (?, ?)", (key, str(value).encode()))


def _meta(path: pathlib.Path) -> dict[str, bytes]:
    with contextlib.closing(sqlite3.connect(path)) as raw:
        return dict(raw.execute("SELECT key, value FROM meta WHERE key LIKE '%version%'"))


async def test_a_newer_database_that_this_version_may_use_is_used_and_left_as_new(
    tmp_path: pathlib.Path,
) -> None:
    path, newer = tmp_path / "gateway.db", tables.SCHEMA_VERSION + 1
    store = SqliteStore(path)
    await store.open()
    cluster = await store.transact(lambda tx: tx.put_cluster(a_cluster()))
    await store.close()
    _set(path, schema_version=newer, readable_since=tables.SCHEMA_VERSION)
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        for table in ("cluster", "spec"):
            raw.execute(f"UPDATE {table} SET document = json_set(document, '$.colour', 'red')")
    before = _meta(path)
    store = SqliteStore(path)
    await store.open()
    try:
        assert store.view.cluster(cluster.uid) == cluster
        changed = await store.transact(lambda tx: tx.put_cluster(replace(cluster, message="new")))
    finally:
        await store.close()
    store = SqliteStore(path)
    await store.open()
    assert store.view.cluster(cluster.uid) == changed
    await store.close()
    assert _meta(path) == before


async def test_a_newer_database_that_is_for_newer_programs_alone_is_refused(
    tmp_path: pathlib.Path,
) -> None:
    path, newer = tmp_path / "gateway.db", tables.SCHEMA_VERSION + 2
    store = SqliteStore(path)
    await store.open()
    await store.close()
    _set(path, schema_version=newer, readable_since=newer - 1)
    with pytest.raises(StoreError, match=f"schema version {newer}"):
        await SqliteStore(path).open()


def test_what_is_stored_does_not_change_without_a_new_schema_version() -> None:
    written = stored.written()
    assert written.exists(), "say what is stored: python -m tests.store.stored"
    assert stored.stored() == written.read_text(), (
        "what is stored has changed: raise tables.SCHEMA_VERSION, give migrations.MIGRATIONS a step"
        " (one that does nothing where defaults will do), and READABLE_SINCE too if older programs"
        " must not go on with it; then `python -m tests.store.stored`"
    )


def test_a_new_field_of_a_record_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = stored.stored()
    newer = dataclasses.make_dataclass(
        "Newer", [("colour", str, "red")], bases=(Worker,), frozen=True
    )
    monkeypatch.setattr(stored, "Worker", newer)
    assert "Newer.colour: str" in stored.stored()
    assert before != stored.stored()


def test_each_schema_version_that_can_be_used_says_what_it_stores() -> None:
    for version in range(tables.READABLE_SINCE, tables.SCHEMA_VERSION + 1):
        assert stored.written(version).exists()


async def test_a_name_is_free_where_the_end_of_its_cluster_was_wished_before(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "gateway.db"
    store = SqliteStore(path)
    await store.open()
    wish = StopWish(State.STOPPED, "STOP_REQUESTED", "asked", 1)
    for number, fields in enumerate(({}, {"stop": wish}, {"state": State.STOPPED})):
        made = a_cluster(number + 1, f"c{number}", **fields)  # type: ignore[arg-type]
        await store.transact(lambda tx, made=made: tx.put_cluster(made))  # type: ignore[misc]
    await store.close()
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:  # as version 4 had it
        raw.execute("DROP INDEX cluster_holds_name")
        raw.execute("ALTER TABLE cluster DROP COLUMN holds_name")
        raw.execute(
            "CREATE UNIQUE INDEX cluster_living_name ON cluster (owner, cluster_id)"
            " WHERE finished = 0"
        )
    _set(path, schema_version=4, readable_since=4)
    store = SqliteStore(path)
    await store.open()
    try:
        with pytest.raises(Conflict):
            await store.transact(lambda tx: tx.put_cluster(a_cluster(7, "c0")))
        for number in (1, 2):
            heir = a_cluster(8 + number, f"c{number}")
            await store.transact(lambda tx, heir=heir: tx.put_cluster(heir))  # type: ignore[misc]
    finally:
        await store.close()
    for _ in range(2):  # and so it stays
        store = SqliteStore(path)
        await store.open()
        assert len(list(store.view.clusters())) == 5
        await store.close()
