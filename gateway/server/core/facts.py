"""What was observed since the last step, and how long the server is patient: the input of `absorb`
and `plan`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.backends.contract import Instance, Observation, StartOutcome

BEAT_S = 5.0  # within so long an agent gives a sign of life
HUSH_S = 20.0  # an agent that gave none for so long is silent, however open its connection is


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the server waits for what; all in seconds unless said otherwise."""

    scheduler_start_s: float = 120.0  # from when the process runs until its agent reports
    agent_silence_s: float = 300.0  # counted only while this server could listen
    # from when a worker's process runs until its scheduler knows it
    worker_connect_s: float = 300.0
    stop_retry_s: float = 10.0  # between two requests to end the same instance
    retention_s: float = 86400.0  # a finished cluster's record and logs are kept
    backoff_s: float = 1.0  # after the first failed start; doubles
    backoff_max_s: float = 60.0
    scheduler_attempts: int = 3
    # a worker that ends within so long after it joined has failed, like one that never joined
    worker_settle_s: float = 60.0
    # rounds of such workers, one after the other, after which no more are started; 0: any number
    worker_attempts: int = 10
    batch: int = 1000  # workers intended in one step
    dialled: str = ""  # the address at which schedulers' agents are to report; for words


@dataclass(frozen=True, slots=True)
class AgentNews:
    """What a scheduler's agent told, deltas merged. Instants are the server's."""

    snapshot: bool = False
    address: str = ""
    dashboard_address: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    workers: frozenset[str] = frozenset()  # joined; in a snapshot: all
    left: frozenset[str] = frozenset()  # who is in both has joined and left again
    retired: frozenset[str] = frozenset()
    clients: int = 0
    idle_since_at: int = 0
    no_client_since_at: int = 0
    no_task_since_at: int = 0
    targets: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything observed of one cluster since its last step."""

    observations: Mapping[Instance, Observation] = field(default_factory=dict)
    outcomes: Mapping[Instance, StartOutcome] = field(default_factory=dict)
    news: AgentNews | None = None
    agent_connected: bool = False  # its stream is open, and something came by it within HUSH_S
    hushed: bool = False  # its stream is open, and nothing came
    heard_at: int = 0  # when something last came by its stream; 0 if none is open
    heard_since_at: int = 0  # since when it has not been silent
    # since when this server has been able to hear agents, by a clock that has not jumped since
    listening_since_at: int = 0
    # the clock has jumped since the agent last told of use: for how long it has been idle is not
    # known now
    doubted: bool = False
    unavailable: str = ""  # why the machine room did not answer when something was asked of it
    # what the end of the scheduler's log says of why it is not heard; None: nobody has looked
    agent_says: str | None = None
    log_read_at: int = 0  # when this server looked there last; 0 if it has not
    look_from: int = 0  # others have their turn until then; 0: it may be looked at
    cleaned: bool = False  # the backend has removed the cluster's working files
    # first step of this server, or after one that failed: what was asked before may never have been
    # done
    resumed: bool = False


def merge_news(earlier: AgentNews | None, later: AgentNews) -> AgentNews:
    """Return two pieces of news as one, in their order."""
    if earlier is None or later.snapshot:
        return later
    return AgentNews(
        snapshot=earlier.snapshot,
        address=earlier.address,
        dashboard_address=earlier.dashboard_address,
        versions=earlier.versions,
        workers=earlier.workers | later.workers,
        left=(earlier.left - later.workers) | later.left,
        retired=earlier.retired | later.retired,
        clients=later.clients,
        idle_since_at=later.idle_since_at,
        no_client_since_at=later.no_client_since_at,
        no_task_since_at=later.no_task_since_at,
        targets=later.targets,
    )
