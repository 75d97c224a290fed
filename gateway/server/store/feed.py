"""The view: every cluster that is not purged, in memory. Lives on the event loop.

Resuming needs no log of changes: what changed after a revision is every cluster with a later one,
and the tombstones of those purged.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

from gateway.server.core.model import Cluster
from gateway.server.store.contract import EVERYTHING, Change, Interest, Tombstone
from gateway.server.store.subscriptions import MemorySubscription, Subscriptions

Key = TypeVar("Key", bound=Hashable)
MAX_TOMBSTONES = 10_000


class Feed:
    """The view and its subscriptions."""

    def __init__(self) -> None:
        self._clusters: dict[str, Cluster] = {}
        self._owned: dict[str, dict[str, Cluster]] = {}
        # all that had the name, the newest last
        self._named: dict[tuple[str, str], dict[str, Cluster]] = {}
        self._ended: dict[str, dict[str, Cluster]] = {}  # by owner
        # every uid, that of the newest cluster first, until one comes or goes
        self._newest: list[str] | None = None
        # by uid, in the order of their revisions
        self._tombstones: OrderedDict[str, Tombstone] = OrderedDict()
        self._subscriptions = Subscriptions()
        self.revision = 0
        self.compacted_revision = 0

    def load(
        self,
        clusters: Iterable[Cluster],
        tombstones: Iterable[Tombstone],
        revision: int,
        compacted_revision: int,
    ) -> None:
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
        namesakes = self._named.get((owner, cluster_id))
        return next(reversed(namesakes.values())) if namesakes else None

    def matching(self, interest: Interest) -> Sequence[Cluster]:
        """Return the clusters that are asked for, newest first."""
        if interest.uids is None:
            return list(self.clusters(interest.owner))
        found = {uid: self._clusters[uid] for uid in interest.uids if uid in self._clusters}
        for name in interest.names:
            found |= self._named.get(name, {})
        wanted = [
            cluster
            for cluster in found.values()
            if interest.wants(cluster.owner, cluster.cluster_id, cluster.uid)
        ]
        return sorted(wanted, key=_newest_first)

    def ended(self, owner: str) -> Sequence[Cluster]:
        """Return the clusters of an owner that have ended, those that ended first before the
        others."""
        return sorted(
            self._ended.get(owner, {}).values(),
            key=lambda cluster: (cluster.stopped_at, cluster.created_revision),
        )

    def purged(self, uid: str) -> bool:
        """Whether there was such a cluster; those purged long ago are forgotten."""
        return uid in self._tombstones

    def clusters(self, owner: str | None = None) -> Iterable[Cluster]:
        """Return clusters newest first, of one owner or of all."""
        if owner is None:
            if self._newest is None:
                self._newest = [
                    cluster.uid for cluster in sorted(self._clusters.values(), key=_newest_first)
                ]
            return [self._clusters[uid] for uid in self._newest]
        return list(reversed(self._owned.get(owner, {}).values()))

    def subscribe(
        self, interest: Interest = EVERYTHING, *, start_revision: int | None = None
    ) -> MemorySubscription:
        """Return changes from now on, or after a revision."""
        if start_revision is not None:
            if start_revision > self.revision:
                raise ValueError(
                    f"revision {start_revision} is not reached yet; the last one is {self.revision}"
                )
            if start_revision < self.compacted_revision:
                raise LookupError(f"purges up to revision {self.compacted_revision} are forgotten")
        subscription = MemorySubscription(
            interest, lambda: self.revision, self._subscriptions.remove
        )
        self._subscriptions.add(subscription)
        if start_revision is not None:
            for change in self._since(interest, start_revision):
                subscription.offer(change)
        return subscription

    def _since(self, interest: Interest, revision: int) -> Iterator[Change]:
        """Yield what has changed after a revision."""
        for cluster in self.matching(interest):
            if cluster.revision > revision:
                yield _change(cluster)
        for tombstone in reversed(self._tombstones.values()):
            if tombstone.revision <= revision:
                break
            if interest.wants(tombstone.owner, tombstone.cluster_id, tombstone.uid):
                yield _purged(tombstone)

    def publish(
        self, revision: int, clusters: Iterable[Cluster], tombstones: Iterable[Tombstone]
    ) -> None:
        """Show what a transaction committed."""
        self.revision = max(self.revision, revision)
        for cluster in clusters:
            self._put(cluster)
            self._subscriptions.tell(_change(cluster))
        for tombstone in tombstones:
            self._bury(tombstone)
            self._subscriptions.tell(_purged(tombstone))

    def _put(self, cluster: Cluster) -> None:
        if cluster.uid not in self._clusters:
            self._newest = None
        self._clusters[cluster.uid] = cluster
        # keeps its place, which is that of its creation
        self._owned.setdefault(cluster.owner, {})[cluster.uid] = cluster
        self._named.setdefault((cluster.owner, cluster.cluster_id), {})[cluster.uid] = cluster
        if cluster.state.finished:
            self._ended.setdefault(cluster.owner, {})[cluster.uid] = cluster

    def _bury(self, tombstone: Tombstone) -> None:
        self._clusters.pop(tombstone.uid, None)
        _take_out(self._owned, tombstone.owner, tombstone.uid)
        _take_out(self._ended, tombstone.owner, tombstone.uid)
        _take_out(self._named, (tombstone.owner, tombstone.cluster_id), tombstone.uid)
        self._tombstones[tombstone.uid] = tombstone
        while len(self._tombstones) > MAX_TOMBSTONES:
            _, oldest = self._tombstones.popitem(last=False)
            self.compacted_revision = max(self.compacted_revision, oldest.revision)
        self._newest = None


def _take_out(where: dict[Key, dict[str, Cluster]], key: Key, uid: str) -> None:
    there = where.get(key, {})
    there.pop(uid, None)
    if not there:
        where.pop(key, None)


def _newest_first(cluster: Cluster) -> tuple[int, str]:
    return (-cluster.created_revision, cluster.uid)


def _change(cluster: Cluster) -> Change:
    return Change(cluster.uid, cluster.owner, cluster.cluster_id, cluster.revision, cluster)


def _purged(tombstone: Tombstone) -> Change:
    return Change(tombstone.uid, tombstone.owner, tombstone.cluster_id, tombstone.revision, None)
