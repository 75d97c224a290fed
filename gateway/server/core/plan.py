"""What is to be done so that a cluster becomes what is wished: one step, pure.

`step` takes in facts, then decides. What it intends is stored before it is done; so a step may be
repeated at any time, and a start that was never answered is simply asked for again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.backends.contract import Instance, Target
from gateway.server.core import ended, lifetimes, limits, unheard
from gateway.server.core.absorb import absorb, given_up, worker_failed
from gateway.server.core.conditions import Objection, anywhere, hold
from gateway.server.core.facts import BEAT_S, Facts, Patience
from gateway.server.core.known import Known
from gateway.server.core.model import (
    Adaptive,
    Cluster,
    Event,
    GroupStatus,
    Launching,
    State,
    Worker,
)
from gateway.server.core.names import worker_name
from gateway.server.core.reasons import Reason
from gateway.server.core.transitions import Trigger


@dataclass(frozen=True, slots=True)
class StartScheduler:
    """Start or adopt the scheduler."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class StartWorkers:
    """Start or adopt workers, as one batch."""

    workers: tuple[Worker, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask instances to end."""

    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Remove what the cluster left behind, but its logs."""

    uid: str


@dataclass(frozen=True, slots=True)
class Purge:
    """Remove record and logs."""

    uid: str


@dataclass(frozen=True, slots=True)
class ReadLog:
    """Read the last lines of a scheduler's log, for why it is not heard."""

    target: Target


Action = StartScheduler | StartWorkers | Stop | Cleanup | Purge | ReadLog


@dataclass(frozen=True, slots=True)
class Step:
    """What a step comes to: what to store, then what to do, and when to look again."""

    cluster: Cluster
    put: tuple[Worker, ...] = ()
    deleted: frozenset[str] = frozenset()
    events: tuple[Event, ...] = ()
    actions: tuple[Action, ...] = ()
    wake_at: int | None = None
    departed: tuple[Target, ...] = ()  # what may have ended just now, though nobody asked it to

    def changes(self, cluster: Cluster) -> bool:
        """Whether anything is to be stored."""
        return bool(self.put or self.deleted or self.events or self.cluster != cluster)


def step(
    cluster: Cluster,
    workers: Sequence[Worker],
    facts: Facts,
    now: int,
    patience: Patience,
    objection: Objection = anywhere,
) -> Step:
    """Take in facts and decide. `objection` says why users cannot reach a scheduler of a backend,
    an empty text if they can."""
    known = Known(cluster, {worker.name: worker for worker in workers}, now, patience)
    absorb(known, facts)
    looks = _end_if_due(known, facts)
    if known.cluster.state.finished:
        actions = _purge(known)
    elif known.cluster.stop is not None:
        actions = _tear_down(known, facts)
    else:
        actions = [*_build_up(known, facts), *looks]
    _count(known)
    hold(known, facts, objection)
    if known.cluster.observed_generation != known.cluster.generation:
        known.cluster = replace(known.cluster, observed_generation=known.cluster.generation)
    before = {worker.name: worker for worker in workers}
    put = tuple(worker for name, worker in known.workers.items() if before.get(name) != worker)
    deleted = frozenset(before.keys() - known.workers.keys())
    result = Step(
        known.cluster,
        put,
        deleted,
        tuple(known.events),
        tuple(actions),
        _wake_at(known, facts),
        _departed(cluster, before, known),
    )
    if not result.changes(cluster):
        return result
    return replace(result, cluster=replace(result.cluster, updated_at=now))


def _departed(cluster: Cluster, workers: Mapping[str, Worker], known: Known) -> tuple[Target, ...]:
    """Return what a step has found out to be away though nobody asked it to: workers that their
    scheduler has seen leave, and a scheduler that is heard no more."""
    if known.cluster.stop is not None:
        return ()
    owner, scheduler = cluster.owner, known.cluster.scheduler
    found = [
        Target(worker.instance, worker.handle, owner, left=True)
        for name, worker in known.workers.items()
        if worker.launching is Launching.RUNNING
        and not worker.connected
        and name in workers
        and (workers[name].connected or workers[name].connected_at != worker.connected_at)
    ]
    if scheduler.silent_since_at and not cluster.scheduler.silent_since_at:
        found.append(Target(cluster.scheduler_instance, scheduler.handle, owner))
    return tuple(found)


def _end_if_due(known: Known, facts: Facts) -> Sequence[Action]:
    """Wish the end of what is to end; return the look at a log that comes before a failure, and
    while a scheduler is waited for."""
    cluster = known.cluster
    if cluster.stop is not None:
        known.end(cluster.stop)  # a wish that was stored by a use case
        return ()
    due = lifetimes.next_end(
        cluster, doubted=facts.doubted, listening_since_at=facts.listening_since_at
    )
    if due is not None and due.at <= known.now:
        known.end(due)
        return ()
    failure = unheard.overdue(known, facts)
    if facts.agent_says is None:
        look = unheard.look_at(cluster, facts)
        if failure is None and (look is None or look > known.now):
            return ()
        return (
            ReadLog(Target(cluster.scheduler_instance, cluster.scheduler.handle, cluster.owner)),
        )
    if failure is not None:
        known.fail(*failure)
    else:
        unheard.tell(known, facts.agent_says)
    return ()


def _purge(known: Known) -> list[Action]:
    return [Purge(known.cluster.uid)] if known.cluster.purge_at <= known.now else []


def _build_up(known: Known, facts: Facts) -> list[Action]:
    known.move(Trigger.BEGIN, "", "the scheduler is being started")
    scheduler = known.cluster.scheduler
    if scheduler.launching is None:
        known.scheduler(launching=Launching.INTENDED)
    actions: list[Action] = []
    if known.cluster.scheduler.launching is Launching.INTENDED and scheduler.retry_at <= known.now:
        actions.append(StartScheduler(known.cluster.scheduler_instance))
    granted = limits.grant(known.cluster.spec, known.cluster.groups)
    _settle(known)
    surplus = {worker.name: worker for worker in _abandoned(known, facts)}
    for name in known.cluster.spec.groups:
        known.group(name, desired=granted.desired[name])
        alive = [
            w
            for w in known.workers.values()
            if w.group == name and w.name not in surplus and w.launching is not Launching.STOPPING
        ]
        excess = len(alive) - granted.desired[name]
        if excess > 0:  # connected ones are the agent's to choose from
            pending = sorted((w for w in alive if not w.connected), key=_youngest)
            surplus |= {worker.name: worker for worker in pending[:excess]}
        elif excess < 0 and _joinable(known, facts, name):
            _intend(known, name, -excess)
    actions += _stop(known, surplus.values(), facts)
    intended = tuple(
        worker for worker in known.workers.values() if worker.launching is Launching.INTENDED
    )
    if intended and known.cluster.state is State.ACTIVE and facts.agent_connected:
        actions.append(StartWorkers(intended))
    return actions


def _settle(known: Known) -> None:
    """Forget that workers died where one that came later has lived on, or where the wish is another
    one."""
    rewished = known.cluster.observed_generation != known.cluster.generation
    for name, status in known.cluster.groups.items():
        if not status.died:
            continue
        lived = [at for at in _settling(known, name) if at <= known.now]
        if lived or rewished:
            known.group(name, died=0, died_at=0, failure="", retry_at=0)


def _settling(known: Known, group: str) -> list[int]:
    """Return when each worker that was started after others had died will have lived long
    enough."""
    died_at = known.cluster.groups.get(group, GroupStatus()).died_at
    return [
        worker.connected_at + int(known.patience.worker_settle_s * 1000)
        for worker in known.workers.values()
        if worker.group == group
        and worker.connected
        and worker.created_at > died_at
        and worker.launching is Launching.RUNNING
    ]


def _joinable(known: Known, facts: Facts, group: str) -> bool:
    """Whether new workers could join: the scheduler has given a sign of life, and did so since the
    group last lost a worker."""
    lost_at = known.cluster.groups.get(group, GroupStatus()).lost_at
    return (
        known.cluster.state is State.ACTIVE
        and facts.agent_connected
        and not facts.heard_at < lost_at <= known.now
    )


def _youngest(worker: Worker) -> tuple[int, int, str]:
    return (-worker.created_at, -len(worker.name), worker.name)


def _abandoned(known: Known, facts: Facts) -> Iterable[Worker]:
    """Yield workers that are of no use: ended, retired, of no group, or running for too long
    without connecting."""
    for worker in known.workers.values():
        if worker.launching is Launching.STOPPING:
            continue
        if worker.launching is Launching.LEAVING or worker.group not in known.cluster.spec.groups:
            yield worker
        elif (
            at := _connect_deadline(worker, facts, known.patience)
        ) is not None and at <= known.now:
            known.group(worker.group, lost_at=known.now)
            _not_connected(known, worker)
            yield worker


def _not_connected(known: Known, worker: Worker) -> None:
    """Tell of a worker that its scheduler has not known for too long; one that never joined has
    failed."""
    within = f"within {known.patience.worker_connect_s:g} s"
    if not worker.connected_at:
        words = f"it runs but did not connect {within}"
        worker_failed(known, worker, Reason.WORKER_NOT_CONNECTED, words)
        return
    words = f"it left its scheduler, did not come back {within}, and was not seen to end"
    known.tell(Reason.WORKER_LOST, words, worker.name)


def _connect_deadline(worker: Worker, facts: Facts, patience: Patience) -> int | None:
    if worker.launching is not Launching.RUNNING or worker.connected or not facts.agent_connected:
        return None  # while its scheduler is silent nobody could connect
    return max(worker.since_at, facts.listening_since_at, facts.heard_since_at) + int(
        patience.worker_connect_s * 1000
    )


def _intend(known: Known, group: str, missing: int) -> None:
    """Intend new workers; after failures only one at a time, as a probe, until one connects, and
    where several rounds died soon after that, until one lives on."""
    status = known.cluster.groups.get(group, GroupStatus())
    count = min(missing, known.patience.batch)
    if status.failures or status.died:
        probing = any(
            w.group == group and not w.connected and w.launching is not Launching.STOPPING
            for w in known.workers.values()
        ) or (status.died > 1 and bool(_settling(known, group)))
        one = 1 if status.failures or status.died > 1 else count
        waits = probing or status.retry_at > known.now or given_up(status, known.patience)
        count = 0 if waits else one
    for sequence in range(status.next_sequence, status.next_sequence + count):
        name = worker_name(group, sequence)
        known.workers[name] = Worker(
            known.cluster.uid, name, group, created_at=known.now, since_at=known.now
        )
    known.group(group, next_sequence=status.next_sequence + count)


def _stop(known: Known, workers: Iterable[Worker], facts: Facts) -> list[Action]:
    """Ask workers to end, and again those that were asked long ago."""
    for worker in workers:
        known.worker(worker, launching=Launching.STOPPING, connected=False)
    targets = []
    for worker in [
        worker for worker in known.workers.values() if worker.launching is Launching.STOPPING
    ]:
        fresh = worker.since_at == known.now
        if not fresh and (
            facts.resumed or worker.since_at + int(known.patience.stop_retry_s * 1000) <= known.now
        ):
            known.worker(worker)
            fresh = True
        if fresh:
            targets.append(Target(worker.instance, worker.handle, known.cluster.owner))
    return [Stop(tuple(targets))] if targets else []


def _tear_down(known: Known, facts: Facts) -> list[Action]:
    actions = _stop(
        known, [w for w in known.workers.values() if w.launching is not Launching.STOPPING], facts
    )
    scheduler = known.cluster.scheduler
    if scheduler.launching is not None:
        waited = scheduler.retry_at <= known.now
        if scheduler.launching is not Launching.STOPPING or waited or facts.resumed:
            known.scheduler(
                launching=Launching.STOPPING,
                retry_at=known.now + int(known.patience.stop_retry_s * 1000),
            )
            actions.append(
                Stop(
                    (
                        Target(
                            known.cluster.scheduler_instance, scheduler.handle, known.cluster.owner
                        ),
                    )
                )
            )
        return actions
    if known.workers:
        return actions
    if not facts.cleaned:
        return [*actions, Cleanup(known.cluster.uid)]
    _finish(known)
    return actions


def _finish(known: Known) -> None:
    stop = known.cluster.stop
    assert stop is not None
    trigger = Trigger.GONE_BY_FAULT if stop.goal is State.FAILED else Trigger.GONE_AS_WISHED
    known.move(trigger, stop.reason, stop.message)
    purge_at = known.now + int(known.patience.retention_s * 1000)
    known.cluster = ended.kept(replace(known.cluster, stopped_at=known.now, purge_at=purge_at))


def _count(known: Known) -> None:
    """Write down how many workers each group has."""
    running: dict[str, int] = {}
    pending: dict[str, int] = {}
    for worker in known.workers.values():
        if worker.launching not in (Launching.STOPPING, Launching.LEAVING):
            counts = running if worker.connected else pending
            counts[worker.group] = counts.get(worker.group, 0) + 1
    ended = known.cluster.stop is not None
    for name in known.cluster.spec.groups.keys() | known.cluster.groups.keys():
        desired = 0 if ended else known.cluster.groups.get(name, GroupStatus()).desired
        known.group(
            name, running=running.get(name, 0), pending=pending.get(name, 0), desired=desired
        )
    kept = {
        n: s
        for n, s in known.cluster.groups.items()
        if n in known.cluster.spec.groups or s.next_sequence
    }
    if kept.keys() != known.cluster.groups.keys():
        known.cluster = replace(known.cluster, groups=kept)


def _wake_at(known: Known, facts: Facts) -> int | None:
    """Return when time alone will change something."""
    cluster, patience = known.cluster, known.patience
    if cluster.state.finished:
        return cluster.purge_at
    found = lifetimes.ends(
        cluster, doubted=facts.doubted, listening_since_at=facts.listening_since_at
    )
    instants = [wish.at for wish in found]
    instants += [
        at
        for at in (
            unheard.start_deadline(cluster, facts, patience),
            unheard.silence_deadline(cluster, facts, patience),
            unheard.look_at(cluster, facts),
        )
        if at is not None
    ]
    if cluster.scheduler.retry_at > known.now:
        instants.append(cluster.scheduler.retry_at)
    instants += [
        status.retry_at for status in cluster.groups.values() if status.retry_at > known.now
    ]
    for name, status in cluster.groups.items():
        instants += _settling(known, name) if status.died else []
    if facts.agent_connected and any(
        facts.heard_at < status.lost_at <= known.now for status in cluster.groups.values()
    ):
        instants.append(known.now + int(BEAT_S * 1000))
    for worker in known.workers.values():
        if worker.launching is Launching.STOPPING:
            instants.append(worker.since_at + int(patience.stop_retry_s * 1000))
        elif (at := _connect_deadline(worker, facts, patience)) is not None:
            instants.append(at)
    return min(instants, default=None)


def directive(cluster: Cluster) -> dict[str, tuple[int, Adaptive | None]]:
    """Return what the agent is to hold each group to: a count, or bounds within the limits."""
    granted = limits.grant(cluster.spec, cluster.groups)
    wishes: dict[str, tuple[int, Adaptive | None]] = {}
    for name, group in cluster.spec.groups.items():
        size = group.size
        bounds = None
        if isinstance(size, Adaptive):
            most = granted.maximum[name]
            bounds = replace(size, minimum=min(size.minimum, most), maximum=most)
        wishes[name] = (granted.desired[name], bounds)
    return wishes
