"""On a disk that others have filled, what ends can still be recorded."""

from __future__ import annotations

import logging
import os
import pathlib
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway.server.core.model import Cluster, Event, Spec, State
from gateway.server.store.contract import StoreUnreachable
from gateway.server.store.sqlite import reserve
from gateway.server.store.sqlite.store import SqliteStore

MIB = 2**20
CLUSTERS = [
    Cluster(f"c{number:020d}", "alice", f"name-{number}", Spec("local")) for number in range(50)
]


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system of 48 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode != 0:
        pytest.skip("only root can make a file system that is soon full")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: pathlib.Path) -> None:
    """Fill a disk, as a user's program does."""
    with (disk / "scratch").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass


async def served(path: pathlib.Path, reserve_bytes: int) -> SqliteStore:
    """Return a store with some clusters, on a disk that is full by now."""
    store = SqliteStore(path, reserve_bytes=reserve_bytes)
    await store.open()
    await store.reserve()
    for cluster in CLUSTERS:
        await store.transact(lambda tx, cluster=cluster: tx.put_cluster(cluster))  # type: ignore[misc]
    fill(path.parent)
    return store


async def end_all(store: SqliteStore, rounds: int) -> None:
    """Record the end of every cluster with some events each, again and again."""
    for number in range(rounds):
        fill(store._path.parent)  # whatever is let go is taken at once
        for cluster in CLUSTERS:
            events = [Event(cluster.uid, number, "STOPPED", "x" * 500)] * 2

            def end(tx: object, cluster: Cluster = cluster, events: list[Event] = events) -> None:
                tx.put_cluster(replace(cluster, state=State.STOPPED))  # type: ignore[attr-defined]
                tx.add_events(events)  # type: ignore[attr-defined]

            await store.transact(end)


async def test_what_ends_is_recorded_though_the_disk_is_full(disk: pathlib.Path) -> None:
    store = await served(disk / "gateway.db", 24 * MIB)
    assert os.statvfs(disk).f_bavail == 0
    await end_all(store, 10)  # about 10 MiB of the log: through several moves of it into the file
    assert os.statvfs(disk).f_bavail == 0
    await store.close()
    (disk / "scratch").unlink()
    again = SqliteStore(disk / "gateway.db")
    await again.open()
    assert {cluster.state for cluster in again.view.clusters()} == {State.STOPPED}
    await again.close()


async def test_without_a_reserve_it_could_not(disk: pathlib.Path) -> None:
    """Which shows that the test above can fail."""
    store = await served(disk / "gateway.db", 0)
    with pytest.raises(StoreUnreachable, match=r"full|I/O"):
        await end_all(store, 10)
    (disk / "scratch").unlink()
    await store.transact(lambda tx: tx.put_cluster(CLUSTERS[0]))  # it goes on by itself
    await store.close()


async def test_the_space_is_held_and_made_up_for_when_it_was_used(tmp_path: pathlib.Path) -> None:
    store = SqliteStore(tmp_path / "gateway.db", reserve_bytes=16 * MIB)
    await store.open()
    assert await store.spare_bytes() == 0
    await store.reserve()
    assert 12 * MIB <= await store.spare_bytes() < 20 * MIB
    blocks = {
        suffix: (tmp_path / f"gateway.db{suffix}").stat().st_blocks * 512
        for suffix in ("", "-wal", "-shm")
    }
    assert blocks[""] >= 10 * MIB  # some of it is in the log still
    assert blocks["-wal"] >= 4 * MIB
    assert blocks["-shm"] >= reserve.INDEX_BYTES
    size = (tmp_path / "gateway.db").stat().st_size
    revision = store.view.revision
    await store.transact(lambda tx: tx.put_meta("large", os.urandom(4 * MIB)))
    await store.reserve()
    assert store.view.revision == revision + 1  # there is enough of it still
    assert (tmp_path / "gateway.db").stat().st_size <= size + MIB
    await store.transact(lambda tx: tx.put_meta("larger", os.urandom(8 * MIB)))
    await store.reserve()
    assert await store.spare_bytes() >= 12 * MIB
    await store.close()


async def test_space_that_cannot_be_had_is_told_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteStore(tmp_path / "gateway.db", reserve_bytes=2**62)
    await store.open()
    for cluster in CLUSTERS[:3]:
        await store.transact(lambda tx, cluster=cluster: tx.put_cluster(cluster))  # type: ignore[misc]
    await store.transact(lambda tx: tx.put_meta("large", os.urandom(8 * MIB)))
    await store.close()
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "c.DaskGateway.disk_reserve_bytes" in told[0]
