"""Whether the database's files are still those that were opened, with what was put into them,
whatever somebody does beside us.

SQLite goes on writing into a file that was deleted or replaced, and into one that was written over:
all that would be answered OK and lost. So identities are compared before and after every commit,
which costs a few system calls; and whoever else has written is noticed by the file's time and size,
and by SQLite's own count of others' commits. Then what matters is read anew and compared.

A log of changes that is found beside another file than it was made for would be mixed with it: it
is set aside.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import pathlib
import sqlite3
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from gateway.server.store.contract import StoreError
from gateway.server.store.sqlite.reserve import Reserve

logger = logging.getLogger(__name__)

LOG, INDEX, LOCK = "-wal", "-shm", ".lock"
REVISION = "SELECT value FROM meta WHERE key = 'revision'"
MAX_NOTE_BYTES = 1024
SET_ASIDE = "-wal.set-aside"
# the whole file, at most so often: where times of files are not kept well it would be read again
# and again
EXAMINED_EVERY_S = 600.0
# sqlite.org/fileformat2.html: behind it are the bytes that connections lock
PENDING_BYTE = 0x40000000
SHARED_FIRST, SHARED_SIZE = PENDING_BYTE + 2, 510


class FilesLost(Exception):
    """Nothing may be stored now; the text says why and what the administrator is to do."""


@dataclass(frozen=True, slots=True)
class _Content:
    """What shows that somebody has written."""

    size_bytes: int
    written_at: int  # ns
    log_bytes: int
    others: int  # SQLite's count of commits that were not this connection's


class Files:
    """The database's files while they are open. All of it is the writer's, but `__init__`, `opened`
    and `close`."""

    def __init__(self, path: pathlib.Path, reserve_bytes: int = 0) -> None:
        self._named, self._path = str(path.absolute()), real_path(path)
        # paths are dear, and these are looked at often
        self._log_name, self._lock_name = str(self._beside(LOG)), str(self._beside(LOCK))
        self._lock = exclusive(self._beside(LOCK))
        try:
            # Held longer than any connection: closing a descriptor of the file would take away
            # SQLite's locks on it.
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            os.close(self._lock)
            raise
        # by its other name another server would find neither our lock nor our log
        if os.fstat(self._file).st_nlink > 1:
            os.close(self._file)
            os.close(self._lock)
            raise StoreError(
                f"{self._path}: the file has another name, too (a hard link); remove that, or make"
                f" it a copy"
            )
        self._part()
        self._opened: dict[str, tuple[int, int]] = {}
        self._index: int | None = None  # likewise held: SQLite's locks on its log are there
        self._reserve = Reserve(reserve_bytes)
        self._content: _Content | None = None
        # what the file holds without its log, by the last that we wrote there
        self._kept_revision: int | None = None
        self._examined_at = float("-inf")
        self._spoilt = ""

    def _beside(self, suffix: str) -> pathlib.Path:
        return self._path.with_name(self._path.name + suffix)

    def opened(self, connection: sqlite3.Connection) -> None:
        """Remember which files they are, and what is in them. OSError if one is gone already.
        `connection` is the writer's."""
        watched = (str(self._path), self._named, self._log_name, str(self._beside(INDEX)))
        self._opened = {path: _identity(path) for path in watched}
        self._index = os.open(self._beside(INDEX), os.O_RDWR | os.O_CLOEXEC)
        self.settle(connection)
        self._reserve.hold(self._beside(LOG), self._index)
        self._note()

    def _note(self) -> None:
        """Write down, in the lock's file, which log belongs to which file: for whoever opens them
        next."""
        note = json.dumps(
            {"file": self._opened[str(self._path)], "log": self._opened[self._log_name]}
        ).encode()
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, note, 0)

    def _part(self) -> None:
        """Set a log aside that was made for another file than the one that is there now."""
        try:
            note = json.loads(os.pread(self._lock, MAX_NOTE_BYTES, 0) or b"{}")
            file, log = tuple(note.get("file", ())), tuple(note.get("log", ()))
            strange = _identity(self._log_name) == log and _identity(str(self._path)) != file
        # no log, or nobody has written down anything that is one
        except (OSError, ValueError, TypeError, AttributeError):
            return
        if strange and file:
            logger.error(
                "%s was replaced: the log of changes beside it belonged to what was there before,"
                " and is %s now; if the file was only"
                " copied to and fro, stop the server, name the log %s again and remove %s",
                self._path,
                self._set_aside(),
                self._beside(LOG),
                self._beside(LOCK),
            )

    def close(self) -> None:
        """Let go, once every connection is closed."""
        with contextlib.suppress(FileNotFoundError):
            if self._opened and _identity(str(self._path)) != self._opened[str(self._path)]:
                self._part()
        if self._index is not None:
            os.close(self._index)
        os.close(self._file)
        os.close(self._lock)

    def check(
        self,
        connection: sqlite3.Connection,
        revision: int,
        clusters: Callable[[], Mapping[str, int]] | None,
    ) -> None:
        """Raise FilesLost unless they are as this connection left them; it holds the write lock.

        `revision` and `clusters` (uids with their revisions, None if not known) are what the
        database must hold.
        """
        if self._spoilt:
            raise FilesLost(self._spoilt)
        self.identify(connection)
        found = self._look(connection)
        if found == self._content:
            return
        why = self._examined(found, revision, clusters)
        if why:
            self._spoil(why, found)
        self._content = found

    def identify(self, connection: sqlite3.Connection) -> None:
        """Raise FilesLost unless the files are those that were opened."""
        for path, identity in self._opened.items():
            try:
                if _identity(path) == identity:
                    continue
                what = f"{path} was replaced while the server runs"
            except FileNotFoundError:
                what = f"{path} is gone"
            except OSError as error:
                what = f"{path}: {error.strerror}"
            raise FilesLost(f"{what}: nothing is stored any more. {self._advice(path, connection)}")
        self._relock()

    def _advice(self, path: str, connection: sqlite3.Connection) -> str:
        if path in (str(self._path), self._named):
            return (
                "Put back the very file that was there; or stop the server, put a backup"
                " there, and start it again."
            )
        # What it held has no name any more: written into the database itself it outlives us.
        with contextlib.suppress(sqlite3.Error):
            connection.rollback()
            connection.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
        return (
            f"All that was stored before is in {self._path}: leave that as it is, and start"
            f" the server again."
        )

    def _relock(self) -> None:
        """Take the lock again if its file was removed; FilesLost if another server was quicker."""
        try:
            held = os.fstat(self._lock)
            if _identity(self._lock_name) == (held.st_dev, held.st_ino):
                return
        except FileNotFoundError:
            pass
        try:
            taken = exclusive(pathlib.Path(self._lock_name))
        except (StoreError, OSError):
            raise FilesLost(
                f"{self._path}: its lock was removed, and another server has it now: nothing is"
                f" stored any more."
                " Stop one of the two, and start the other again."
            ) from None
        os.close(self._lock)
        self._lock = taken
        self._note()

    def settle(self, connection: sqlite3.Connection) -> None:
        """Take what is there now for our own: after a commit."""
        with contextlib.suppress(OSError):  # which the next check finds
            before = self._content
            found = self._look(connection) if before is None else self._sizes(before.others)
            self._content = found
            # a part of the log was moved into the file
            if before is None or before.written_at != found.written_at:
                self._kept_revision = self._read_kept_revision()

    def _read_kept_revision(self) -> int | None:
        """Return the revision that the file itself holds, as if it had no log; None if it holds
        none."""
        try:
            with contextlib.closing(
                sqlite3.connect(f"{self._path.as_uri()}?mode=ro&immutable=1", uri=True)
            ) as raw:
                row = raw.execute(REVISION).fetchone()
                return int(row[0]) if row else None
        except (sqlite3.Error, ValueError):
            return None

    def own(self, connection: sqlite3.Connection) -> None:
        """Take what a commit that failed has left in the files, such as half of it on a full disk,
        for our own."""
        with contextlib.suppress(OSError, sqlite3.Error):
            found = self._look(connection)
            if self._content is not None:
                self._content = replace(found, others=self._content.others)
                self._kept_revision = self._read_kept_revision()

    def doubt(self) -> None:
        """Have the content examined at the next check: the connection is a new one, which cannot
        tell what others did before."""
        if self._content is not None:
            self._content = _Content(-1, -1, self._content.log_bytes, -1)

    def _look(self, connection: sqlite3.Connection) -> _Content:
        try:
            (others,) = connection.execute("PRAGMA data_version").fetchone()
        # such as of a file that is none of SQLite's any more, which no program made by way of it
        except sqlite3.Error:
            others = self._content.others if self._content is not None else 0
        return self._sizes(others)

    def _sizes(self, others: int) -> _Content:
        status = os.fstat(self._file)
        return _Content(status.st_size, status.st_mtime_ns, os.stat(self._log_name).st_size, others)

    def _examined(
        self, found: _Content, revision: int, clusters: Callable[[], Mapping[str, int]] | None
    ) -> str:
        """Return what another has done to the content, an empty text if nothing that matters."""
        before = self._content
        assert before is not None
        if found.others == before.others and found.log_bytes != before.log_bytes:
            return f"{self._beside(LOG)} was written over"
        if (
            self._kept_revision is not None
            and (self._read_kept_revision() or 0) < self._kept_revision
        ):
            return f"{self._path} was written over"
        thorough = (found.size_bytes, found.written_at) != (before.size_bytes, before.written_at)
        thorough = thorough and time.monotonic() >= self._examined_at + EXAMINED_EVERY_S
        if thorough:
            self._examined_at = time.monotonic()
            logger.info(
                "another program has written into %s; whether it harmed anything is looked at",
                self._path,
            )
        try:
            return self._compared(revision, clusters, thorough=thorough)
        except sqlite3.Error as error:
            return f"{self._path} was written over ({error})"

    def _compared(
        self, revision: int, clusters: Callable[[], Mapping[str, int]] | None, *, thorough: bool
    ) -> str:
        """Compare what a program sees that opens the database now."""
        raw = sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            raw.execute("BEGIN")
            row = raw.execute(REVISION).fetchone()
            if int(row[0] if row else 0) != revision or (
                clusters is not None
                and dict(raw.execute("SELECT uid, revision FROM cluster").fetchall()) != clusters()
            ):
                return f"another program has changed {self._path}"
            checked = raw.execute("PRAGMA quick_check(1)").fetchone()[0] if thorough else "ok"
            return (
                ""
                if checked == "ok"
                else f"{self._path} is damaged ({' '.join(checked.split())[:200]})"
            )
        finally:
            raw.close()

    def _spoil(self, why: str, found: _Content) -> None:
        """Refuse everything from now on, and keep what was put there from what SQLite would still
        write into it."""
        advice = (
            f"Stop the server, see that the right database is in {self._path}, and start it again."
        )
        # it was not written by way of SQLite
        if self._content is not None and self._content.others == found.others:
            self._freeze()
            advice = (
                f"The log of changes that went with what was there before is"
                f" {self._beside(SET_ASIDE)} now. {advice}"
            )
        self._spoilt = f"{why} while the server runs: nothing is stored any more. {advice}"
        raise FilesLost(self._spoilt)

    def _freeze(self) -> None:
        """Keep connections that close from writing their log into the file, and the next program
        from finding it."""
        with contextlib.suppress(OSError):
            lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, SHARED_FIRST, SHARED_SIZE, 0)
            # the last to close needs these bytes for itself
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, lock)
        with contextlib.suppress(OSError):
            self._set_aside()

    def _set_aside(self) -> pathlib.Path:
        """Take the log away from the file; return where it is now."""
        self._beside(INDEX).unlink(missing_ok=True)
        return self._beside(LOG).rename(self._beside(SET_ASIDE))


def real_path(path: pathlib.Path) -> pathlib.Path:
    """Return where a file is, whatever links lead there: SQLite keeps its log there, and whoever
    comes by another way finds the lock.

    OSError if the links lead nowhere.
    """
    try:
        return path.resolve()
    except RuntimeError:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def exclusive(path: pathlib.Path) -> int:
    """Return a descriptor that holds the lock: two servers on one SQLite file would each believe
    their own view."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreError(
            f"{path}: another server uses this database; stop it first or name another file"
        ) from None
    return descriptor
