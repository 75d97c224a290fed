"""A cluster, its scheduler and one worker, and what is known of them once facts were taken in."""

from __future__ import annotations

from dataclasses import replace

from gateway.backends.contract import Instance, Observation, Phase, Role
from gateway.server.core.absorb import absorb
from gateway.server.core.facts import Facts, Patience
from gateway.server.core.known import Known
from gateway.server.core.model import (
    Cluster,
    Count,
    GroupStatus,
    Launching,
    Scheduler,
    Spec,
    State,
    StopWish,
    Worker,
    WorkerGroup,
)

UID = "c" + "a" * 20
NOW = 100_000
STOP = StopWish(State.STOPPED, "STOP_REQUESTED", "asked", 1)
ME = Instance(UID, Role.SCHEDULER, "scheduler")
SPEC = Spec("local", groups={"default": WorkerGroup(Count(1)), "gpu": WorkerGroup(Count(1))})
ACTIVE = Cluster(
    UID,
    "alice",
    "etl",
    SPEC,
    state=State.ACTIVE,
    scheduler=Scheduler(Launching.RUNNING, "7", running_at=50, launched_at=40, address="tls://1:1"),
    groups={"default": GroupStatus(desired=1, next_sequence=1)},
)
CREATING = replace(
    ACTIVE,
    state=State.CREATING,
    reason="R",
    message="m",
    scheduler=Scheduler(Launching.STARTED, "7"),
)
WORKER = Worker(
    UID,
    "default-0",
    "default",
    Launching.RUNNING,
    "8",
    created_at=10,
    since_at=20,
    connected=True,
    connected_at=15,
)


def launched(launching: Launching | None, cluster: Cluster = ACTIVE, **changes: object) -> Cluster:
    """Return a cluster whose scheduler stands there."""
    return replace(cluster, scheduler=replace(cluster.scheduler, launching=launching, **changes))  # type: ignore[arg-type]


def taken(
    facts: Facts, *workers: Worker, cluster: Cluster = ACTIVE, patience: Patience | None = None
) -> Known:
    """Return what is known once facts are taken in."""
    known = Known(cluster, {worker.name: worker for worker in workers}, NOW, patience or Patience())
    absorb(known, facts)
    return known


def seen(phase: Phase, instance: Instance = ME, *, agent: bool = True, **fields: object) -> Facts:
    """Return facts of one observation."""
    observation = Observation(instance, phase, **fields)  # type: ignore[arg-type]
    return Facts(observations={instance: observation}, agent_connected=agent)


def of_worker(phase: Phase, *, agent: bool = True, **fields: object) -> Facts:
    """Return facts of one observation of the worker."""
    return seen(phase, WORKER.instance, agent=agent, **fields)


def told(known: Known) -> list[tuple[str, str, str]]:
    """Return the events."""
    assert all((event.uid, event.at) == (UID, NOW) for event in known.events)
    return [(event.reason, event.message, event.instance) for event in known.events]
