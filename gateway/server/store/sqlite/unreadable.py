"""Records that stand in the database and cannot be read, as a damaged disk or an older version
leaves them: each is told once.

A cluster's is passed over as if it were not there, but its name stays taken, its processes are left
alone, and it is kept: only an administrator knows what it was.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from gateway.server.core.model import Cluster, Spec, Token, Worker
from gateway.server.store import tables as t
from gateway.server.store.codec import decode, decode_cluster, decode_worker
from gateway.server.store.sqlite.revisions import revision_of

logger = logging.getLogger(__name__)

MAX_TOLD = 10_000  # records that were complained of and are remembered

T = TypeVar("T")
_told: dict[str, None] = {}


@dataclass(frozen=True, slots=True)
class Unread:
    """What the columns of a cluster's row tell where its document does not."""

    uid: str
    owner: str
    cluster_id: str
    finished: bool
    holds_name: bool
    revision: int


def begin() -> None:
    """Forget what was told: another database is opened."""
    _told.clear()


def tell(what: str, error: BaseException) -> None:
    """Log that a record cannot be read, unless that was said before."""
    if what in _told:
        return
    while len(_told) >= MAX_TOLD:
        del _told[next(iter(_told))]
    _told[what] = None
    logger.error(
        "the record of %s cannot be read and is passed over (%.200s); put a backup back, or delete"
        " the record",
        what,
        error,
    )


def read_clusters(connection: Connection) -> tuple[list[Cluster], list[Unread]]:
    """Return every cluster of a database, and what is known of those that cannot be read."""
    c = t.cluster.c
    clusters, unread = [], []
    specs: dict[str, Spec] = {}  # by their texts
    latest = revision_of(connection)
    columns = (
        c.uid,
        c.owner,
        c.cluster_id,
        c.finished,
        c.holds_name,
        c.revision,
        c.created_revision,
        c.document,
        t.spec.c.document.label("spec"),
    )
    for row in connection.execute(select(*columns).outerjoin(t.spec, t.spec.c.uid == c.uid)):
        try:
            clusters.append(_same(row, decode_cluster(row.document, row.spec, specs), latest))
        except ValueError as error:
            tell(f"cluster {row.uid} of {row.owner}", error)
            unread.append(
                Unread(
                    row.uid,
                    row.owner,
                    row.cluster_id,
                    bool(row.finished),
                    bool(row.holds_name),
                    row.revision,
                )
            )
    return clusters, unread


def _same(row: Any, cluster: Cluster, latest: int) -> Cluster:
    """Return the cluster, with the revisions of its row; ValueError if the row tells another, or
    revisions that were never given out."""
    if cluster.uid != row.uid:
        raise ValueError("it is that of another cluster")
    beside = (row.owner, row.cluster_id, bool(row.finished), bool(row.holds_name))
    told = (cluster.owner, cluster.cluster_id, cluster.state.finished, cluster.holds_name)
    if told != beside:
        raise ValueError("its document and the columns beside it differ")
    revisions = (row.revision, row.created_revision)
    if (
        not all(type(revision) is int for revision in revisions)
        or not 0 < row.created_revision <= row.revision <= latest
    ):
        raise ValueError(f"its revisions are none of this database, which is at {latest}")
    if revisions == (cluster.revision, cluster.created_revision):
        return cluster
    return replace(cluster, revision=row.revision, created_revision=row.created_revision)


def worker_of(uid: str, name: str, created_at: int, document: str) -> Worker:
    """Return a worker; one that cannot be read is intended anew under its name, so that its backend
    adopts whatever there is of it."""
    try:
        return decode_worker(document)
    except ValueError as error:
        tell(f"worker {name} of cluster {uid}", error)
        return Worker(uid, name, name.rpartition("-")[0], created_at=created_at)


def token_of(token_id: str, document: str) -> Token | None:
    """Return a token, None if it cannot be read: it lets nobody in."""
    try:
        return decode(Token, document)
    except ValueError as error:
        tell(f"token {token_id}", error)
        return None


def readable(rows: Iterable[T | None], most: int) -> list[T]:
    """Return at most so many of what can be read."""
    found: list[T] = []
    for row in rows:
        if row is not None:
            found.append(row)
        if len(found) == most:
            break
    return found
