"""Which facts hold of a cluster beside its state, and why. Pure: what is known and what was seen go
in, conditions come out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.backends.contract import Instance, Phase, Started
from gateway.server.core import limits
from gateway.server.core.absorb import FIRST_LOOK, given_up, given_up_words, hushed_words
from gateway.server.core.facts import Facts, Patience
from gateway.server.core.known import Known
from gateway.server.core.limits import Grant
from gateway.server.core.model import Cluster, Condition, GroupStatus, Launching, State
from gateway.server.core.reasons import ConditionType, Reason
from gateway.server.core.texts import sound

MAX_CONDITION = 1024  # characters of a condition's message
MAX_OWNER = 256  # characters of an owner's name in it

Objection = Callable[[str, str], str]  # of an address and a backend


def anywhere(address: str, backend: str) -> str:
    """Say nothing against any address of a backend's schedulers."""
    return ""


def hold(known: Known, facts: Facts, objection: Objection) -> None:
    """Write down which conditions hold; `objection` says why users cannot reach a scheduler of a
    backend, an empty text if they can."""
    cluster = known.cluster
    granted = limits.grant(cluster.spec, cluster.groups)
    short = [
        name
        for name in cluster.spec.groups
        if cluster.groups[name].running < cluster.groups[name].desired
    ]
    failing = [name for name in short if _fails(cluster.groups[name])]
    before = {condition.type: condition for condition in cluster.conditions}
    message = _together([_why_failing(cluster.groups[name], known.patience) for name in failing])
    workers = before.get(ConditionType.WORKERS_AVAILABLE)
    queued = _queued(known, facts, workers) if short and not failing else ""
    started = _started(known, facts, workers) if short and not failing and not queued else ""
    reached = _reachable(known, facts, before.get(ConditionType.SCHEDULER_REACHABLE), objection)
    answers = _answers(facts, before.get(ConditionType.BACKEND_AVAILABLE))
    within = limits_condition(cluster, granted, known.now)
    why = _why_short(short, failing, queued)
    if failing and all(given_up(cluster.groups[name], known.patience) for name in failing):
        why = Reason.WORKERS_GIVEN_UP
    found = [
        (ConditionType.SCHEDULER_REACHABLE, *reached),
        (ConditionType.WORKERS_AVAILABLE, not short, why, message or queued or started),
        (ConditionType.WITHIN_LIMITS, within.holds, within.reason, within.message),
        (ConditionType.BACKEND_AVAILABLE, *answers),
    ]
    conditions = tuple(
        _condition(before.get(kind), kind, holds, reason, text, known.now)
        for kind, holds, reason, text in found
    )
    if (owner := before.get(ConditionType.OWNER_KNOWN)) is not None and cluster.stop is None:
        conditions = (*conditions, owner)  # which is found out elsewhere
    if conditions != cluster.conditions:
        known.cluster = replace(cluster, conditions=conditions)


def _reachable(
    known: Known, facts: Facts, before: Condition | None, objection: Objection
) -> tuple[bool, str, str]:
    """Return whether users reach the scheduler, as far as the server can tell, and why; that they
    never will is told once."""
    scheduler, active = known.cluster.scheduler, known.cluster.state is State.ACTIVE
    if active and (why := objection(scheduler.address, known.cluster.spec.backend)):
        if before is None or before.reason != Reason.ADDRESS_NOT_PERMITTED:
            known.tell(Reason.ADDRESS_NOT_PERMITTED, why, "scheduler")
        return False, Reason.ADDRESS_NOT_PERMITTED, why
    if not active:
        return False, Reason.NOT_ACTIVE, ""
    if scheduler.silent_since_at:
        return (
            False,
            Reason.AGENT_SILENT,
            hushed_words(known.patience)
            if facts.hushed
            else "the scheduler's agent is not connected",
        )
    return True, Reason.REPORTING, ""


def _why_short(short: Sequence[str], failing: Sequence[str], queued: str) -> Reason:
    if not short:
        return Reason.ALL_RUNNING
    return Reason.WORKERS_FAIL if failing else (Reason.QUEUED if queued else Reason.STARTING)


def _fails(status: GroupStatus) -> bool:
    """Whether workers are missing as they fail: of those that died, not once all are started
    again."""
    return status.failures > 0 or (
        status.died > 0 and status.running + status.pending < status.desired
    )


def _why_failing(status: GroupStatus, patience: Patience) -> str:
    words = f"{given_up_words(status.died)}; " if given_up(status, patience) else ""
    return words + status.failure


def _submitted(known: Known) -> set[Instance]:
    """Return the workers that were accepted and are not known to run."""
    return {
        worker.instance
        for worker in known.workers.values()
        if worker.launching is Launching.STARTED and not worker.connected
    }


def _queued(known: Known, facts: Facts, before: Condition | None) -> str:
    """Return how many workers wait in the machine room's queue and why, an empty text if none
    does."""
    waiting = _submitted(known)
    seen = [
        seen
        for instance, seen in facts.observations.items()
        if seen.phase is Phase.QUEUED and instance in waiting
    ]
    if not seen:
        told = (
            before is not None
            and before.reason == Reason.QUEUED
            and waiting
            and not facts.observations.keys() & waiting
        )
        return before.message if told and before is not None else ""
    groups: dict[str, list[str]] = {}
    for observation in seen:
        groups.setdefault(known.workers[observation.instance.name].group, []).append(
            observation.message
        )
    parts = []
    for name, messages in sorted(groups.items()):
        said, count = Counter(messages).most_common(1)[0][0], len(messages)
        whose = f" of group {name}" if len(groups) > 1 else ""
        parts.append(
            f"{count} {'worker' if count == 1 else 'workers'}{whose}"
            f" {'waits' if count == 1 else 'wait'} in the queue: {said}"
        )
    return _together(parts)


def _started(known: Known, facts: Facts, before: Condition | None) -> str:
    """Return where workers were put that have not been seen yet, an empty text if there are none or
    nothing was told of it."""
    waiting = _submitted(known)
    if any(instance.name in known.workers for instance in facts.observations):
        return ""  # it has been looked
    told = Counter(
        outcome.message
        for instance, outcome in facts.outcomes.items()
        if isinstance(outcome, Started) and outcome.message and instance in waiting
    )
    if told:
        return _together(
            [
                f"{count} {'worker was' if count == 1 else 'workers were'} {words}; {FIRST_LOOK}"
                for words, count in sorted(told.items())
            ]
        )
    unseen = waiting and before is not None and before.reason == Reason.STARTING
    return before.message if before is not None and unseen and FIRST_LOOK in before.message else ""


def _together(reasons: Sequence[str]) -> str:
    """Return reasons as one, each with its share of the room there is."""
    share = (MAX_CONDITION - 2 * max(0, len(reasons) - 1)) // max(1, len(reasons))
    return "; ".join(
        reason if len(reason) <= share else reason[: max(0, share - 1)] + "…"
        for reason in reasons
        if reason
    )


def _answers(facts: Facts, before: Condition | None) -> tuple[bool, str, str]:
    """Return whether the machine room answers, as far as this step or an earlier one knows."""
    if facts.unavailable:
        return False, Reason.BACKEND_UNAVAILABLE, f"{facts.unavailable}; trying again"
    if before is None or facts.outcomes or facts.observations or facts.cleaned:
        return True, Reason.ANSWERS, ""
    return before.holds, before.reason, before.message


def _condition(
    before: Condition | None, kind: str, holds: bool, reason: str, message: str, now: int
) -> Condition:
    at = before.at if before is not None and before.holds == holds else now
    return Condition(kind, holds, reason, sound(message, MAX_CONDITION), at)


def limits_condition(cluster: Cluster, granted: Grant, now: int) -> Condition:
    """Return whether all that a cluster wishes is within its limits."""
    kind = ConditionType.WITHIN_LIMITS
    before = next((one for one in cluster.conditions if one.type == kind), None)
    reason = Reason.CLAMPED if granted.clamped else Reason.WITHIN
    return _condition(before, kind, not granted.clamped, reason, granted.clamped, now)


def of_owner(cluster: Cluster, *, known: bool, now: int) -> Cluster:
    """Return a living cluster with what is to be told of its owner: nothing of one who is known."""
    kind = ConditionType.OWNER_KNOWN
    before = next((one for one in cluster.conditions if one.type == kind), None)
    others = tuple(one for one in cluster.conditions if one.type != kind)
    if known:
        return replace(cluster, conditions=others) if before is not None else cluster
    words = f"its owner {sound(cluster.owner, MAX_OWNER)} is no user any more"
    told = _condition(before, kind, False, Reason.OWNER_UNKNOWN, words, now)
    return cluster if before == told else replace(cluster, conditions=(*others, told))
