"""A transaction in SQL: contract.Tx over one SQLAlchemy Core connection, but for tokens, which are
in tokens.py. Commits nothing by itself."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import IntegrityError

from gateway.server.core.model import Cluster, Event, Remembered, Worker
from gateway.server.store import tables as t
from gateway.server.store.codec import decode_cluster, encode, encode_cluster, encode_spec
from gateway.server.store.contract import Conflict, Keeping, Tombstone
from gateway.server.store.feed import MAX_TOMBSTONES
from gateway.server.store.sqlite import trimming
from gateway.server.store.sqlite.mirror import Mirror, in_order
from gateway.server.store.sqlite.pending import Pending, row
from gateway.server.store.sqlite.prepared import Cursor, Prepared
from gateway.server.store.sqlite.tokens import TokenRows
from gateway.server.store.sqlite.unreadable import worker_of

KEPT_EVENTS = 1000  # of each cluster

_read_cluster = select(t.cluster.c.document, t.spec.c.document.label("spec")).outerjoin(
    t.spec, t.spec.c.uid == t.cluster.c.uid
)
_get_cluster = Prepared(_read_cluster.where(t.cluster.c.uid == bindparam("of")))
_get_workers = Prepared(
    select(t.worker.c.name, t.worker.c.created_at, t.worker.c.document)
    .where(t.worker.c.uid == bindparam("of"))
    .order_by(t.worker.c.created_at, t.worker.c.name)
)
_get_remembered = Prepared(
    select(t.idempotency.c.digest, t.idempotency.c.uid, t.idempotency.c.at).where(
        t.idempotency.c.user == bindparam("of"),
        t.idempotency.c.method == bindparam("called"),
        t.idempotency.c.request_id == bindparam("id"),
    )
)
_insert_meta = insert(t.meta)
_put_meta_row = Prepared(
    _insert_meta.on_conflict_do_update(
        index_elements=["key"], set_={"value": _insert_meta.excluded.value}
    ),
    ("key", "value"),
)


class SqlTx(TokenRows):
    """One transaction. `mirror`: what the database holds, for a writer that is alone with it;
    `before`: what others in its group wrote."""

    def __init__(
        self,
        connection: Connection,
        revision: int,
        mirror: Mirror | None = None,
        cursor: Cursor | None = None,
        before: Pending | None = None,
        keeping: Keeping | None = None,
    ) -> None:
        super().__init__(connection, revision, cursor, before)
        self._keeping = keeping or Keeping(events_per_cluster=KEPT_EVENTS)
        self._mirror = mirror
        self.clusters: dict[str, Cluster] = {}
        self.tombstones: list[Tombstone] = []
        # whole sets, of the clusters whose workers this transaction changed
        self.workers_written: dict[str, dict[str, Worker]] = {}

    @property
    def purged(self) -> set[str]:
        """Clusters that this transaction deleted."""
        return {tombstone.uid for tombstone in self.tombstones}

    def cluster(self, uid: str) -> Cluster | None:
        if self._mirror is not None:
            return (
                None if uid in self.purged else self.clusters.get(uid) or self._mirror.cluster(uid)
            )
        found = _get_cluster.run(self._cursor, self._dialect, {"of": uid}).fetchone()
        return decode_cluster(*found) if found is not None else None

    def count_living(self, owner: str | None = None) -> int:
        if self._mirror is not None and not self.clusters and not self.tombstones:
            return self._mirror.living(owner)
        query = select(func.count()).select_from(t.cluster).where(t.cluster.c.finished == False)  # noqa: E712
        if owner is not None:
            query = query.where(t.cluster.c.owner == owner)
        return self._database().execute(query).scalar() or 0

    def put_cluster(self, cluster: Cluster) -> Cluster:
        if self._name_taken(cluster):
            raise Conflict(f"{cluster.owner} has a living cluster {cluster.cluster_id}")
        revision = self._stamp()
        stamped = replace(
            cluster, revision=revision, created_revision=cluster.created_revision or revision
        )
        before = self.cluster(cluster.uid) if self._mirror is not None else None
        self._pending.clusters[stamped.uid] = row(
            uid=stamped.uid,
            owner=stamped.owner,
            cluster_id=stamped.cluster_id,
            finished=stamped.state.finished,
            holds_name=stamped.holds_name,
            revision=stamped.revision,
            created_revision=stamped.created_revision,
            document=encode_cluster(stamped),
        )
        if before is None or (before.spec is not stamped.spec and before.spec != stamped.spec):
            self._pending.specs[stamped.uid] = row(
                uid=stamped.uid, document=encode_spec(stamped.spec)
            )
        if (
            self._mirror is not None
            and before is None
            and self._mirror.workers(stamped.uid) is None
        ):
            # a new one has none: nobody needs to look
            self.workers_written.setdefault(stamped.uid, {})
            self._mirror.events.know(stamped.uid, 0)
        try:
            self._written()
        except (IntegrityError, sqlite3.IntegrityError):
            raise Conflict(f"{stamped.owner} has a living cluster {stamped.cluster_id}") from None
        self.clusters[stamped.uid] = stamped
        return stamped

    def _name_taken(self, cluster: Cluster) -> bool:
        """Whether another cluster holds the name, as the writer knows; without a mirror the
        database tells."""
        if not cluster.holds_name or self._mirror is None:
            return False
        holder = self._mirror.holder(cluster.owner, cluster.cluster_id)
        if (
            holder is not None
            and holder not in self.purged
            and holder not in self.clusters
            and holder != cluster.uid
        ):
            return True
        named = (cluster.owner, cluster.cluster_id)
        mine = [
            other
            for other in self.clusters.values()
            if (other.owner, other.cluster_id) == named and other.uid != cluster.uid
        ]
        return any(other.holds_name for other in mine)

    def purge_cluster(self, uid: str) -> None:
        cluster = self.cluster(uid)
        if cluster is None:
            return
        connection = self._database()
        for table in (t.cluster, t.spec, t.worker, t.event, t.secret):
            connection.execute(table.delete().where(table.c.uid == uid))
        tombstone = Tombstone(uid, cluster.owner, cluster.cluster_id, self._stamp())
        connection.execute(
            t.tombstone.insert().values(
                uid=uid,
                owner=cluster.owner,
                cluster_id=cluster.cluster_id,
                revision=tombstone.revision,
            )
        )
        self._trim_tombstones()
        self.clusters.pop(uid, None)
        self.tombstones.append(tombstone)

    def _trim_tombstones(self) -> None:
        c = t.tombstone.c
        beyond = select(c.revision).order_by(c.revision.desc()).offset(MAX_TOMBSTONES).limit(1)
        connection = self._database()
        oldest = connection.execute(beyond).scalar()
        if oldest is not None:
            connection.execute(t.tombstone.delete().where(c.revision <= oldest))
            self.put_meta("compacted_revision", str(oldest).encode())

    def drop_remains(self, uid: str) -> None:
        self._stamp()
        self._pending.secrets[uid] = None
        self._written()
        most = self._keeping.events_per_ended
        there = None if self._mirror is None else self._mirror.events.add(uid, 0)
        if there is None or there > most:
            self._trim_events(uid, most)

    def secrets(self, uid: str) -> bytes | None:
        return (
            self._database()
            .execute(select(t.secret.c.sealed).where(t.secret.c.uid == uid))
            .scalar()
        )

    def put_secrets(self, uid: str, blob: bytes) -> None:
        self._stamp()
        self._pending.secrets[uid] = row(uid=uid, sealed=blob)
        self._written()

    def workers(self, uid: str) -> list[Worker]:
        return (
            list(in_order(self._workers(uid).values()))
            if self._mirror is not None
            else self._read_workers(uid)
        )

    def _read_workers(self, uid: str) -> list[Worker]:
        self._database()
        return [
            worker_of(uid, *found)
            for found in _get_workers.run(self._cursor, self._dialect, {"of": uid}).fetchall()
        ]

    def _workers(self, uid: str) -> dict[str, Worker]:
        """Return a cluster's workers by name, what this transaction changed included. Not to be
        changed."""
        assert self._mirror is not None
        if uid in self.purged:
            return {}
        found = self.workers_written.get(uid)
        if found is None:
            found = self._mirror.workers(uid)
        if found is None:
            found = {worker.name: worker for worker in self._read_workers(uid)}
            self._mirror.learn_workers(uid, found)
        return found

    def put_workers(self, workers: Sequence[Worker]) -> None:
        if not workers:
            return
        self._stamp()
        rows = {
            (w.uid, w.name): row(
                uid=w.uid, name=w.name, created_at=w.created_at, document=encode(w)
            )
            for w in workers
        }
        if self._mirror is not None:
            for uid in {worker.uid for worker in workers}:
                self.workers_written[uid] = self._workers(uid) | {
                    worker.name: worker for worker in workers if worker.uid == uid
                }
        self._pending.workers |= rows
        self._written()

    def delete_workers(self, uid: str, names: Collection[str]) -> None:
        if not names:
            return
        self._stamp()
        for name in names:
            row(uid=uid, name=name)  # which refuses what no row can have
        gone = frozenset(names)
        if self._mirror is not None:
            self.workers_written[uid] = {
                name: worker for name, worker in self._workers(uid).items() if name not in gone
            }
        self._pending.workers |= {(uid, name): None for name in names}
        self._written()

    def add_events(self, events: Sequence[Event]) -> None:
        if not events:
            return
        revision = self._stamp()
        self._pending.events += [
            row(
                uid=e.uid,
                revision=revision,
                at=e.at,
                reason=e.reason,
                message=e.message,
                instance=e.instance,
            )
            for e in events
        ]
        self._written()
        for uid, added in Counter(event.uid for event in events).items():
            there, most = (
                None if self._mirror is None else self._mirror.events.add(uid, added),
                self._keeping.events_per_cluster,
            )
            if there is None or there >= most + trimming.SLACK:
                self._trim_events(uid, most)
            cluster = self.cluster(uid) if self._mirror is not None else None
            if cluster is not None and self._mirror is not None:
                counts, of_user = self._mirror.events_of_owner, self._keeping.events_per_user
                trimming.trim_events_of(self._connection, cluster.owner, counts, added, of_user)

    def _trim_events(self, uid: str, most: int) -> None:
        trimming.trim_events(self._database(), uid, most)
        if self._mirror is not None:
            self._mirror.events.know(uid, most)

    def events(
        self, uid: str, *, before_sequence: int | None = None, limit: int = 50
    ) -> list[tuple[int, Event]]:
        c = t.event.c
        query = select(t.event).where(c.uid == uid).order_by(c.sequence.desc()).limit(limit)
        if before_sequence is not None:
            query = query.where(c.sequence < before_sequence)
        rows = self._database().execute(query)
        return [
            (r.sequence, Event(r.uid, r.at, r.reason, r.message, r.instance, r.revision))
            for r in rows
        ]

    def remembered(self, user: str, method: str, request_id: str) -> Remembered | None:
        for pending in (self._pending, self._before):
            if (
                pending is not None
                and (kept := pending.effects.get((user, method, request_id))) is not None
            ):
                return Remembered(**kept)
        found = _get_remembered.run(
            self._cursor, self._dialect, {"of": user, "called": method, "id": request_id}
        ).fetchone()
        return (
            Remembered(user, method, request_id, found[0], found[1], found[2])
            if found is not None
            else None
        )

    def remember(self, effect: Remembered) -> None:
        self._stamp()
        columns = ("user", "method", "request_id", "digest", "uid", "at")
        self._pending.effects[effect.user, effect.method, effect.request_id] = row(
            **{name: getattr(effect, name) for name in columns}
        )
        self._written()
        if self._mirror is not None:
            counts, most = self._mirror.effects_of_user, self._keeping.effects_per_user
            trimming.trim_effects_of(self._connection, effect.user, counts, most)

    def forget(self, before_at: int) -> int:
        connection = self._database()
        effects = connection.execute(t.idempotency.delete().where(t.idempotency.c.at < before_at))
        tokens = connection.execute(t.token.delete().where(t.token.c.expires_at < before_at))
        spent = connection.execute(t.spent.delete().where(t.spent.c.expires_at < before_at))
        forgotten = effects.rowcount + tokens.rowcount + spent.rowcount
        if forgotten:
            self._stamp()
        return forgotten

    def spare_bytes(self) -> int:
        """Return how large the free pages of the file are together."""
        count, size = (
            self._database().exec_driver_sql(f"PRAGMA {name}").scalar() or 0
            for name in ("freelist_count", "page_size")
        )
        return int(count * size)

    def meta(self, key: str) -> bytes | None:
        return self._database().execute(select(t.meta.c.value).where(t.meta.c.key == key)).scalar()

    def put_meta(self, key: str, value: bytes) -> None:
        self._stamp()
        self._database()
        _put_meta_row.run(self._cursor, self._dialect, {"key": key, "value": value})
