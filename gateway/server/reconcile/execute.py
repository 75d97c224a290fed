"""Doing what a step decided: the only place where the reconciler touches backends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.backends.contract import (
    Backend,
    BackendUnavailable,
    Instance,
    Launch,
    StartFailed,
    StartOutcome,
    Target,
)
from gateway.server.core import unheard
from gateway.server.core.model import Cluster, Worker
from gateway.server.core.plan import (
    Action,
    Cleanup,
    Purge,
    ReadLog,
    StartScheduler,
    StartWorkers,
    Stop,
)

logger = logging.getLogger(__name__)

READ_LOG_S = 5.0
TAIL_LINES = 100
MAX_TAIL = 64 * 2**10  # characters of it that are kept

# Makes the launch of the scheduler (no workers given) or of workers; reads the cluster's secrets.
MakeLaunches = Callable[[Cluster, Sequence[Worker] | None], Awaitable[Sequence[Launch]]]


@dataclass(slots=True)
class Done:
    """What came of some actions."""

    outcomes: dict[Instance, StartOutcome] = field(default_factory=dict)
    cleaned: bool = False
    purged: bool = False
    agent_says: str | None = None


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
            case ReadLog(target):
                done.agent_says = unheard.said(await _tail(backend, target))
            case Stop(targets):
                await backend.stop(targets)
            case Cleanup(uid):
                await backend.cleanup(uid)
                done.cleaned = True
            case Purge(uid):
                await backend.purge(uid)
                done.purged = True
    return done


async def _tail(backend: Backend, target: Target) -> str:
    """Return the end of a log; an empty text if it cannot be read in time, whatever the reason: no
    failure is to wait for it."""
    text = ""
    try:
        async with asyncio.timeout(READ_LOG_S):
            async for piece in backend.logs(target, tail_lines=TAIL_LINES):
                text = (text + piece)[-MAX_TAIL:]
    except Exception as error:
        logger.debug("the log of %s is not read: %s", target.instance, error)
    return text


async def _start(backend: Backend, launches: Sequence[Launch]) -> dict[Instance, StartOutcome]:
    outcomes = await backend.start(launches)
    missing = StartFailed("the backend gave no answer for it")
    return {launch.instance: outcomes.get(launch.instance, missing) for launch in launches}
