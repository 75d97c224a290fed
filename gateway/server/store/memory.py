"""The store in memory, for tests of what stands on it: the same semantics as the SQL one, nothing
durable."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from gateway.server.core.model import Cluster, Event, Remembered, Token, Worker
from gateway.server.store.contract import Conflict, Keeping, StoreUnreachable, Tombstone, Tx
from gateway.server.store.feed import Feed
from gateway.server.store.sqlite.tx import KEPT_EVENTS

T = TypeVar("T")


@dataclass
class _Tables:
    clusters: dict[str, Cluster] = field(default_factory=dict)
    secrets: dict[str, bytes] = field(default_factory=dict)
    workers: dict[tuple[str, str], Worker] = field(default_factory=dict)
    events: list[tuple[int, Event]] = field(default_factory=list)
    sequence: int = 0
    effects: dict[tuple[str, str, str], Remembered] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    spent: dict[str, tuple[str, int]] = field(default_factory=dict)  # user and instant of expiry
    meta: dict[str, bytes] = field(default_factory=dict)

    def copy(self) -> _Tables:
        return _Tables(
            dict(self.clusters),
            dict(self.secrets),
            dict(self.workers),
            list(self.events),
            self.sequence,
            dict(self.effects),
            dict(self.tokens),
            dict(self.spent),
            dict(self.meta),
        )


class MemoryTx:
    """One transaction over a copy of everything."""

    def __init__(self, tables: _Tables, revision: int) -> None:
        self.tables, self._revision = tables, revision
        self.wrote = False
        self.changed: dict[str, Cluster] = {}
        self.tombstones: list[Tombstone] = []

    def _stamp(self) -> int:
        self.wrote = True
        return self._revision

    def cluster(self, uid: str) -> Cluster | None:
        return self.tables.clusters.get(uid)

    def count_living(self, owner: str | None = None) -> int:
        return sum(
            not c.state.finished and owner in (None, c.owner) for c in self.tables.clusters.values()
        )

    def put_cluster(self, cluster: Cluster) -> Cluster:
        for other in self.tables.clusters.values():
            same = (other.owner, other.cluster_id) == (
                cluster.owner,
                cluster.cluster_id,
            ) and other.uid != cluster.uid
            if same and other.holds_name and cluster.holds_name:
                raise Conflict(f"{cluster.owner} has a living cluster {cluster.cluster_id}")
        revision = self._stamp()
        stamped = replace(
            cluster, revision=revision, created_revision=cluster.created_revision or revision
        )
        self.tables.clusters[cluster.uid] = self.changed[cluster.uid] = stamped
        return stamped

    def purge_cluster(self, uid: str) -> None:
        cluster = self.tables.clusters.pop(uid, None)
        if cluster is None:
            return
        self.tombstones.append(Tombstone(uid, cluster.owner, cluster.cluster_id, self._stamp()))
        self.changed.pop(uid, None)
        self.tables.secrets.pop(uid, None)
        self.tables.workers = {
            key: worker for key, worker in self.tables.workers.items() if key[0] != uid
        }
        self.tables.events = [entry for entry in self.tables.events if entry[1].uid != uid]

    def drop_remains(self, uid: str) -> None:
        self._stamp()
        self.tables.secrets.pop(uid, None)
        mine = [entry for entry in self.tables.events if entry[1].uid == uid]
        gone = {entry[0] for entry in mine[: -Keeping().events_per_ended]}
        self.tables.events = [entry for entry in self.tables.events if entry[0] not in gone]

    def secrets(self, uid: str) -> bytes | None:
        return self.tables.secrets.get(uid)

    def put_secrets(self, uid: str, blob: bytes) -> None:
        self._stamp()
        self.tables.secrets[uid] = blob

    def workers(self, uid: str) -> list[Worker]:
        found = [worker for key, worker in self.tables.workers.items() if key[0] == uid]
        return sorted(found, key=lambda worker: (worker.created_at, worker.name))

    def put_workers(self, workers: Sequence[Worker]) -> None:
        for worker in workers:
            self._stamp()
            self.tables.workers[(worker.uid, worker.name)] = worker

    def delete_workers(self, uid: str, names: Collection[str]) -> None:
        for name in names:
            self._stamp()
            self.tables.workers.pop((uid, name), None)

    def add_events(self, events: Sequence[Event]) -> None:
        for event in events:
            self.tables.sequence += 1
            self.tables.events.append(
                (self.tables.sequence, replace(event, revision=self._stamp()))
            )
            kept = [entry for entry in self.tables.events if entry[1].uid == event.uid]
            if len(kept) > KEPT_EVENTS:
                self.tables.events.remove(kept[0])

    def events(
        self, uid: str, *, before_sequence: int | None = None, limit: int = 50
    ) -> list[tuple[int, Event]]:
        found = [
            e
            for e in self.tables.events
            if e[1].uid == uid and (before_sequence is None or e[0] < before_sequence)
        ]
        return found[::-1][:limit]

    def remembered(self, user: str, method: str, request_id: str) -> Remembered | None:
        return self.tables.effects.get((user, method, request_id))

    def remember(self, effect: Remembered) -> None:
        self._stamp()
        self.tables.effects[(effect.user, effect.method, effect.request_id)] = effect

    def forget(self, before_at: int) -> int:
        effects = [key for key, effect in self.tables.effects.items() if effect.at < before_at]
        tokens = [key for key, token in self.tables.tokens.items() if token.expires_at < before_at]
        for key in effects:
            del self.tables.effects[key]
        for token_id in tokens:
            del self.tables.tokens[token_id]
        spent = [
            spent_id
            for spent_id, (_, expires_at) in self.tables.spent.items()
            if expires_at < before_at
        ]
        for spent_id in spent:
            del self.tables.spent[spent_id]
        if effects or tokens or spent:
            self._stamp()
        return len(effects) + len(tokens) + len(spent)

    def token(self, token_id: str) -> Token | None:
        return self.tables.tokens.get(token_id)

    def put_token(self, token: Token) -> None:
        self._stamp()
        self.tables.tokens[token.id] = token

    def delete_token(self, token_id: str) -> bool:
        if token_id not in self.tables.tokens:
            return False
        self._stamp()
        del self.tables.tokens[token_id]
        return True

    def tokens(
        self, user: str, *, before: tuple[int, str] | None = None, limit: int = 50
    ) -> list[Token]:
        found = sorted(
            (t for t in self.tables.tokens.values() if t.user == user),
            key=lambda t: (t.created_at, t.id),
            reverse=True,
        )
        return [
            token for token in found if before is None or (token.created_at, token.id) < before
        ][:limit]

    def count_tokens(self, user: str) -> int:
        return sum(token.user == user for token in self.tables.tokens.values())

    def forget_tokens(self, user: str, before_at: int) -> None:
        for token in [
            token
            for token in self.tables.tokens.values()
            if token.user == user and token.expires_at < before_at
        ]:
            self.delete_token(token.id)

    def spend(self, spent_id: str, user: str, expires_at: int, now: int) -> bool:
        self._stamp()
        self.tables.spent = {
            key: entry
            for key, entry in self.tables.spent.items()
            if entry[0] != user or entry[1] > now
        }
        if spent_id in self.tables.spent:
            return False
        self.tables.spent[spent_id] = (user, expires_at)
        return True

    def spent(self, ids: Collection[str]) -> set[str]:
        return self.tables.spent.keys() & set(ids)

    def count_spent(self, user: str) -> int:
        return sum(owner == user for owner, _ in self.tables.spent.values())

    def meta(self, key: str) -> bytes | None:
        return self.tables.meta.get(key)

    def put_meta(self, key: str, value: bytes) -> None:
        self._stamp()
        self.tables.meta[key] = value


class MemoryStore:
    """contract.Store in memory."""

    identity = "memory"

    def __init__(self) -> None:
        self.view = Feed()
        self._tables = _Tables()
        self._revision = 0
        self._open = False

    async def open(self) -> None:
        """Make ready."""
        self._open = True

    async def close(self) -> None:
        """Refuse everything from now on."""
        self._open = False

    async def transact(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` on a copy, which takes the place of everything if `fn` returns."""
        if not self._open:
            raise StoreUnreachable("the database is closed")
        tx = MemoryTx(self._tables.copy(), self._revision + 1)
        result = fn(tx)
        if tx.wrote:
            self._tables, self._revision = tx.tables, self._revision + 1
            self.view.publish(self._revision, list(tx.changed.values()), tx.tombstones)
        return result

    async def read(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` on a copy that is thrown away."""
        if not self._open:
            raise StoreUnreachable("the database is closed")
        return fn(MemoryTx(self._tables.copy(), 0))

    async def healthy(self) -> bool:
        """Whether it is open."""
        return self._open
