"""Doing what a step decided: the only place where the reconciler touches backends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.backends.contract import (
    Backend,
    BackendUnavailable,
    Instance,
    Launch,
    StartFailed,
    StartOutcome,
)
from gateway.server.core.model import Cluster, Worker
from gateway.server.core.plan import Action, Cleanup, Purge, StartScheduler, StartWorkers, Stop

# Makes the launch of the scheduler (no workers given) or of workers; reads the cluster's secrets.
MakeLaunches = Callable[[Cluster, Sequence[Worker] | None], Awaitable[Sequence[Launch]]]


@dataclass(slots=True)
class Done:
    """What came of some actions."""

    outcomes: dict[Instance, StartOutcome] = field(default_factory=dict)
    cleaned: bool = False
    purged: bool = False


async def execute(
    actions: Sequence[Action],
    cluster: Cluster,
    backends: Mapping[str, Backend],
    make_launches: MakeLaunches,
) -> Done:
    """Do actions in their order; BackendUnavailable if the machine room does not answer."""
    backend = backends.get(cluster.spec.backend)
    if backend is None:
        raise BackendUnavailable(
            f"backend {cluster.spec.backend} is not configured any more, yet cluster {cluster.uid}"
            f" is on it"
        )
    done = Done()
    for action in actions:
        match action:
            case StartScheduler():
                done.outcomes |= await _start(backend, await make_launches(cluster, None))
            case StartWorkers(workers):
                done.outcomes |= await _start(backend, await make_launches(cluster, workers))
            case Stop(targets):
                await backend.stop(targets)
            case Cleanup(uid):
                await backend.cleanup(uid)
                done.cleaned = True
            case Purge(uid):
                await backend.purge(uid)
                done.purged = True
    return done


async def _start(backend: Backend, launches: Sequence[Launch]) -> dict[Instance, StartOutcome]:
    outcomes = await backend.start(launches)
    missing = StartFailed("the backend gave no answer for it")
    return {launch.instance: outcomes.get(launch.instance, missing) for launch in launches}
