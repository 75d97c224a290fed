"""What is in the database file, as its one writer knows it: clusters, their names, workers. Saves
reading back what was just written.

Only for a store whose writer is alone with its file. The writer's thread owns it; what it holds is
frozen data. After a commit that failed it is worth nothing and is read anew.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence

from gateway.server.core.model import Cluster, Worker
from gateway.server.store.sqlite.counts import RowCounts
from gateway.server.store.sqlite.unreadable import Unread

# over all clusters, about 500 bytes each; beyond, those of the least used clusters are read again
KEPT_WORKERS = 200_000


class Mirror:
    """Clusters all, workers of the clusters last used."""

    def __init__(self, clusters: Iterable[Cluster], unread: Iterable[Unread] = ()) -> None:
        # revisions of clusters whose records cannot be read; nobody changes them
        self._unread: dict[str, int] = {}
        self._clusters: dict[str, Cluster] = {}
        self._living: Counter[str] = Counter()  # by owner
        # uids of clusters that hold their names, by owner and cluster_id
        self._named: dict[tuple[str, str], str] = {}
        self.events = RowCounts()  # of each cluster
        self.events_of_owner, self.effects_of_user = RowCounts(), RowCounts()
        for cluster in clusters:
            self._put(cluster)
        for row in unread:
            self._unread[row.uid] = row.revision
            if not row.finished:
                self._living[row.owner] += 1
            if row.holds_name:
                self._named[row.owner, row.cluster_id] = row.uid
        self._workers: OrderedDict[str, dict[str, Worker]] = OrderedDict()
        self._kept_workers = 0

    def cluster(self, uid: str) -> Cluster | None:
        """Return a cluster."""
        return self._clusters.get(uid)

    def revisions(self) -> Mapping[str, int]:
        """Return the revision of every cluster, by uid."""
        return self._unread | {uid: cluster.revision for uid, cluster in self._clusters.items()}

    def living(self, owner: str | None = None) -> int:
        """Return how many clusters are not finished."""
        return self._living.total() if owner is None else self._living[owner]

    def holder(self, owner: str, cluster_id: str) -> str | None:
        """Return the uid of the cluster that holds a name."""
        return self._named.get((owner, cluster_id))

    def workers(self, uid: str) -> dict[str, Worker] | None:
        """Return a cluster's workers by name, None if they are not known. Not to be changed."""
        found = self._workers.get(uid)
        if found is not None:
            self._workers.move_to_end(uid)
        return found

    def learn_workers(self, uid: str, workers: dict[str, Worker]) -> None:
        """Take what was read."""
        self._forget_workers(uid)
        self._workers[uid] = workers
        self._kept_workers += len(workers)
        while self._kept_workers > KEPT_WORKERS and len(self._workers) > 1:
            self._forget_workers(next(iter(self._workers)))

    def _forget_workers(self, uid: str) -> None:
        self._kept_workers -= len(self._workers.pop(uid, ()))

    def put(
        self,
        clusters: Iterable[Cluster],
        workers: Iterable[tuple[str, dict[str, Worker]]],
        purged: Collection[str],
    ) -> None:
        """Take what a transaction wrote: clusters, whole sets of workers, and what it deleted."""
        put = list(clusters)
        for uid in (*purged, *(cluster.uid for cluster in put)):
            self._drop(uid)  # all of them before any is put: one may have the name that another had
        for cluster in put:
            self._put(cluster)
        for uid, found in workers:
            self.learn_workers(uid, found)
        for uid in purged:
            self._forget_workers(uid)
            self.events.forget(uid)

    def _put(self, cluster: Cluster) -> None:
        self._clusters[cluster.uid] = cluster
        if not cluster.state.finished:
            self._living[cluster.owner] += 1
        if cluster.holds_name:
            self._named[cluster.owner, cluster.cluster_id] = cluster.uid

    def _drop(self, uid: str) -> None:
        before = self._clusters.pop(uid, None)
        if before is not None and before.holds_name:
            del self._named[before.owner, before.cluster_id]
        if before is not None and not before.state.finished:
            self._living[before.owner] -= 1
            if not self._living[before.owner]:
                del self._living[before.owner]


def in_order(workers: Iterable[Worker]) -> Sequence[Worker]:
    """Return workers oldest first, then by name."""
    return sorted(workers, key=_age)


def _age(worker: Worker) -> tuple[int, str]:
    return (worker.created_at, worker.name)
