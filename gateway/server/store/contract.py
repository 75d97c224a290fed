"""What the server asks of a database, whichever it is. Knows no SQL and no event loop beyond
`await`.

A transaction is one plain function `fn(tx) -> result`, run off the event loop. It either commits
whole or leaves nothing; when `transact` returns, the effect is durable (fsynced) and visible in the
view. Every transaction that writes takes exactly one revision, which stamps all it writes.
Functions may be run again after a rollback, so they must have no effects of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from gateway.server.core.model import Cluster, Event, Remembered, Token, Worker

T = TypeVar("T")


class StoreError(Exception):
    """The database cannot be used; the text says why and what to do, on one line."""


class StoreUnreachable(StoreError):
    """The database does not answer now, and may later."""


class Conflict(Exception):
    """A cluster of that owner holds the id, until it is told to stop."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A cluster that was purged."""

    uid: str
    owner: str
    cluster_id: str
    revision: int


# no server comes so far: what says more is damaged, and what is added to it must be a number of 64
# bits, too
MAX_REVISION = 2**62


@dataclass(frozen=True, slots=True)
class Last:
    """The database that a server last used, as far as it was written down."""

    identity: str
    revision: int


@dataclass(frozen=True, slots=True)
class Keeping:
    """How many rows are kept of what one cluster or user leaves behind; the newest are. About a
    tenth more may stand there for a while."""

    events_per_cluster: int = 1000
    events_per_ended: int = 100
    events_per_user: int = 10_000
    effects_per_user: int = 10_000


class Tx(Protocol):
    """One transaction. Reads see its own writes."""

    def cluster(self, uid: str) -> Cluster | None:
        """Return a cluster, finished ones too. ValueError if its record cannot be read, where it is
        read at all."""

    def count_living(self, owner: str | None = None) -> int:
        """Return how many clusters are not finished, of one owner or of all."""

    def put_cluster(self, cluster: Cluster) -> Cluster:
        """Insert or replace; return it with its revision stamped. Conflict if another cluster holds
        the name (`Cluster.holds_name`)."""

    def purge_cluster(self, uid: str) -> None:
        """Delete a cluster with its workers, events and secrets; leaves a tombstone."""

    def drop_remains(self, uid: str) -> None:
        """Delete what a cluster that has ended needs no more: its secrets, and all but its last
        events."""

    def secrets(self, uid: str) -> bytes | None:
        """Return a cluster's encrypted secrets."""

    def put_secrets(self, uid: str, blob: bytes) -> None:
        """Store a cluster's encrypted secrets; they are encrypted by the caller."""

    def workers(self, uid: str) -> list[Worker]:
        """Return a cluster's workers, oldest first (by creation, then name)."""

    def put_workers(self, workers: Sequence[Worker]) -> None:
        """Insert or replace, however many, in few statements."""

    def delete_workers(self, uid: str, names: Collection[str]) -> None:
        """Delete, however many, in few statements; those that are absent are passed over."""

    def add_events(self, events: Sequence[Event]) -> None:
        """Append events, stamped with this transaction's revision; of a cluster and of a user the
        newest are kept (Keeping)."""

    def events(
        self, uid: str, *, before_sequence: int | None = None, limit: int = 50
    ) -> list[tuple[int, Event]]:
        """Return events newest first with their sequence numbers."""

    def remembered(self, user: str, method: str, request_id: str) -> Remembered | None:
        """Return the effect remembered under a request_id."""

    def remember(self, effect: Remembered) -> None:
        """Remember an effect; of a user the newest are kept (Keeping)."""

    def forget(self, before_at: int) -> int:
        """Forget effects older than an instant, and tokens and what is spent that expired before
        it; return how many."""

    def token(self, token_id: str) -> Token | None:
        """Return a token, expired ones too."""

    def put_token(self, token: Token) -> None:
        """Insert a token."""

    def delete_token(self, token_id: str) -> bool:
        """Delete a token; return whether there was one."""

    def tokens(
        self, user: str, *, before: tuple[int, str] | None = None, limit: int = 50
    ) -> list[Token]:
        """Return a user's tokens, newest first; `before` is (created_at, id) of the last one
        seen."""

    def count_tokens(self, user: str) -> int:
        """Return how many tokens a user has, expired ones too."""

    def forget_tokens(self, user: str, before_at: int) -> None:
        """Delete a user's tokens that expired before an instant."""

    def spend(self, spent_id: str, user: str, expires_at: int, now: int) -> bool:
        """Note that what was good for one use is used, or over; False if it was before. A user's
        that have expired are forgotten."""

    def spent(self, ids: Collection[str]) -> set[str]:
        """Return which of these are used or over; at most 500 are asked for."""

    def count_spent(self, user: str) -> int:
        """Return how many of a user's are noted."""

    def meta(self, key: str) -> bytes | None:
        """Return a value that belongs to the whole installation."""

    def put_meta(self, key: str, value: bytes) -> None:
        """Store a value that belongs to the whole installation."""


@dataclass(frozen=True, slots=True)
class Interest:
    """Which clusters somebody asks for. All it looks at never changes: owner, name and uid."""

    owner: str | None = None  # only theirs; None: everybody's
    uids: frozenset[str] | None = None  # only these, or those of `names`; None: all
    names: frozenset[tuple[str, str]] = frozenset()  # owner and cluster_id

    def wants(self, owner: str, cluster_id: str, uid: str) -> bool:
        """Whether a cluster is asked for."""
        if self.owner is not None and owner != self.owner:
            return False
        return self.uids is None or uid in self.uids or (owner, cluster_id) in self.names


EVERYTHING = Interest()


class View(Protocol):
    """Every cluster that is not purged, as of the last commit published; in memory, read on the
    event loop."""

    @property
    def revision(self) -> int:
        """Revision of the last commit."""

    @property
    def compacted_revision(self) -> int:
        """Purges up to this revision are forgotten: no watch can resume from before it."""

    def cluster(self, uid: str) -> Cluster | None:
        """Return a cluster by uid."""

    def named(self, owner: str, cluster_id: str) -> Cluster | None:
        """Return the newest cluster of that name."""

    def ended(self, owner: str) -> Sequence[Cluster]:
        """Return the clusters of an owner that have ended, those that ended first before the
        others."""

    def purged(self, uid: str) -> bool:
        """Whether there was such a cluster; those purged long ago are forgotten."""

    def clusters(self, owner: str | None = None) -> Iterable[Cluster]:
        """Yield clusters newest first (created_revision, then uid), of one owner or of all. Cheap
        for one owner."""

    def matching(self, interest: Interest) -> Sequence[Cluster]:
        """Return the clusters that are asked for, newest first. Costs what is asked for, but for an
        owner's or everybody's."""

    def subscribe(
        self, interest: Interest = EVERYTHING, *, start_revision: int | None = None
    ) -> Subscription:
        """Return changes from now on, or after a revision; ValueError for a future one, LookupError
        for a compacted one."""


@dataclass(frozen=True, slots=True)
class Change:
    """The latest state of a cluster that changed since the subscriber last looked; None if
    purged."""

    uid: str
    owner: str
    cluster_id: str
    revision: int
    cluster: Cluster | None


class Subscription(Protocol):
    """Changes for one reader, coalesced by uid: it holds at most one change for each cluster."""

    async def next(self, timeout_s: float | None = None) -> tuple[Sequence[Change], int]:
        """Wait for changes; return them in order of revision, with the revision up to which nothing
        is missing.

        After the timeout returns no changes and the present revision.
        """

    def close(self) -> None:
        """Stop receiving. `next` then returns at once, empty."""


class Store(Protocol):
    """A database."""

    @property
    def view(self) -> View:
        """Every cluster, in memory."""

    @property
    def identity(self) -> str:
        """Tells this database from every other one; a backup that is put back takes another. Known
        once it is open."""

    async def open(self) -> None:
        """Connect, migrate, fill the view. StoreError if that cannot be."""

    async def close(self) -> None:
        """Finish what was begun and disconnect."""

    async def transact(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` in a transaction of its own and return its result when that is durable; its
        exceptions pass through."""

    async def read(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` in a read-only transaction."""

    async def healthy(self) -> bool:
        """Whether the database answers."""
