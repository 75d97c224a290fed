"""What transactions have written and the database was not told yet: rows by table, then sent in as
few statements as can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Table, and_, or_
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement

from gateway.server.store import tables as t
from gateway.server.store.sqlite.prepared import Binds, Cursor, PreparedRows

Row = Mapping[str, Any]


def _put(table: Table, *changed: str) -> Callable[[Binds], ClauseElement]:
    """Return what inserts rows, or replaces these columns of those that are there."""

    def make(binds: Binds) -> ClauseElement:
        statement = insert(table).values(binds)
        of = {name: statement.excluded[name] for name in changed}
        return (
            statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=of)
            if changed
            else statement
        )

    return make


def _delete_these(binds: Binds) -> ClauseElement:
    c = t.worker.c
    return t.worker.delete().where(
        or_(*[and_(c.uid == bind["uid"], c.name == bind["name"]) for bind in binds])
    )


_put_clusters = PreparedRows(
    _put(t.cluster, "finished", "holds_name", "revision", "document"),
    (
        "uid",
        "owner",
        "cluster_id",
        "finished",
        "holds_name",
        "revision",
        "created_revision",
        "document",
    ),
)
_put_specs = PreparedRows(_put(t.spec, "document"), ("uid", "document"))
_put_secrets = PreparedRows(_put(t.secret, "sealed"), ("uid", "sealed"))
_delete_secrets = PreparedRows(
    lambda binds: t.secret.delete().where(or_(*[t.secret.c.uid == bind["uid"] for bind in binds])),
    ("uid",),
)
_put_workers = PreparedRows(
    _put(t.worker, "created_at", "document"), ("uid", "name", "created_at", "document")
)
_delete_workers = PreparedRows(_delete_these, ("uid", "name"))
_add_events = PreparedRows(
    _put(t.event), ("uid", "revision", "at", "reason", "message", "instance")
)
_remember = PreparedRows(
    _put(t.idempotency, "digest", "uid", "at"),
    ("user", "method", "request_id", "digest", "uid", "at"),
)


def row(**values: Any) -> Row:
    """Return a row that can wait; raises for a value that the driver would refuse.

    So it fails who writes it: found only when the row is sent, it would fail everybody in the
    group.
    """
    for name, value in values.items():
        if isinstance(value, str):
            _ = value.isascii() or value.encode()  # which half a character has no bytes for
        elif isinstance(value, int):
            if not -(2**63) <= value < 2**63:
                raise OverflowError(f"{name} has more than 64 bits")
        elif not isinstance(value, bytes):
            raise TypeError(f"{name} is of type {type(value).__name__}")
    return values


class Pending:
    """Rows that wait, in the order they were written; of a row that was written twice, the last."""

    def __init__(self) -> None:
        self.clusters: dict[str, Row] = {}
        self.specs: dict[str, Row] = {}
        self.secrets: dict[str, Row | None] = {}  # None: to be deleted
        self.workers: dict[tuple[str, str], Row | None] = {}  # by uid and name; None: to be deleted
        self.events: list[Row] = []
        self.effects: dict[tuple[str, str, str], Row] = {}  # by user, method and request_id

    def take(self, later: Pending) -> None:
        """Take what another transaction wrote after these."""
        self.clusters |= later.clusters
        self.specs |= later.specs
        self.secrets |= later.secrets
        self.workers |= later.workers
        self.events += later.events
        self.effects |= later.effects

    def write(self, cursor: Cursor, dialect: Dialect) -> None:
        """Tell the database, and hold nothing any more."""
        # Those that hold no name first: the name of one may be another's by now.
        _put_clusters.run(
            cursor, dialect, sorted(self.clusters.values(), key=lambda row: row["holds_name"])
        )
        _put_specs.run(cursor, dialect, list(self.specs.values()))
        _delete_secrets.run(
            cursor, dialect, [{"uid": uid} for uid, row in self.secrets.items() if row is None]
        )
        _put_secrets.run(cursor, dialect, [row for row in self.secrets.values() if row is not None])
        _delete_workers.run(
            cursor,
            dialect,
            [
                {"uid": uid, "name": name}
                for (uid, name), row in self.workers.items()
                if row is None
            ],
        )
        _put_workers.run(cursor, dialect, [row for row in self.workers.values() if row is not None])
        _add_events.run(cursor, dialect, self.events)
        _remember.run(cursor, dialect, list(self.effects.values()))
        for rows in (
            self.clusters,
            self.specs,
            self.secrets,
            self.workers,
            self.events,
            self.effects,
        ):
            rows.clear()
