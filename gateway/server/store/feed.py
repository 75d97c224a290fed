"""The view: every cluster that is not purged, in memory, and who is told when one changes. Lives on the event loop.

Resuming needs no log of changes: what changed after a revision is every cluster with a later one, and the tombstones of those purged.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from gateway.server.core.model import Cluster
from gateway.server.store.contract import Change, Tombstone

MAX_TOMBSTONES = 10_000

Wanted = Callable[[Cluster], bool]


class MemorySubscription:
    """Changes for one reader: at most one for each cluster, the latest."""

    def __init__(self, feed: Feed, wanted: Wanted | None) -> None:
        self._feed, self._wanted = feed, wanted
        self._changes: dict[str, Change] = {}
        self._ready = asyncio.Event()
        self._closed = False

    def offer(self, change: Change, identity: Cluster) -> None:
        """Take a change if it is wanted."""
        if self._wanted is None or self._wanted(identity):
            self._changes[change.uid] = change
            self._ready.set()

    async def next(self, timeout_s: float | None = None) -> tuple[Sequence[Change], int]:
        """Wait for changes; return them in order of revision, with the revision up to which nothing is missing."""
        if not self._changes and not self._closed:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._ready.wait()
            except TimeoutError:
                pass
        changes = sorted(self._changes.values(), key=lambda change: change.revision)
        self._changes = {}
        self._ready.clear()
        return changes, self._feed.revision

    def close(self) -> None:
        """Stop receiving."""
        self._closed = True
        self._ready.set()
        self._feed.leave(self)


class Feed:
    """The view and its subscriptions."""

    def __init__(self) -> None:
        self._clusters: dict[str, Cluster] = {}
        self._owned: dict[str, dict[str, Cluster]] = {}
        self._named: dict[tuple[str, str], str] = {}
        self._newest: list[Cluster] | None = None  # every cluster newest first, until one changes
        self._tombstones: OrderedDict[str, tuple[Tombstone, Cluster]] = OrderedDict()
        self._subscriptions: set[MemorySubscription] = set()
        self.revision = 0
        self.compacted_revision = 0

    def load(self, clusters: Iterable[Cluster], tombstones: Iterable[Tombstone], revision: int, compacted_revision: int) -> None:
        """Fill the view once, at start."""
        self.revision, self.compacted_revision = revision, compacted_revision
        for cluster in sorted(clusters, key=lambda one: one.created_revision):
            self._put(cluster)
        for tombstone in sorted(tombstones, key=lambda one: one.revision):
            self._bury(tombstone)

    def cluster(self, uid: str) -> Cluster | None:
        """Return a cluster by uid."""
        return self._clusters.get(uid)

    def named(self, owner: str, cluster_id: str) -> Cluster | None:
        """Return the newest cluster of that name."""
        uid = self._named.get((owner, cluster_id))
        return self._clusters.get(uid) if uid is not None else None

    def clusters(self, owner: str | None = None) -> Iterable[Cluster]:
        """Return clusters newest first, of one owner or of all."""
        if owner is None:
            if self._newest is None:
                self._newest = sorted(self._clusters.values(), key=_newest_first)
            return self._newest
        return list(reversed(self._owned.get(owner, {}).values()))

    def subscribe(self, wanted: Wanted | None = None, *, start_revision: int | None = None) -> MemorySubscription:
        """Return changes from now on, or after a revision."""
        if start_revision is not None:
            if start_revision > self.revision:
                raise ValueError(f"revision {start_revision} is not reached yet; the last one is {self.revision}")
            if start_revision < self.compacted_revision:
                raise LookupError(f"purges up to revision {self.compacted_revision} are forgotten")
        subscription = MemorySubscription(self, wanted)
        self._subscriptions.add(subscription)
        if start_revision is not None:
            for cluster in self._clusters.values():
                if cluster.revision > start_revision:
                    subscription.offer(_change(cluster), cluster)
            for tombstone, identity in self._tombstones.values():
                if tombstone.revision > start_revision:
                    subscription.offer(_purged(tombstone), identity)
        return subscription

    def leave(self, subscription: MemorySubscription) -> None:
        """Forget a subscription."""
        self._subscriptions.discard(subscription)

    def publish(self, revision: int, clusters: Iterable[Cluster], tombstones: Iterable[Tombstone]) -> None:
        """Show what a transaction committed."""
        self.revision = max(self.revision, revision)
        for cluster in clusters:
            self._put(cluster)
            for subscription in tuple(self._subscriptions):
                subscription.offer(_change(cluster), cluster)
        for tombstone in tombstones:
            identity = self._bury(tombstone)
            for subscription in tuple(self._subscriptions):
                subscription.offer(_purged(tombstone), identity)

    def _put(self, cluster: Cluster) -> None:
        self._clusters[cluster.uid] = cluster
        owned = self._owned.setdefault(cluster.owner, {})
        owned[cluster.uid] = cluster  # keeps its place, which is that of its creation
        present = self._clusters.get(self._named.get((cluster.owner, cluster.cluster_id), ""))
        if present is None or present.created_revision <= cluster.created_revision:
            self._named[(cluster.owner, cluster.cluster_id)] = cluster.uid
        self._newest = None

    def _bury(self, tombstone: Tombstone) -> Cluster:
        cluster = self._clusters.pop(tombstone.uid, None) or _identity(tombstone)
        owned = self._owned.get(tombstone.owner, {})
        owned.pop(tombstone.uid, None)
        if not owned:
            self._owned.pop(tombstone.owner, None)
        if self._named.get((tombstone.owner, tombstone.cluster_id)) == tombstone.uid:
            del self._named[(tombstone.owner, tombstone.cluster_id)]
        self._tombstones[tombstone.uid] = (tombstone, cluster)
        while len(self._tombstones) > MAX_TOMBSTONES:
            _, (oldest, _) = self._tombstones.popitem(last=False)
            self.compacted_revision = max(self.compacted_revision, oldest.revision)
        self._newest = None
        return cluster


def _newest_first(cluster: Cluster) -> tuple[int, str]:
    return (-cluster.created_revision, cluster.uid)


def _change(cluster: Cluster) -> Change:
    return Change(cluster.uid, cluster.owner, cluster.cluster_id, cluster.revision, cluster)


def _purged(tombstone: Tombstone) -> Change:
    return Change(tombstone.uid, tombstone.owner, tombstone.cluster_id, tombstone.revision, None)


def _identity(tombstone: Tombstone) -> Cluster:
    """Return a cluster that has only what `wanted` may look at."""
    from gateway.server.core.model import Spec

    return Cluster(tombstone.uid, tombstone.owner, tombstone.cluster_id, Spec(""))
