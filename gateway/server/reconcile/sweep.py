"""Looks at the machine room from time to time: polls what is intended, and ends what nobody intends.

The poll finds ends that no push told of; the sweep finds processes whose record is gone, such as after a lost database.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from gateway.backends.contract import Backend, BackendUnavailable, Instance, Observation, Phase, Target
from gateway.server.core.model import Cluster, Launching, Worker
from gateway.server.reconcile.complaints import Complaints
from gateway.server.store.contract import Store, Tx

logger = logging.getLogger(__name__)

CHUNK = 100  # clusters whose workers are read in one transaction
SWEEP_INTERVAL_S = 60.0


def targets_of(cluster: Cluster, workers: Iterable[Worker]) -> dict[Target, Launching]:
    """Return everything of a cluster that a backend should know, with what is known of it."""
    targets: dict[Target, Launching] = {}
    scheduler = cluster.scheduler
    if scheduler.launching is not None and scheduler.launching is not Launching.INTENDED:
        targets[Target(cluster.scheduler_instance, scheduler.handle, cluster.owner)] = scheduler.launching
    for worker in workers:
        if worker.launching is not Launching.INTENDED:
            targets[Target(worker.instance, worker.handle, cluster.owner)] = worker.launching
    return targets


def surprises(seen: Mapping[Instance, Observation], known: Mapping[Target, Launching]) -> list[Observation]:
    """Return the observations that may change something: all but of what runs and was known to, by its handle."""
    settled = {target.instance for target, launching in known.items() if launching is Launching.RUNNING and target.handle}
    return [observation for instance, observation in seen.items() if observation.phase is not Phase.RUNNING or instance not in settled]


def orphans(found: Sequence[Observation], intended: Callable[[Observation], bool]) -> list[Target]:
    """Return what runs and nobody intends."""
    return [Target(seen.instance, seen.handle, seen.user) for seen in found if seen.phase is not Phase.GONE and not intended(seen)]


class Watcher:
    """Polls and sweeps one backend until it is cancelled."""

    def __init__(self, store: Store, name: str, backend: Backend, push: Callable[[Sequence[Observation]], None]) -> None:
        self._store, self._name, self._backend, self._push = store, name, backend, push
        self._complaints = Complaints(logger)
        self._known: dict[str, tuple[int, dict[Target, Launching]]] = {}  # by uid: at which revision, and what it should know

    async def run(self) -> None:
        """Poll at the backend's interval, sweep every SWEEP_INTERVAL_S; an outage is logged and outlived."""
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
        """Observe everything intended and pass on what is not as it was. What has not changed since the last look is not read again."""
        living = {c.uid: c.revision for c in self._store.view.clusters() if c.spec.backend == self._name and not c.state.finished}
        self._known = {uid: known for uid, known in self._known.items() if uid in living}
        for chunk in _batched([uid for uid, revision in living.items() if self._known.get(uid, (0,))[0] != revision]):
            self._known |= await self._store.read(lambda tx, chunk=chunk: _read_targets(tx, chunk))  # type: ignore[misc]
        for chunk in _batched(list(self._known)):
            targets = {target: launching for uid in chunk for target, launching in self._known[uid][1].items()}
            if targets:
                seen = await self._backend.observations(list(targets))
                self._push(surprises(seen, targets))

    async def sweep(self) -> None:
        """End what nobody intends."""
        found = await self._backend.find()
        uids = sorted({seen.instance.uid for seen in found})
        known: set[tuple[str, str]] = set()
        for chunk in _batched(uids):
            known |= await self._store.read(lambda tx, chunk=chunk: _read_intended(tx, chunk))  # type: ignore[misc]
        unwanted = orphans(found, lambda seen: (seen.instance.uid, seen.instance.name) in known)
        if unwanted:
            logger.warning("backend %s: ending %d processes that nobody intends", self._name, len(unwanted))
            await self._backend.stop(unwanted)


def _batched(uids: Sequence[str]) -> Iterable[Sequence[str]]:
    return [uids[start : start + CHUNK] for start in range(0, len(uids), CHUNK)]


def _read_targets(tx: Tx, uids: Sequence[str]) -> dict[str, tuple[int, dict[Target, Launching]]]:
    """Return the revision of each cluster that is still there, with everything of it that a backend should know."""
    found = {}
    for uid in uids:
        cluster = tx.cluster(uid)
        if cluster is not None:
            found[uid] = (cluster.revision, targets_of(cluster, tx.workers(uid)))
    return found


def _read_intended(tx: Tx, uids: Sequence[str]) -> set[tuple[str, str]]:
    """Return uid and name of every instance that some record intends."""
    known: set[tuple[str, str]] = set()
    for uid in uids:
        cluster = tx.cluster(uid)
        if cluster is None or cluster.state.finished:
            continue
        if cluster.scheduler.launching is not None:
            known.add((uid, cluster.scheduler_instance.name))
        known |= {(uid, worker.name) for worker in tx.workers(uid)}
    return known
