"""Looks at the machine room from time to time: polls what is intended, and ends what nobody
intends.

The poll finds ends that no push told of; the sweep finds processes whose record says that they
should be gone. What has no record at all is ended only by consent: it is the database that may be
wrong.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from gateway.backends.contract import (
    Backend,
    BackendUnavailable,
    Instance,
    Observation,
    Phase,
    Target,
)
from gateway.server.core.intended import Standing, standing
from gateway.server.core.model import Cluster, Launching, Worker
from gateway.server.reconcile.complaints import Complaints
from gateway.server.store.contract import Store, Tx

logger = logging.getLogger(__name__)

CHUNK = 100  # clusters whose workers are read in one transaction
SWEEP_INTERVAL_S = 60.0

Item = TypeVar("Item")
Record = tuple[Cluster | None, frozenset[str]]  # a cluster, with the names of its workers


def targets_of(cluster: Cluster, workers: Iterable[Worker]) -> dict[Target, Launching]:
    """Return everything of a cluster that a backend should know, with what is known of it."""
    targets: dict[Target, Launching] = {}
    scheduler = cluster.scheduler
    if scheduler.launching is not None and scheduler.launching is not Launching.INTENDED:
        targets[Target(cluster.scheduler_instance, scheduler.handle, cluster.owner)] = (
            scheduler.launching
        )
    for worker in workers:
        if worker.launching is not Launching.INTENDED:
            left = bool(worker.connected_at) and not worker.connected
            targets[Target(worker.instance, worker.handle, cluster.owner, left)] = worker.launching
    return targets


def surprises(
    seen: Mapping[Instance, Observation], known: Mapping[Target, Launching]
) -> list[Observation]:
    """Return the observations that may change something: all but of what runs and was known to, by
    its handle."""
    settled = {
        target.instance
        for target, launching in known.items()
        if launching is Launching.RUNNING and target.handle
    }
    return [
        observation
        for instance, observation in seen.items()
        if observation.phase is not Phase.RUNNING or instance not in settled
    ]


class Consent(Protocol):
    """Who knows whether the database may be believed about what it does not intend."""

    async def permitted(
        self, backend: str, left_over: Sequence[Observation], unknown: Sequence[Observation]
    ) -> Sequence[Observation]:
        """Return what of it may be ended."""


class Watcher:
    """Polls and sweeps one backend until it is cancelled."""

    def __init__(
        self,
        store: Store,
        name: str,
        backend: Backend,
        push: Callable[[Sequence[Observation]], None],
        consent: Consent,
    ) -> None:
        self._store, self._name, self._backend, self._push, self._consent = (
            store,
            name,
            backend,
            push,
            consent,
        )
        self._complaints = Complaints(logger)
        # by uid: at which revision, and what it should know
        self._known: dict[str, tuple[int, dict[Target, Launching]]] = {}

    async def run(self) -> None:
        """Poll at the backend's interval, sweep every SWEEP_INTERVAL_S; an outage is logged and
        outlived."""
        loop = asyncio.get_running_loop()
        next_sweep = loop.time()
        while True:
            if await self._done("looking", self.poll) and loop.time() >= next_sweep:
                next_sweep = loop.time() + SWEEP_INTERVAL_S
                await self._done("sweeping", self.sweep)
            await asyncio.sleep(self._backend.observe_interval_s)

    async def _done(self, what: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Do it; whether it was done."""
        key = f"backend {self._name}, {what}"
        try:
            await work()
        except BackendUnavailable as error:
            self._complaints.hear(key, str(error))
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("%s: it failed", key)
        else:
            self._complaints.over(key)
            return True
        return False

    async def poll(self) -> None:
        """Observe everything intended and pass on what is not as it was. What has not changed since
        the last look is not read again."""
        living = {
            c.uid: c.revision
            for c in self._store.view.clusters()
            if c.spec.backend == self._name and not c.state.finished
        }
        self._known = {uid: known for uid, known in self._known.items() if uid in living}
        for chunk in _batched(
            [uid for uid, revision in living.items() if self._known.get(uid, (0,))[0] != revision]
        ):
            self._known |= await self._store.read(lambda tx, chunk=chunk: _read_targets(tx, chunk))  # type: ignore[misc]
        for chunk in _batched(list(self._known)):
            targets = {
                target: launching
                for uid in chunk
                for target, launching in self._known[uid][1].items()
            }
            if targets:
                seen = await self._backend.observations(list(targets))
                self._push(surprises(seen, targets))

    async def sweep(self) -> None:
        """End what nobody intends, as far as that may be believed. What the poll has read, and has
        not changed since, is intended: that is not read again."""
        by_uid: dict[str, list[Observation]] = {}
        for seen in await self._backend.find():
            if seen.phase is not Phase.GONE:
                by_uid.setdefault(seen.instance.uid, []).append(seen)
        found: list[Observation] = []
        for chunk in _batched(list(by_uid)):
            for uid in chunk:
                known = self._as_known(uid)
                found += [seen for seen in by_uid[uid] if seen.instance not in known]
            await asyncio.sleep(0)  # others have their turn
        stands: dict[Standing, list[Observation]] = {standing: [] for standing in Standing}
        records: dict[str, Record | None] = {}
        for chunk in _batched(sorted({seen.instance.uid for seen in found})):
            records |= await self._store.read(lambda tx, chunk=chunk: _read_records(tx, chunk))  # type: ignore[misc]
        for seen in found:
            record = records.get(seen.instance.uid, (None, frozenset()))
            if record is None:
                # it cannot be read: nobody knows what is intended, so whatever there is of it is
                # left alone
                continue
            cluster, workers = record
            purged = self._store.view.purged(seen.instance.uid)
            stands[standing(seen.instance, cluster, workers, purged=purged)].append(seen)
        unwanted = await self._consent.permitted(
            self._name, stands[Standing.LEFT_OVER], stands[Standing.UNKNOWN]
        )
        if unwanted:
            logger.warning(
                "backend %s: ending %d processes that nobody intends", self._name, len(unwanted)
            )
            await self._backend.stop(
                [Target(seen.instance, seen.handle, seen.user) for seen in unwanted]
            )

    def _as_known(self, uid: str) -> set[Instance]:
        """Return what is intended of a cluster that is as it was when it was read; else nothing."""
        revision, targets = self._known.get(uid, (0, {}))
        cluster = self._store.view.cluster(uid)
        if cluster is None or cluster.revision != revision or cluster.state.finished:
            return set()
        return {target.instance for target in targets}


def _batched(items: Sequence[Item]) -> Iterable[Sequence[Item]]:
    return [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]


def _read_targets(tx: Tx, uids: Sequence[str]) -> dict[str, tuple[int, dict[Target, Launching]]]:
    """Return the revision of each cluster that is still there, with everything of it that a backend
    should know."""
    found = {}
    for uid in uids:
        try:
            cluster = tx.cluster(uid)
        except ValueError as error:  # others are looked at all the same
            logger.debug("cluster %s: %s", uid, error)
            continue
        if cluster is not None:
            found[uid] = (cluster.revision, targets_of(cluster, tx.workers(uid)))
    return found


def _read_records(tx: Tx, uids: Sequence[str]) -> dict[str, Record | None]:
    """Return the clusters that have these uids, each with the names of its workers; None for one
    that cannot be read."""
    found: dict[str, Record | None] = {}
    for uid in uids:
        try:
            cluster = tx.cluster(uid)
        except ValueError as error:
            logger.debug("cluster %s: %s", uid, error)
            found[uid] = None
            continue
        if cluster is not None:
            found[uid] = (cluster, frozenset(worker.name for worker in tx.workers(uid)))
    return found
