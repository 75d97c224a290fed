"""What a cluster says of itself beside its state: its counts, whether its scheduler is reached, and
why workers are missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.backends.contract import Instance, Observation, Phase, Role, Started
from gateway.server.core.absorb import hushed_words
from gateway.server.core.facts import Facts, Patience
from gateway.server.core.model import (
    Adaptive,
    Cluster,
    Condition,
    Count,
    GroupStatus,
    Launching,
    Limits,
    Scheduler,
    Size,
    Spec,
    State,
    StopWish,
    Worker,
    WorkerGroup,
)
from gateway.server.core.plan import directive, step

UID = "c" + "a" * 20
NOW = 1_000_000
HEARD = Facts(agent_connected=True, heard_at=NOW)
PATIENCE = Patience()
STOP = StopWish(State.STOPPED, "STOP_REQUESTED", "asked", 1)


def cluster(limits: Limits | None = None, **sizes: Size) -> Cluster:
    """Return an active cluster that has just been made so."""
    spec = Spec(
        "local",
        groups={name: WorkerGroup(size) for name, size in sizes.items()},
        limits=limits or Limits(),
    )
    begun = Cluster(
        UID,
        "alice",
        "etl",
        spec,
        state=State.ACTIVE,
        scheduler=Scheduler(Launching.RUNNING, "7", address="tls://1:1"),
    )
    return replace(begun, groups={name: GroupStatus() for name in sizes})


def worker(
    name: str, launching: Launching = Launching.STARTED, *, connected: bool = False
) -> Worker:
    """Return a worker."""
    return Worker(
        UID,
        name,
        name.rpartition("-")[0],
        launching,
        since_at=NOW,
        connected=connected,
        connected_at=int(connected),
    )


def conditions(
    of: Cluster, facts: Facts = HEARD, *workers: Worker, objection: str = "", now: int = NOW
) -> dict[str, Condition]:
    """Return the conditions after a step, by type."""
    found = step(
        of, workers, facts, now, PATIENCE, lambda address, backend: objection
    ).cluster.conditions
    assert len({condition.type for condition in found}) == len(found) == 4
    return {condition.type: condition for condition in found}


def says(condition: Condition) -> tuple[bool, str, str]:
    """Return what a condition says, whatever since when."""
    return condition.holds, condition.reason, condition.message


def test_workers_are_counted_by_group_and_by_what_they_are() -> None:
    workers = [
        worker("default-0", Launching.RUNNING, connected=True),
        worker("default-1", Launching.RUNNING, connected=True),
        worker("default-2"),
        worker("default-3", Launching.RUNNING),
        worker("default-4", Launching.INTENDED),
        worker("default-5", Launching.STOPPING, connected=True),
        worker("gpu-0", Launching.RUNNING, connected=True),
    ]
    of = cluster(default=Count(5), gpu=Count(1), none=Count(0))
    groups = step(of, workers, HEARD, NOW, PATIENCE).cluster.groups
    counts = {
        name: (status.desired, status.running, status.pending) for name, status in groups.items()
    }
    assert counts == {"default": (5, 2, 3), "gpu": (1, 1, 0), "none": (0, 0, 0)}
    ending = step(
        replace(of, groups=groups, stop=STOP), workers, HEARD, NOW, PATIENCE
    ).cluster.groups
    assert {(status.desired, status.running, status.pending) for status in ending.values()} == {
        (0, 0, 0)
    }


def test_a_group_that_was_removed_is_remembered_only_for_its_workers_names() -> None:
    of = cluster(default=Count(0))
    of = replace(
        of,
        groups={
            **of.groups,
            "never": GroupStatus(desired=0),
            "had": GroupStatus(desired=2, next_sequence=3),
        },
    )
    groups = step(of, [worker("had-2", Launching.STOPPING)], HEARD, NOW, PATIENCE).cluster.groups
    assert set(groups) == {"default", "had"}
    assert groups["had"].next_sequence == 3


REACHED = (True, "REPORTING", "")


@pytest.mark.parametrize(
    ("state", "facts", "silent_since_at", "objection", "expected"),
    [
        (State.ACTIVE, HEARD, 0, "", REACHED),
        (
            State.ACTIVE,
            Facts(),
            9,
            "",
            (False, "AGENT_SILENT", "the scheduler's agent is not connected"),
        ),
        (
            State.ACTIVE,
            Facts(hushed=True),
            NOW - 9,
            "",
            (False, "AGENT_SILENT", hushed_words(PATIENCE)),
        ),
        (State.ACTIVE, HEARD, 0, "it is afar", (False, "ADDRESS_NOT_PERMITTED", "it is afar")),
        (State.CREATING, Facts(), 0, "it is afar", (False, "NOT_ACTIVE", "")),
        (State.CREATING, Facts(), 0, "", (False, "NOT_ACTIVE", "")),
        (State.STOPPED, Facts(), 0, "", (False, "NOT_ACTIVE", "")),
    ],
)
def test_whether_its_scheduler_is_reached(
    state: State,
    facts: Facts,
    silent_since_at: int,
    objection: str,
    expected: tuple[bool, str, str],
) -> None:
    of = cluster(default=Count(0))
    scheduler = replace(of.scheduler, silent_since_at=silent_since_at and NOW - 9)
    of = replace(of, state=state, scheduler=scheduler, purge_at=NOW + 1)
    assert says(conditions(of, facts, objection=objection)["SchedulerReachable"]) == expected


def test_since_when_something_holds_changes_only_with_whether_it_holds() -> None:
    of = cluster(default=Count(0))
    first = step(of, [], HEARD, NOW, PATIENCE).cluster
    assert {condition.at for condition in first.conditions} == {NOW}
    afar = conditions(first, HEARD, objection="it is afar", now=NOW + 5)
    assert (afar["SchedulerReachable"].at, afar["WorkersAvailable"].at) == (NOW + 5, NOW)
    apart = step(first, [], HEARD, NOW + 5, PATIENCE, lambda address, backend: "it is afar").cluster
    other = conditions(apart, HEARD, objection="it is further away", now=NOW + 9)[
        "SchedulerReachable"
    ]
    assert (other.at, other.message) == (NOW + 5, "it is further away")


def test_words_of_conditions_are_bounded() -> None:
    told = conditions(cluster(default=Count(0)), HEARD, objection="x" * 5_000)
    assert len(told["SchedulerReachable"].message) == 1_024


def missing(of: Cluster, facts: Facts = HEARD, *workers: Worker) -> tuple[bool, str, str]:
    """Return what is said of workers."""
    return says(conditions(of, facts, *workers)["WorkersAvailable"])


def test_why_workers_are_missing() -> None:
    running = worker("default-0", Launching.RUNNING, connected=True)
    assert (
        missing(cluster(default=Count(0)))
        == missing(cluster(default=Count(1)), HEARD, running)
        == (True, "ALL_RUNNING", "")
    )
    assert missing(cluster(default=Count(2)), HEARD, running) == (False, "STARTING", "")
    of = cluster(default=Count(2), gpu=Count(0))
    failing = GroupStatus(failures=1, failure="default-1: no room", retry_at=NOW + 9)
    assert missing(replace(of, groups={**of.groups, "default": failing}), HEARD, running) == (
        False,
        "WORKERS_FAIL",
        "default-1: no room",
    )
    # none of gpu is missing
    assert missing(replace(of, groups={**of.groups, "gpu": failing}), HEARD, running) == (
        False,
        "STARTING",
        "",
    )
    enough = [running, worker("default-1", Launching.RUNNING, connected=True)]
    assert missing(replace(of, groups={**of.groups, "default": failing}), HEARD, *enough) == (
        True,
        "ALL_RUNNING",
        "",
    )


def test_workers_that_died_are_a_failure_until_all_are_started_again() -> None:
    of = cluster(default=Count(2))
    why = "default-1: out of memory"
    died = GroupStatus(died=1, died_at=NOW, failure=why, retry_at=NOW + 9)
    groups = {**of.groups, "default": died}
    of = replace(of, groups=groups, observed_generation=of.generation)
    running = worker("default-0", Launching.RUNNING, connected=True)
    assert missing(of, HEARD, running) == (False, "WORKERS_FAIL", why)
    again = worker("default-2", Launching.STARTED)
    assert missing(of, HEARD, running, again)[1] == "STARTING"


def queued(*seen: tuple[str, str], phase: Phase = Phase.QUEUED) -> Facts:
    """Return what a machine room says of workers that wait, each by its name and why."""
    instances = {Instance(UID, Role.WORKER, name): message for name, message in seen}
    return replace(
        HEARD,
        observations={
            one: Observation(one, phase, message=message) for one, message in instances.items()
        },
    )


def test_who_waits_in_a_queue_and_why() -> None:
    of = cluster(default=Count(4))
    workers = [worker(f"default-{number}") for number in range(4)]
    one = (False, "QUEUED", "1 worker waits in the queue: Priority")
    assert missing(of, queued(("default-0", "Priority")), *workers) == one
    most = queued(("default-0", "Priority"), ("default-1", "Resources"), ("default-2", "Resources"))
    assert missing(of, most, *workers) == (
        False,
        "QUEUED",
        "3 workers wait in the queue: Resources",
    )
    assert missing(of, queued(("default-0", "x"), phase=Phase.RUNNING), *workers) == (
        False,
        "STARTING",
        "",
    )
    connected = [worker("default-0", Launching.RUNNING, connected=True), *workers[1:]]
    assert missing(of, queued(("default-0", "Priority")), *connected) == (False, "STARTING", "")
    failing = replace(
        of, groups={"default": GroupStatus(failures=1, failure="no", retry_at=NOW + 9)}
    )
    assert missing(failing, queued(("default-0", "Priority")), *workers) == (
        False,
        "WORKERS_FAIL",
        "no",
    )


def test_that_somebody_waits_holds_until_the_machine_room_says_otherwise() -> None:
    of = cluster(default=Count(2))
    workers = [worker("default-0"), worker("default-1")]
    waits = step(
        of, workers, queued(("default-0", "Priority"), ("default-1", "Priority")), NOW, PATIENCE
    ).cluster
    words = (False, "QUEUED", "2 workers wait in the queue: Priority")
    assert missing(waits, HEARD, *workers) == words
    assert missing(waits, queued(("default-9", "Priority")), *workers) == words  # of another
    begun = replace(workers[0], launching=Launching.RUNNING)
    assert missing(waits, HEARD, begun, workers[1]) == words
    assert missing(waits, HEARD, begun, replace(begun, name="default-1")) == (False, "STARTING", "")
    assert missing(
        waits, queued(("default-0", ""), ("default-1", ""), phase=Phase.RUNNING), *workers
    ) == (False, "STARTING", "")
    starting = replace(
        waits, conditions=conditions_with(waits, "WorkersAvailable", reason="STARTING")
    )
    assert missing(starting, HEARD, *workers) == (False, "STARTING", "")


def test_where_workers_were_put_is_told_until_they_are_seen_there() -> None:
    of, job = cluster(default=Count(2)), "submitted to Slurm as job 12"
    intended = [worker(f"default-{number}", Launching.INTENDED) for number in range(2)]
    outcomes = {one.instance: Started("12/1", job) for one in intended}
    taken = step(of, intended, replace(HEARD, outcomes=outcomes), NOW, PATIENCE)
    words = f"2 workers were {job}; waiting for the first look at the queue"
    (told,) = [one for one in taken.cluster.conditions if one.type == "WorkersAvailable"]
    assert (told.holds, told.reason, told.message) == (False, "STARTING", words)
    assert missing(taken.cluster, HEARD, *taken.put) == (False, "STARTING", words)
    assert missing(taken.cluster, queued(("default-0", "Priority")), *taken.put) == (
        False,
        "QUEUED",
        "1 worker waits in the queue: Priority",
    )
    begun = queued(("default-0", ""), phase=Phase.RUNNING)
    assert missing(taken.cluster, begun, *taken.put) == (False, "STARTING", "")


def conditions_with(of: Cluster, kind: str, **changes: str) -> tuple[Condition, ...]:
    """Return the conditions of a cluster, one of them changed."""
    return tuple(replace(one, **changes) if one.type == kind else one for one in of.conditions)  # type: ignore[arg-type]


def test_reasons_of_several_groups_share_the_room_and_each_is_cut_visibly() -> None:
    def told(*failures: str) -> str:
        sizes: dict[str, Any] = {f"g{number}": Count(1) for number in range(len(failures))}
        of = cluster(**sizes)
        groups = {
            f"g{number}": GroupStatus(failures=1, failure=text, retry_at=NOW + 9)
            for number, text in enumerate(failures)
        }
        return missing(replace(of, groups=groups))[2]

    assert told("a", "", "b") == "a; b"
    assert told("x" * 1_024) == "x" * 1_024
    assert told("x" * 1_025) == "x" * 1_023 + "…"
    assert told("x" * 511, "y" * 511) == "x" * 511 + "; " + "y" * 511
    assert told("x" * 512, "y") == "x" * 510 + "…; y"
    assert len(told(*["z" * 400] * 5)) == 5 * ((1_024 - 8) // 5) + 8


def test_whether_the_machine_room_answers() -> None:
    of = cluster(default=Count(0))
    answers, silent = (
        (True, "ANSWERS", ""),
        (False, "BACKEND_UNAVAILABLE", "squeue hangs; trying again"),
    )
    assert says(conditions(of)["BackendAvailable"]) == answers
    lost = step(of, [], replace(HEARD, unavailable="squeue hangs"), NOW, PATIENCE).cluster
    assert (
        says(conditions(lost, replace(HEARD, unavailable="squeue hangs"))["BackendAvailable"])
        == silent
    )
    assert says(conditions(lost)["BackendAvailable"]) == silent
    assert says(conditions(lost, queued(("default-0", "")))["BackendAvailable"]) == answers
    instance = Instance(UID, Role.WORKER, "default-0")
    assert (
        says(
            conditions(lost, replace(HEARD, outcomes={instance: Started("1")}))["BackendAvailable"]
        )
        == answers
    )
    assert says(conditions(lost, replace(HEARD, cleaned=True))["BackendAvailable"]) == answers


def test_whether_the_limits_leave_what_was_wished() -> None:
    assert says(conditions(cluster(Limits(workers=2), default=Count(2)))["WithinLimits"]) == (
        True,
        "WITHIN",
        "",
    )
    clamped = (
        False,
        "CLAMPED",
        "group default: 2 of 3 workers, by the limit of 2 workers for one cluster",
    )
    assert says(conditions(cluster(Limits(workers=2), default=Count(3)))["WithinLimits"]) == clamped


def test_what_the_agent_is_to_hold_its_groups_to() -> None:
    of = cluster(Limits(workers=6), default=Count(2), more=Adaptive(1, 9), zero=Adaptive(5, 7))
    of = replace(of, groups={"more": GroupStatus(target=3)})
    assert directive(of) == {
        "default": (2, None),
        "more": (3, Adaptive(1, 4)),
        "zero": (1, Adaptive(1, 1)),
    }
