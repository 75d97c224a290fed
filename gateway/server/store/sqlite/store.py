"""The store in one SQLite file: a writer thread that commits what has queued up as one group, and
readers beside it.

OK to a caller means fsynced: WAL with synchronous=FULL, one fsync for a whole group. What the
functions of a group write waits in memory until all have run, and is then told in a few statements;
one that fails undoes only itself. What a group committed is published to the view before its
callers are answered.
"""

from __future__ import annotations

import asyncio
import logging
import pathlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.exc import DatabaseError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from gateway.server.core.model import Cluster
from gateway.server.store import tables as t
from gateway.server.store.contract import Keeping, Last, StoreError, StoreUnreachable, Tombstone, Tx
from gateway.server.store.feed import Feed
from gateway.server.store.migrations import migrate
from gateway.server.store.sqlite import reserve, unreadable
from gateway.server.store.sqlite.files import Files, FilesLost, real_path
from gateway.server.store.sqlite.grouped import GroupLost
from gateway.server.store.sqlite.identity import recognize
from gateway.server.store.sqlite.mirror import Mirror
from gateway.server.store.sqlite.pending import Pending
from gateway.server.store.sqlite.prepared import Cursor
from gateway.server.store.sqlite.revisions import COMPACTED_KEY, REVISION_KEY, revision_of
from gateway.server.store.sqlite.trouble import Trouble
from gateway.server.store.sqlite.tx import SqlTx

logger = logging.getLogger(__name__)

T = TypeVar("T")

# functions waiting for the writer; beyond, callers are told that the database does not answer
MAX_QUEUED = 20_000
MAX_GROUP = 256  # functions committed together
READERS = 2
BUSY_TIMEOUT_MS = 10_000


@dataclass(slots=True)
class _Job:
    fn: Callable[[Tx], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class _Committed:
    """What one function wrote."""

    revision: int
    clusters: list[Cluster]
    tombstones: list[Tombstone]


class SqliteStore:
    """contract.Store in a file."""

    def __init__(
        self,
        path: pathlib.Path,
        last: Last | None = None,
        keeping: Keeping | None = None,
        *,
        reserve_bytes: int = 0,
    ) -> None:
        self._keeping, self._reserve_bytes = keeping, reserve_bytes
        self._path, self._last = pathlib.Path(path), last
        self.view = Feed()
        self.identity = ""
        self.strange = ""  # why it is not the database that was last used; an empty text if it is
        self._jobs: queue.Queue[_Job | None] = queue.Queue(MAX_QUEUED)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._writer: threading.Thread | None = None
        self._engine: Engine | None = None
        self._connection: Connection | None = None  # the writer's own
        # does nothing: with the last connection SQLite's log would go, and another would be made
        self._keeper: Connection | None = None
        self._files: Files | None = None
        self._trouble = Trouble(logger, f"the database {self._path}")  # the writer's own
        self._revision = 0  # of the last commit; the writer's own
        # what the file holds; the writer's own; None after a commit that failed
        self._mirror: Mirror | None = None

    async def open(self) -> None:
        """Connect, migrate, fill the view."""
        try:
            await asyncio.to_thread(self._open)
        except (DatabaseError, sqlite3.Error) as error:
            self._release()
            raise StoreError(f"{self._path}: {_words(error)}") from None
        except OSError as error:
            self._release()
            raise StoreError(f"{self._path}: {error.strerror}") from None
        except ValueError as error:
            self._release()
            raise StoreError(
                f"{self._path}: a record cannot be read ({_words(error)[:200]}); put a backup back"
            ) from None
        except BaseException:
            self._release()
            raise
        self._writer = threading.Thread(target=self._write, name="store-writer", daemon=True)
        self._writer.start()

    def _open(self) -> None:
        self._files = Files(self._path, self._reserve_bytes)
        unreadable.begin()
        self._engine = _engine(real_path(self._path))
        connection = self._connection = self._engine.connect()
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        migrate(connection)
        self.identity, self.strange = recognize(connection, self._last)
        connection.commit()
        connection.exec_driver_sql("BEGIN")
        self._load(connection)
        connection.rollback()
        self._keeper = self._engine.connect()
        self._keeper.execute(select(t.meta.c.key)).all()
        self._keeper.rollback()
        self._files.opened(_driver(connection))
        connection.rollback()

    def _load(self, connection: Connection) -> None:
        clusters, unread = unreadable.read_clusters(connection)
        tombstones = [
            Tombstone(r.uid, r.owner, r.cluster_id, r.revision)
            for r in connection.execute(select(t.tombstone))
        ]
        self._revision = revision_of(connection)
        self._mirror = Mirror(clusters, unread)
        self.view.load(clusters, tombstones, self._revision, revision_of(connection, COMPACTED_KEY))

    async def close(self) -> None:
        """Finish what was begun and disconnect."""
        writer, self._writer = self._writer, None
        if writer is not None:
            await asyncio.to_thread(self._jobs.put, None)
            await asyncio.to_thread(writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        self._release()

    def _release(self) -> None:
        for connection in (self._connection, self._keeper):
            if connection is not None:
                connection.close()
        self._connection = self._keeper = None
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None
        if self._files is not None:
            self._files.close()
            self._files = None

    async def transact(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` in a transaction of its own and return its result when that is durable."""
        if self._writer is None:
            raise StoreUnreachable("the database is closed")
        loop = asyncio.get_running_loop()
        job = _Job(fn, loop.create_future(), loop)
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise StoreUnreachable(f"{MAX_QUEUED} changes wait for the database") from None
        result: T = await job.future
        return result

    async def read(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` in a read-only transaction."""
        if self._writer is None:
            raise StoreUnreachable("the database is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, fn)
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise StoreUnreachable(_words(error)) from None

    def _read(self, fn: Callable[[Tx], T]) -> T:
        assert self._engine is not None
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                return fn(SqlTx(connection, 0))
            finally:
                connection.rollback()

    async def reserve(self) -> None:
        """See that there is space in the file for what must be stored when the disk is full; not to
        be called when it is."""
        await reserve.spare(
            self._reserve_bytes,
            self.spare_bytes,
            lambda key, value: self.transact(lambda tx: tx.put_meta(key, value)),
        )

    async def spare_bytes(self) -> int:
        """Return how much can be written into the file without making it larger."""
        return await self.read(_spare_bytes)

    async def healthy(self) -> bool:
        """Whether the database can be written to; what is wrong with it is logged once."""
        try:
            await self.transact(lambda tx: None)
        except StoreError:
            return False
        return True

    def _write(self) -> None:
        """The writer thread: take what has queued up, commit it as one, answer."""
        assert self._connection is not None
        ended = False
        while not ended:
            group = [self._jobs.get()]
            while len(group) < MAX_GROUP and not self._jobs.empty():
                group.append(self._jobs.get_nowait())
            ended = None in group
            jobs = [job for job in group if job is not None]
            if jobs:
                self._commit(self._connection, jobs)
            del group, jobs

    def _commit(self, connection: Connection, jobs: list[_Job]) -> None:
        committed: list[_Committed] = []
        try:
            revision = self._write_group(connection, jobs, committed)
            connection.commit()
        # the group is undone as a whole: nothing of it may be answered OK
        except Exception as error:
            failure, committed = _words(error), []
            self._undo(connection, lost=isinstance(error, FilesLost))
        else:
            self._revision = revision
            failure = self._settle(connection)
        if failure:
            self._trouble.hear(failure)
            for job in jobs:
                job.error = StoreUnreachable(failure)
        else:
            self._trouble.over()
        loops = {job.loop for job in jobs}
        for loop in loops:
            mine = [job for job in jobs if job.loop is loop]
            try:
                loop.call_soon_threadsafe(self._answer, committed, mine)
            except RuntimeError:  # that loop is closed, and nobody waits there any more
                logger.debug("a caller's event loop has closed")

    def _write_group(
        self, connection: Connection, jobs: list[_Job], committed: list[_Committed]
    ) -> int:
        """Run functions in one transaction, which is left open; return the revision of the last
        that wrote."""
        assert self._files is not None
        known = None if self._mirror is None else self._mirror.revisions
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except DatabaseError:
            self._files.check(_driver(connection), self._revision, known)  # which may know why
            raise
        self._files.check(_driver(connection), self._revision, known)
        if self._mirror is None:
            self._mirror = Mirror(*unreadable.read_clusters(connection))
        cursor: Cursor = connection.connection.cursor()
        pending, revision = Pending(), self._revision
        for job in jobs:
            revision = self._run(
                SqlTx(connection, revision + 1, self._mirror, cursor, pending, self._keeping),
                job,
                revision,
                committed,
            )
        pending.write(cursor, connection.dialect)
        if revision != self._revision:
            SqlTx(connection, revision).put_meta(REVISION_KEY, str(revision).encode())
        return revision

    def _settle(self, connection: Connection) -> str:
        """After a commit: return why it may be lost all the same, an empty text if it is not. The
        view shows it: our own file has it."""
        assert self._files is not None
        try:
            self._files.identify(_driver(connection))
            self._files.settle(_driver(connection))
        except (FilesLost, sqlite3.Error) as error:
            return _words(error)
        return ""

    def _undo(self, connection: Connection, *, lost: bool) -> None:
        """Undo what a group wrote; a connection that cannot even do that is replaced. What it left
        in the files, if not lost, is ours."""
        assert self._files is not None
        self._mirror = None
        try:
            connection.rollback()
        except Exception as error:
            logger.debug("a transaction could not be undone: %s", _words(error))
            connection.invalidate()
            connection.rollback()
            self._files.doubt()
        if not lost:
            self._files.own(_driver(connection))

    def _run(self, tx: SqlTx, job: _Job, revision: int, committed: list[_Committed]) -> int:
        """Run one function, so that its failure undoes only itself; return the revision it has
        taken, or the one before."""
        assert self._mirror is not None
        try:
            job.result = job.fn(tx)
        except GroupLost:
            raise
        except BaseException as error:
            if _of_the_database(error):
                raise
            tx.undo()
            # that one no future takes
            job.error = RuntimeError("StopIteration") if isinstance(error, StopIteration) else error
            return revision
        tx.keep()
        self._mirror.put(tx.clusters.values(), tx.workers_written.items(), tx.purged)
        if not tx.wrote:
            return revision
        committed.append(_Committed(revision + 1, list(tx.clusters.values()), tx.tombstones))
        return revision + 1

    def _answer(self, committed: list[_Committed], jobs: list[_Job]) -> None:
        """On the event loop: show what was committed, then answer those who wait."""
        for change in committed:
            self.view.publish(change.revision, change.clusters, change.tombstones)
        for job in jobs:
            if job.future.done():
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)


def _engine(path: pathlib.Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=READERS + 2,  # the writer and the keeper
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
    )

    @event.listens_for(engine, "connect")
    def prepare(raw: Any, _: Any) -> None:
        raw.isolation_level = None  # transactions are begun by us, not by the driver
        raw.text_factory = _text
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
        ):
            raw.execute(f"PRAGMA {pragma}").close()

    return engine


def _text(raw: bytes) -> str:
    """Return a text as it is stored; one that is damaged must not take the database for unusable,
    as the driver does."""
    return raw.decode(errors="replace")


def _spare_bytes(tx: Tx) -> int:
    assert isinstance(tx, SqlTx)
    return tx.spare_bytes()


def _driver(connection: Connection) -> sqlite3.Connection:
    found: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    return found


def _of_the_database(error: BaseException) -> bool:
    """Whether the database is at fault, as with a full disk or a damaged file, and not what was
    asked of it."""
    original = getattr(error, "orig", None) or error
    return type(original) in (
        sqlite3.DatabaseError,
        sqlite3.OperationalError,
        sqlite3.InternalError,
    )


def _words(error: BaseException) -> str:
    """Return what a database error says, on one line."""
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split()) or type(original).__name__
