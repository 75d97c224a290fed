"""Schedulers that should be heard and are not: when their logs are looked at, what their agents say
there, and when it is too late.

The agent writes what keeps it from the server into its scheduler's log, for it cannot tell the
server itself. Pure: the log's last lines come in with the facts.
"""

from __future__ import annotations

from gateway import wire
from gateway.server.core.facts import Facts, Patience
from gateway.server.core.known import Known
from gateway.server.core.model import Cluster, Launching, State
from gateway.server.core.reasons import Reason

# after the scheduler began to run; then each time that it has run for twice as long
LOOK_MS = 10_000
MAX_SAID = 512  # characters of a line of the log
WAITS = "the scheduler runs and has not reported yet"


def said(tail: str) -> str:
    """Return what the end of a scheduler's log says of why it is not heard: the last words of its
    agent, else the last line; empty for an empty log."""
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    for line in reversed(lines):
        _, mark, words = line.partition(wire.AGENT_SAYS)
        if mark:
            return f"its agent says: {_short(words)}"
    return f"its log ends with: {_short(lines[-1])}" if lines else ""


def _short(line: str) -> str:
    line = " ".join(line.split())
    return line if len(line) <= MAX_SAID else line[: MAX_SAID - 1] + "…"


def start_deadline(cluster: Cluster, facts: Facts, patience: Patience) -> int | None:
    """Return until when a scheduler that runs is to have reported; None if it has, or need not."""
    if not _starts(cluster):
        return None
    return max(cluster.scheduler.running_at, facts.listening_since_at) + int(
        patience.scheduler_start_s * 1000
    )


def silence_deadline(cluster: Cluster, facts: Facts, patience: Patience) -> int | None:
    """Return until when a scheduler that is silent is to be heard again; None if it is heard."""
    if cluster.state is not State.ACTIVE or not cluster.scheduler.silent_since_at:
        return None
    return max(cluster.scheduler.silent_since_at, facts.listening_since_at) + int(
        patience.agent_silence_s * 1000
    )


def look_at(cluster: Cluster, facts: Facts) -> int | None:
    """Return when the log of a scheduler that runs and has not reported is to be looked at next."""
    if not _starts(cluster):
        return None
    begun = cluster.scheduler.running_at
    last = max(begun, facts.log_read_at)
    return max(last + max(LOOK_MS, last - begun), facts.look_from)


def _starts(cluster: Cluster) -> bool:
    scheduler = cluster.scheduler
    return (
        cluster.state is State.CREATING
        and scheduler.launching is Launching.RUNNING
        and bool(scheduler.running_at)
    )


def overdue(known: Known, facts: Facts) -> tuple[Reason, str] | None:
    """Return why a cluster whose scheduler has not been heard for too long fails, None if it does
    not."""
    cluster, patience = known.cluster, known.patience
    at = start_deadline(cluster, facts, patience)
    if at is not None and at <= known.now:
        words = f"the scheduler did not report within {patience.scheduler_start_s:g} s of running"
        dials = f"its agent dials {patience.dialled}" if patience.dialled else ""
        if dials and not facts.agent_says:
            dials += ", see its log"
        told = filter(None, [words, dials, facts.agent_says])
        return Reason.SCHEDULER_START_TIMEOUT, "; ".join(told)
    at = silence_deadline(cluster, facts, patience)
    if at is not None and at <= known.now:
        words = f"the scheduler's agent has been silent for {patience.agent_silence_s:g} s"
        return Reason.AGENT_SILENT, "; ".join(filter(None, [words, facts.agent_says]))
    return None


def tell(known: Known, words: str) -> None:
    """Say what a scheduler's log says that has not reported yet. That it was looked at is not
    stored: others are told of what is."""
    if words and _starts(known.cluster):
        known.say(known.cluster.reason, f"{WAITS}; {words}")
