"""What may happen to a database's files while a server has them open."""

from __future__ import annotations

import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys

from gateway.server.core.model import Cluster, Spec
from gateway.server.store.sqlite import files
from gateway.server.store.sqlite.store import SqliteStore


def cluster(number: int) -> Cluster:
    """Return a cluster."""
    return Cluster(f"c{number:020d}", "alice", f"name-{number}", Spec("local"))


class Place:
    """A database in use, and a backup that was made of it before its last cluster."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory, self.path, self.backup = (
            directory,
            directory / "gateway.db",
            directory.parent / "backup.db",
        )
        self.store = SqliteStore(self.path)
        self.other: int | None = None

    def beside(self, suffix: str) -> pathlib.Path:
        """Return a file of the database."""
        return self.path.with_name(self.path.name + suffix)

    async def put(self, number: int) -> Cluster:
        """Store a cluster."""
        return await self.store.transact(lambda tx: tx.put_cluster(cluster(number)))

    def stored(self) -> set[str]:
        """Return the uids that are in the file now, as another program sees it."""
        raw = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        try:
            return {uid for (uid,) in raw.execute("SELECT uid FROM cluster")}
        finally:
            raw.close()


def _unlink(place: Place) -> None:
    place.path.unlink()


def _unlink_all(place: Place) -> None:
    for suffix in ("", "-wal", "-shm"):
        place.beside(suffix).unlink()


def _move(place: Place) -> None:
    place.path.rename(place.directory / "away.db")


def _replace_by_backup(place: Place) -> None:
    shutil.copy(place.backup, place.directory / "new.db")
    (place.directory / "new.db").rename(place.path)


def _replace_by_a_copy(place: Place) -> None:
    shutil.copy(place.path, place.directory / "new.db")
    (place.directory / "new.db").rename(place.path)


def _unlink_log(place: Place) -> None:
    place.beside("-wal").unlink()


def _unlink_index(place: Place) -> None:
    place.beside("-shm").unlink()


def _another_server(place: Place) -> None:
    """Start one, which only the lock prevents."""
    place.beside(".lock").unlink()
    place.other = files.exclusive(place.beside(".lock"))


def _move_directory(place: Place) -> None:
    place.directory.rename(place.directory.with_name("elsewhere"))


def _remove_directory(place: Place) -> None:
    shutil.rmtree(place.directory)


def _cut_off(place: Place) -> None:
    os.truncate(place.path, 0)


def _cut_log(place: Place) -> None:
    os.truncate(place.beside("-wal"), 0)


def _copy_over(place: Place) -> None:
    place.path.write_bytes(place.backup.read_bytes())


def _write_over(place: Place) -> None:
    with place.path.open("r+b") as file:
        file.write(b"\0" * 8192)


def _other_program_writes(place: Place) -> None:
    code = (
        f"import sqlite3; raw = sqlite3.connect({str(place.path)!r}); raw.execute('DELETE FROM"
        f" cluster'); raw.commit(); raw.close()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
