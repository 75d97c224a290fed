"""A database of an older version becomes one of this version."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3

from gateway.server.core.model import Scope, Token
from gateway.server.store import migrations, tables
from gateway.server.store.sqlite import SqliteStore

TOKEN = Token("t", "alice", b"hash", "laptop", frozenset({Scope.CLUSTERS_READ}), created_at=1, expires_at=2)


def test_every_version_has_its_step() -> None:
    assert len(migrations.MIGRATIONS) == tables.SCHEMA_VERSION - 1


async def test_tokens_lose_the_rights_that_were_copied_into_them(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gateway.db"
    store = SqliteStore(path)
    await store.open()
    await store.transact(lambda tx: tx.put_token(TOKEN))
    await store.close()
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("""UPDATE token SET document = json_insert(document, '$.admin', json('true'), '$.groups', json('["physics"]'))""")
        raw.execute("DROP TABLE spent")
        raw.execute("UPDATE meta SET value = CAST('1' AS BLOB) WHERE key = 'schema_version'")
    for _ in range(2):
        store = SqliteStore(path)
        await store.open()
        assert await store.read(lambda tx: tx.token("t")) == TOKEN
        assert await store.read(lambda tx: tx.spent({"x"})) == set()
        await store.close()
    with contextlib.closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT CAST(value AS TEXT) FROM meta WHERE key = 'schema_version'").fetchone() == (str(tables.SCHEMA_VERSION),)
