"""A database that is not the one last used is told from it, and none of its revisions means two
things."""

from __future__ import annotations

import pathlib
import shutil
import sqlite3

import pytest

from gateway.server.core.model import Cluster, Spec
from gateway.server.store.contract import Last, StoreError
from gateway.server.store.sqlite.store import SqliteStore


async def opened(path: pathlib.Path, last: Last | None = None) -> SqliteStore:
    """Return a store that is open."""
    store = SqliteStore(path, last)
    await store.open()
    return store


async def put(store: SqliteStore, number: int) -> Cluster:
    """Store a cluster."""
    return await store.transact(
        lambda tx: tx.put_cluster(Cluster(f"c{number:020d}", "alice", f"n-{number}", Spec("local")))
    )


async def used(path: pathlib.Path) -> tuple[Last, pathlib.Path]:
    """Use a database; return what its last server knew, and a backup of half of it."""
    store = await opened(path)
    await put(store, 1)
    await store.close()
    backup = pathlib.Path(shutil.copy(path, path.with_name("backup.db")))
    store = await opened(path)
    await put(store, 2)
    last = Last(store.identity, store.view.revision)
    await store.close()
    return last, backup


async def test_the_database_that_was_used_is_known_again(tmp_path: pathlib.Path) -> None:
    last, _ = await used(tmp_path / "gateway.db")
    # what was written down may lag behind
    for seen in (last, Last(last.identity, last.revision - 1)):
        store = await opened(tmp_path / "gateway.db", seen)
        assert (store.strange, store.identity, store.view.revision) == (
            "",
            last.identity,
            last.revision,
        )
        await store.close()


async def test_a_backup_is_older_and_stays_another_until_it_is_confirmed(
    tmp_path: pathlib.Path,
) -> None:
    last, backup = await used(tmp_path / "gateway.db")
    store = await opened(backup, last)
    assert "is older than the one that this server last used" in store.strange
    identity = store.identity
    assert identity != last.identity
    await store.close()
    store = await opened(backup, last)
    # though its revisions are beyond those by now
    assert "is not the one that this server last used" in store.strange
    assert store.identity == identity
    await store.close()


async def test_revisions_of_a_backup_go_on_beyond_those_that_were_given_out(
    tmp_path: pathlib.Path,
) -> None:
    last, backup = await used(tmp_path / "gateway.db")
    store = await opened(backup, last)
    assert (await put(store, 3)).revision > last.revision
    with pytest.raises(LookupError):
        store.view.subscribe(start_revision=last.revision)
    assert [one.uid for one in store.view.clusters()] == [f"c{3:020d}", f"c{1:020d}"]
    await store.close()


async def test_an_empty_database_is_another(tmp_path: pathlib.Path) -> None:
    last, _ = await used(tmp_path / "gateway.db")
    (tmp_path / "gateway.db").unlink()
    store = await opened(tmp_path / "gateway.db", last)
    assert "is empty" in store.strange
    assert store.identity != last.identity
    await store.close()


async def test_a_first_start_is_no_surprise(tmp_path: pathlib.Path) -> None:
    store = await opened(tmp_path / "gateway.db")
    assert (store.strange, len(store.identity)) == ("", 32)
    identity = store.identity
    await store.close()
    store = await opened(tmp_path / "gateway.db")
    assert store.identity == identity
    await store.close()


@pytest.mark.parametrize("key", ["revision", "compacted_revision"])
@pytest.mark.parametrize(
    "value",
    [
        b"-1",
        b"",
        b" 5",
        b"5_0",
        b"many",
        b"9" * 30,
        b"9" * 5000,
        str(2**63 - 1).encode(),
        7,
        "7",
        1.5,
    ],
)
async def test_a_damaged_revision_is_an_error_at_the_start_and_not_with_every_commit(
    key: str, value: object, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "gateway.db"
    store = await opened(path)
    await put(store, 1)
    await store.close()
    raw = sqlite3.connect(path)
    raw.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
        (key, value),
    )
    raw.commit()
    raw.close()
    with pytest.raises(StoreError, match=f"{key} is .*must be a whole number"):
        await opened(path)
