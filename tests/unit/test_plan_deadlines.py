"""What time alone brings about, to the millisecond, and that a step says when to look again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.backends.contract import Instance, Role, StartFailed, Target
from gateway.server.boot.config import DaskGateway
from gateway.server.core.facts import BEAT_S, HUSH_S, Facts, Patience
from gateway.server.core.model import (
    Activity,
    Adaptive,
    Cluster,
    Count,
    GroupStatus,
    Launching,
    Lifecycle,
    Scheduler,
    Size,
    Spec,
    State,
    StopWish,
    Worker,
    WorkerGroup,
)
from gateway.server.core.plan import Cleanup, Purge, StartScheduler, StartWorkers, Step, Stop, step

UID = "c" + "a" * 20
NOW = 1_000_000
STOP = StopWish(State.STOPPED, "STOP_REQUESTED", "asked", 1)
HEARD = Facts(agent_connected=True, heard_at=NOW)
PATIENCE = Patience(
    scheduler_start_s=7.0,
    agent_silence_s=8.0,
    worker_connect_s=9.0,
    stop_retry_s=3.0,
    retention_s=11.0,
    batch=5,
)


def cluster(
    size: Size | None = None, status: GroupStatus | None = None, **fields: object
) -> Cluster:
    """Return an active cluster with one group."""
    spec = Spec("local", groups={"default": WorkerGroup(size or Count(0))})
    begun = Cluster(
        UID,
        "alice",
        "etl",
        spec,
        state=State.ACTIVE,
        scheduler=Scheduler(Launching.RUNNING, "7", address="tls://1:1"),
    )
    return replace(begun, groups={"default": status or GroupStatus()}, **fields)  # type: ignore[arg-type]


def worker(number: int, launching: Launching = Launching.RUNNING, **fields: object) -> Worker:
    """Return a worker of the group."""
    return Worker(UID, f"default-{number}", "default", launching, **fields)  # type: ignore[arg-type]


def stepped(
    of: Cluster,
    facts: Facts = HEARD,
    *workers: Worker,
    now: int = NOW,
    patience: Patience = PATIENCE,
) -> Step:
    """Take a step."""
    return step(of, workers, facts, now, patience)


def stopped(result: Step) -> list[str]:
    """Return whom a step asks to end."""
    return [
        target.instance.name
        for action in result.actions
        if isinstance(action, Stop)
        for target in action.targets
    ]


def started(result: Step) -> list[str]:
    """Return which workers a step starts."""
    return [
        one.name
        for action in result.actions
        if isinstance(action, StartWorkers)
        for one in action.workers
    ]


# Ends.


@pytest.mark.parametrize(
    ("of", "facts", "at", "reason", "message"),
    [
        (
            cluster(state=State.CREATING, scheduler=Scheduler(Launching.RUNNING, running_at=NOW)),
            Facts(),
            NOW + 7_000,
            "SCHEDULER_START_TIMEOUT",
            "the scheduler did not report within 7 s of running",
        ),
        (
            cluster(state=State.CREATING, scheduler=Scheduler(Launching.RUNNING, running_at=NOW)),
            Facts(listening_since_at=NOW + 50),
            NOW + 7_050,
            "SCHEDULER_START_TIMEOUT",
            "the scheduler did not report within 7 s of running",
        ),
        (
            cluster(scheduler=Scheduler(Launching.RUNNING, silent_since_at=NOW)),
            Facts(),
            NOW + 8_000,
            "AGENT_SILENT",
            "the scheduler's agent has been silent for 8 s",
        ),
        (
            cluster(scheduler=Scheduler(Launching.RUNNING, silent_since_at=NOW)),
            Facts(listening_since_at=NOW + 50),
            NOW + 8_050,
            "AGENT_SILENT",
            "the scheduler's agent has been silent for 8 s",
        ),
    ],
)
def test_a_scheduler_that_does_not_report_fails_its_cluster_at_the_very_instant(
    of: Cluster, facts: Facts, at: int, reason: str, message: str
) -> None:
    before = stepped(of, facts, now=at - 1)
    assert (before.cluster.stop, before.wake_at) == (None, at)
    looked = replace(facts, agent_says="")  # and its log says nothing
    assert stepped(of, looked, now=at).cluster.stop == StopWish(State.FAILED, reason, message, at)


def test_a_cluster_ends_by_itself_at_the_very_instant() -> None:
    spec = replace(cluster().spec, lifecycle=Lifecycle(max_lifetime_s=100.0, idle_timeout_s=1.0))
    of = cluster(spec=spec, created_at=NOW)
    assert stepped(of).wake_at == NOW + 100_000
    of = replace(of, activity=Activity(idle_since_at=NOW))
    before = stepped(of, now=NOW + 999)
    assert (before.cluster.stop, before.wake_at) == (None, NOW + 1_000)
    stop = stepped(of, now=NOW + 1_000).cluster.stop
    assert stop == StopWish(State.STOPPED, "IDLE_TIMEOUT", "it was idle for 1 s", NOW + 1_000)


def test_a_record_is_kept_for_as_long_as_was_said_and_then_purged() -> None:
    stopping = cluster(state=State.STOPPING, stop=STOP, scheduler=Scheduler())
    ended = stepped(stopping, Facts(cleaned=True))
    assert (ended.cluster.state, ended.cluster.stopped_at, ended.cluster.purge_at) == (
        State.STOPPED,
        NOW,
        NOW + 11_000,
    )
    assert ended.wake_at == NOW + 11_000
    assert stepped(ended.cluster, Facts(), now=NOW + 10_999).actions == ()
    assert stepped(ended.cluster, Facts(), now=NOW + 11_000).actions == (Purge(UID),)


# Starts.


def test_a_scheduler_is_started_again_when_its_wait_is_over() -> None:
    waiting = cluster(
        state=State.CREATING, scheduler=Scheduler(Launching.INTENDED, failures=1, retry_at=NOW)
    )
    before = stepped(waiting, Facts(), now=NOW - 1)
    assert (before.actions, before.wake_at) == ((), NOW)
    due = stepped(waiting, Facts())
    assert (due.actions, due.wake_at) == ((StartScheduler(waiting.scheduler_instance),), None)


def test_workers_are_probed_again_when_their_groups_wait_is_over() -> None:
    failing = cluster(Count(3), GroupStatus(failures=2, retry_at=NOW, next_sequence=4))
    before = stepped(failing, replace(HEARD, heard_at=NOW - 1), now=NOW - 1)
    assert (started(before), before.wake_at) == ([], NOW)
    due = stepped(failing)
    assert started(due) == ["default-4"]
    assert due.cluster.groups["default"].next_sequence == 5
    assert due.put == (worker(4, Launching.INTENDED, created_at=NOW, since_at=NOW),)
    probing = [worker(3, Launching.STARTED, connected=False)]
    assert started(stepped(failing, HEARD, *probing)) == []
    leaving = [worker(3, Launching.STOPPING, since_at=NOW)]
    assert started(stepped(failing, HEARD, *leaving)) == ["default-4"]
    others = [Worker(UID, "gpu-1", "gpu", Launching.STARTED)]
    two = replace(
        failing,
        spec=replace(failing.spec, groups={**failing.spec.groups, "gpu": WorkerGroup(Count(1))}),
    )
    assert started(stepped(two, HEARD, *others)) == ["default-4"]
    connected = [worker(3, connected=True, connected_at=1)]
    assert started(stepped(failing, HEARD, *connected)) == ["default-4"]


def test_so_many_workers_are_intended_in_one_step() -> None:
    result = stepped(cluster(Count(7)))
    assert started(result) == [f"default-{number}" for number in range(5)]
    more = stepped(result.cluster, HEARD, *result.put)
    assert [one.name for one in more.put] == ["default-5", "default-6"]


@pytest.mark.parametrize(
    ("heard_at", "lost_at", "joinable"),
    [
        (NOW, NOW, True),
        (NOW, NOW - 1, True),
        (NOW - 1, NOW, False),
        (NOW - 1, NOW + 1, True),
        (NOW - 9, NOW - 8, False),
    ],
)
def test_nobody_is_replaced_before_the_next_sign_of_life(
    heard_at: int, lost_at: int, joinable: bool
) -> None:
    lost = cluster(Count(1), GroupStatus(lost_at=lost_at))
    result = stepped(lost, Facts(agent_connected=True, heard_at=heard_at))
    assert started(result) == (["default-0"] if joinable else [])
    assert result.wake_at == (None if joinable else NOW + int(BEAT_S * 1000))
    assert (
        started(
            stepped(replace(lost, state=State.CREATING), Facts(agent_connected=True, heard_at=NOW))
        )
        == []
    )


# Ends of workers.


def test_of_too_many_the_youngest_that_have_not_connected_go_first() -> None:
    alive = [
        worker(1, created_at=5, since_at=NOW),
        worker(2, created_at=9, since_at=NOW),
        worker(10, created_at=9, since_at=NOW),
        worker(9, created_at=9, since_at=NOW),
        worker(0, created_at=10, connected=True, connected_at=10),
    ]
    for count, gone in (
        (5, []),
        (4, ["default-10"]),
        (3, ["default-10", "default-2"]),
        (1, [f"default-{n}" for n in (10, 2, 9, 1)]),
    ):
        result = stepped(cluster(Count(count)), HEARD, *alive)
        assert sorted(stopped(result)) == sorted(gone)
    result = stepped(cluster(Count(0)), HEARD, *alive)
    assert "default-0" not in stopped(result)  # which of them go is for the scheduler to say


def test_what_ended_or_is_of_no_group_is_told_to_end_and_replaced() -> None:
    gone = [
        worker(0, Launching.LEAVING),
        Worker(UID, "gpu-0", "gpu", Launching.RUNNING, "9", connected=True, connected_at=1),
    ]
    result = stepped(cluster(Count(1), GroupStatus(next_sequence=1)), HEARD, *gone)
    assert sorted(stopped(result)) == ["default-0", "gpu-0"]
    assert started(result) == ["default-1"]
    (stop,) = [action for action in result.actions if isinstance(action, Stop)]
    assert stop.targets[1] == Target(Instance(UID, Role.WORKER, "gpu-0"), "9", "alice")
    stopping = {one.name: one for one in result.put}["gpu-0"]
    assert (stopping.launching, stopping.connected, stopping.since_at) == (
        Launching.STOPPING,
        False,
        NOW,
    )


@pytest.mark.parametrize(("resumed", "after_ms"), [(False, 3_000), (True, 1)])
def test_who_was_asked_to_end_is_asked_again(resumed: bool, after_ms: int) -> None:
    asked = worker(0, Launching.STOPPING, since_at=NOW)
    facts = replace(HEARD, resumed=resumed)
    before = stepped(cluster(), facts, asked, now=NOW + after_ms - 1)
    # in the step that asks first it is asked once
    assert stopped(before) == (["default-0"] if after_ms == 1 else [])
    again = stepped(cluster(), facts, asked, now=NOW + after_ms)
    assert stopped(again) == ["default-0"]
    assert again.put == (replace(asked, since_at=NOW + after_ms),)
    assert again.wake_at == NOW + after_ms + 3_000


@pytest.mark.parametrize(
    ("connected_at", "event"),
    [
        (0, ("WORKER_NOT_CONNECTED", "it runs but did not connect within 9 s", "default-0")),
        (
            5,
            (
                "WORKER_LOST",
                "it left its scheduler, did not come back within 9 s, and was not seen to end",
                "default-0",
            ),
        ),
    ],
)
@pytest.mark.parametrize("field", ["since_at", "listening_since_at", "heard_since_at"])
def test_a_worker_that_does_not_connect_is_given_up_at_the_very_instant(
    field: str, connected_at: int, event: tuple[str, str, str]
) -> None:
    stuck = worker(0, since_at=NOW if field == "since_at" else 1, connected_at=connected_at)
    facts = Facts(agent_connected=True, heard_at=NOW + 8_000)
    facts = facts if field == "since_at" else replace(facts, **{field: NOW})  # type: ignore[arg-type]
    before = stepped(cluster(Count(1)), facts, stuck, now=NOW + 8_999)
    assert (before.put, before.events, before.wake_at) == ((), (), NOW + 9_000)
    due = stepped(cluster(Count(1)), facts, stuck, now=NOW + 9_000)
    assert stopped(due) == ["default-0"]
    assert [(one.reason, one.message, one.instance) for one in due.events] == [event]
    assert due.cluster.groups["default"].lost_at == NOW + 9_000
    silent = stepped(
        cluster(Count(1)), replace(facts, agent_connected=False), stuck, now=NOW + 9_000
    )
    assert stopped(silent) == []
    for other in (replace(stuck, connected=True), replace(stuck, launching=Launching.STARTED)):
        assert stopped(stepped(cluster(Count(1)), facts, other, now=NOW + 99_000)) == []


# The end of all of it.


def test_a_cluster_is_torn_down_workers_and_scheduler_then_its_files() -> None:
    ending = cluster(Count(1), stop=STOP)
    first = stepped(ending, HEARD, worker(0, connected=True, connected_at=1, handle="9"))
    assert first.cluster.state is State.STOPPING
    assert stopped(first) == ["default-0", "scheduler"]
    assert (first.cluster.scheduler.launching, first.cluster.scheduler.retry_at) == (
        Launching.STOPPING,
        NOW + 3_000,
    )
    assert first.wake_at == NOW + 3_000
    # nothing is desired any more, and what stops is not counted
    assert first.cluster.groups["default"] == GroupStatus()
    (of_scheduler,) = first.actions[1].targets  # type: ignore[union-attr]
    assert of_scheduler == Target(ending.scheduler_instance, "7", "alice")
    waiting = stepped(first.cluster, Facts(), *first.put, now=NOW + 2_999)
    assert (waiting.actions, waiting.changes(first.cluster)) == ((), False)
    assert stopped(stepped(first.cluster, Facts(), *first.put, now=NOW + 3_000)) == [
        "default-0",
        "scheduler",
    ]
    assert stopped(stepped(first.cluster, Facts(resumed=True), *first.put, now=NOW + 1)) == [
        "default-0",
        "scheduler",
    ]
    gone = replace(first.cluster, scheduler=Scheduler())
    assert stepped(gone, Facts(), *first.put, now=NOW + 1).actions == ()
    assert stepped(gone, Facts(), now=NOW + 1).actions == (Cleanup(UID),)
    done = stepped(gone, Facts(cleaned=True), now=NOW + 1)
    assert (done.actions, done.cluster.state, done.cluster.reason) == (
        (),
        State.STOPPED,
        "STOP_REQUESTED",
    )
    failed = stepped(
        replace(gone, stop=replace(STOP, goal=State.FAILED)), Facts(cleaned=True), now=NOW + 1
    )
    assert failed.cluster.state is State.FAILED


# What is stored, and when to look again.


def test_a_step_that_changes_nothing_leaves_the_record_and_rests() -> None:
    settled = stepped(cluster(Count(1)), HEARD, worker(0, connected=True, connected_at=1)).cluster
    again = stepped(settled, HEARD, worker(0, connected=True, connected_at=1), now=NOW + 5)
    assert again == Step(settled)
    changed = stepped(
        replace(settled, generation=9),
        HEARD,
        worker(0, connected=True, connected_at=1),
        now=NOW + 5,
    )
    assert (changed.cluster.observed_generation, changed.cluster.updated_at) == (9, NOW + 5)


def test_each_thing_to_be_stored_is_a_change() -> None:
    of = cluster()
    assert not Step(of).changes(of)
    assert Step(of).changes(replace(of, revision=1))
    assert Step(of, put=(worker(0),)).changes(of)
    assert Step(of, deleted=frozenset({"x"})).changes(of)
    assert Step(of, events=stepped(replace(of, stop=STOP)).events).changes(of)


def test_the_first_of_several_instants_is_when_to_look_again() -> None:
    stuck = worker(0, since_at=NOW - 100)
    asked = worker(1, Launching.STOPPING, since_at=NOW - 50)
    failing = GroupStatus(failures=1, retry_at=NOW + 40)
    spec = replace(cluster(Count(1)).spec, lifecycle=Lifecycle(max_lifetime_s=20.0))
    of = cluster(status=failing, spec=spec, created_at=NOW)
    assert stepped(of, HEARD, stuck, asked).wake_at == NOW + 40
    of = replace(of, groups={"default": GroupStatus()})
    assert stepped(of, HEARD, stuck, asked).wake_at == NOW + 2_950
    assert stepped(of, HEARD, stuck).wake_at == NOW + 8_900
    assert stepped(of, HEARD, replace(stuck, connected=True)).wake_at == NOW + 20_000


# How long the server waits if nobody has said otherwise.


def test_a_server_that_is_not_configured_is_as_patient_as_the_core() -> None:
    assert DaskGateway().patience() == Patience()


def test_a_scheduler_is_tried_three_times_with_growing_waits() -> None:
    of, now, waits = cluster(state=State.PENDING, scheduler=Scheduler()), NOW, []
    while of.stop is None:
        result = stepped(of, Facts(), now=now, patience=Patience())
        assert result.actions == (StartScheduler(of.scheduler_instance),)
        failed = stepped(
            result.cluster,
            Facts(outcomes={of.scheduler_instance: StartFailed("no")}),
            now=now,
            patience=Patience(),
        )
        of = failed.cluster
        waits.append(of.scheduler.retry_at - now)
        now = of.scheduler.retry_at
    assert waits[:2] == [1_000, 2_000]
    assert len(waits) == 3


def test_workers_that_fail_for_long_are_tried_once_a_minute() -> None:
    of = cluster(Count(1), GroupStatus(failures=50))
    result = stepped(
        of,
        Facts(outcomes={worker(0).instance: StartFailed("no")}, agent_connected=True),
        worker(0),
        patience=Patience(),
    )
    assert result.wake_at == NOW + 60_000


def test_a_stop_is_asked_for_again_after_ten_seconds_and_a_thousand_workers_are_begun_at_once() -> (
    None
):
    asked = worker(0, Launching.STOPPING, since_at=NOW)
    assert stepped(cluster(), HEARD, asked, patience=Patience()).wake_at == NOW + 10_000
    assert len(started(stepped(cluster(Adaptive(1_001, 2_000)), patience=Patience()))) == 1_000


def test_silence_is_more_than_one_sign_of_life_that_was_lost() -> None:
    assert HUSH_S >= 3 * BEAT_S
