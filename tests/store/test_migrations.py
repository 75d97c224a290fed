"""A database of an older version becomes one of this version."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
from dataclasses import replace

from gateway.server.core.model import Adaptive, Count, Scope, Spec, Token, WorkerGroup
from gateway.server.store import migrations, tables
from gateway.server.store.codec import encode
from gateway.server.store.sqlite.store import SqliteStore
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
            lambda tx, n=n: tx.put_cluster(
                replace(a_cluster(n, f"c{n}"), spec=Spec("local", {}, settings, groups))
            )
        )  # type: ignore[misc]
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
