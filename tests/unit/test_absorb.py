"""What is known once a machine room has answered a start or has seen the scheduler, and what is
told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.backends.contract import Instance, Observation, Phase, Role, Started, StartFailed
from gateway.server.core.absorb import backoff_ms
from gateway.server.core.facts import Facts, Patience
from gateway.server.core.known import Known
from gateway.server.core.model import (
    GroupStatus,
    Launching,
    Scheduler,
    State,
    StopWish,
)
from gateway.server.core.reasons import Reason
from tests.unit.known import (
    ACTIVE,
    CREATING,
    ME,
    NOW,
    STOP,
    UID,
    WORKER,
    launched,
    seen,
    taken,
    told,
)


def test_facts_of_nothing_change_nothing() -> None:
    known = taken(Facts(agent_connected=True), WORKER)
    assert (known.cluster, known.workers, known.events) == (ACTIVE, {WORKER.name: WORKER}, [])
    other = Instance(UID, Role.WORKER, "default-9")
    strange = Facts(
        {other: Observation(other, Phase.GONE)}, {other: Started("1")}, agent_connected=True
    )
    assert taken(strange, WORKER).cluster is ACTIVE


# Starts that were answered.


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Launching.INTENDED, Launching.STARTED),
        (Launching.RUNNING, Launching.RUNNING),
        (Launching.STOPPING,) * 2,
    ],
)
def test_a_scheduler_that_was_accepted(before: Launching, after: Launching) -> None:
    known = taken(
        Facts(outcomes={ME: Started("9")}),
        cluster=launched(before, CREATING, failures=2, handle=""),
    )
    assert known.cluster.scheduler == Scheduler(after, "9", failures=0, launched_at=NOW)
    assert told(known) == [
        ("SCHEDULER_STARTED", "the backend has accepted the scheduler", "scheduler")
    ]


def test_where_a_scheduler_was_put_is_told_before_it_is_seen_there() -> None:
    known = taken(
        Facts(outcomes={ME: Started("9", "submitted to Slurm as job 9")}),
        cluster=launched(Launching.INTENDED, CREATING, handle=""),
    )
    assert (known.cluster.reason, known.cluster.message) == (
        "SCHEDULER_STARTED",
        "the scheduler was submitted to Slurm as job 9; waiting for the first look at the queue",
    )
    assert told(known) == [("SCHEDULER_STARTED", "submitted to Slurm as job 9", "scheduler")]


def test_a_scheduler_that_was_not_accepted_is_tried_again_a_while_later_and_then_given_up() -> None:
    patience = Patience(scheduler_attempts=3, backoff_s=2.0)
    cluster = launched(Launching.INTENDED, CREATING)
    for failures, wait_ms in ((1, 2_000), (2, 4_000), (3, 8_000)):
        known = taken(
            Facts(outcomes={ME: StartFailed("disk full")}), cluster=cluster, patience=patience
        )
        cluster = known.cluster
        assert (cluster.scheduler.failures, cluster.scheduler.retry_at) == (failures, NOW + wait_ms)
        assert told(known)[0] == ("SCHEDULER_START_FAILED", "disk full", "scheduler")
        assert (cluster.stop is None) is (failures < 3)
    words = "the scheduler could not be started: disk full"
    assert cluster.stop == StopWish(State.FAILED, "SCHEDULER_START_FAILED", words, NOW)
    assert (cluster.state, cluster.reason, cluster.message, cluster.state_at) == (
        State.STOPPING,
        "SCHEDULER_START_FAILED",
        words,
        NOW,
    )
    assert told(known)[1:] == [("STOPPING", words, "")]


def test_a_scheduler_whose_start_is_hopeless_is_given_up_at_once() -> None:
    known = taken(
        Facts(outcomes={ME: StartFailed("no such queue", permanent=True)}),
        cluster=launched(Launching.INTENDED, CREATING),
    )
    assert known.cluster.stop is not None
    assert known.cluster.scheduler.failures == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Launching.INTENDED, Launching.STARTED),
        (Launching.RUNNING, Launching.RUNNING),
        (Launching.STOPPING,) * 2,
    ],
)
def test_a_worker_that_was_accepted(before: Launching, after: Launching) -> None:
    known = taken(
        Facts(outcomes={WORKER.instance: Started("9")}, agent_connected=True),
        replace(WORKER, launching=before, handle=""),
    )
    assert known.workers == {
        WORKER.name: replace(WORKER, launching=after, handle="9", since_at=NOW)
    }
    assert told(known) == []


@pytest.mark.parametrize(("message", "words"), [("no room", "no room"), ("", "no reason was told")])
def test_a_worker_that_was_not_accepted_is_gone_and_its_group_says_why(
    message: str, words: str
) -> None:
    cluster = replace(ACTIVE, groups={"default": GroupStatus(failures=1)})
    known = taken(
        Facts(outcomes={WORKER.instance: StartFailed(message)}, agent_connected=True),
        WORKER,
        cluster=cluster,
    )
    assert known.workers == {}
    assert known.cluster.groups["default"] == GroupStatus(
        failures=2, failure=f"default-0: {words}", retry_at=NOW + 2_000
    )
    assert told(known) == [("WORKER_START_FAILED", words, "default-0")]
    unheard = taken(
        Facts(outcomes={WORKER.instance: StartFailed("x")}, agent_connected=True),
        WORKER,
        cluster=replace(ACTIVE, groups={}),
    )
    assert unheard.cluster.groups["default"].failures == 1


def test_words_of_others_are_kept_within_bounds() -> None:
    failed = Facts(outcomes={WORKER.instance: StartFailed("x" * 9_000)}, agent_connected=True)
    known = taken(failed, WORKER)
    assert len(known.cluster.groups["default"].failure) == 1_024
    assert len(known.events[0].message) == 1_024
    known = taken(seen(Phase.EXITED, message="y" * 9_000))
    assert known.cluster.stop is not None
    assert len(known.cluster.stop.message) == len(known.cluster.message) == 4_096


@pytest.mark.parametrize(
    ("failures", "wait_ms"),
    [(1, 1_500), (2, 3_000), (3, 6_000), (4, 12_000), (5, 20_000), (6, 20_000), (9**9, 20_000)],
)
def test_each_failure_doubles_the_wait_up_to_a_bound(failures: int, wait_ms: int) -> None:
    assert backoff_ms(Patience(backoff_s=1.5, backoff_max_s=20.0), failures) == wait_ms


# What a machine room sees of the scheduler.


@pytest.mark.parametrize("phase", Phase)
def test_of_a_scheduler_that_is_not_intended_nothing_is_taken(phase: Phase) -> None:
    cluster = launched(None, CREATING, handle="")
    assert taken(seen(phase, handle="9", exit_code=1), cluster=cluster).cluster == cluster


@pytest.mark.parametrize("before", [Launching.INTENDED, Launching.STARTED])
def test_a_scheduler_that_begins_to_run(before: Launching) -> None:
    known = taken(seen(Phase.RUNNING), cluster=launched(before, CREATING))
    assert known.cluster.scheduler == Scheduler(Launching.RUNNING, "7", running_at=NOW)
    assert (known.cluster.reason, known.cluster.message) == (
        "",
        "the scheduler runs and has not reported yet",
    )
    assert (
        taken(
            seen(Phase.RUNNING, handle="9"), cluster=launched(before, CREATING)
        ).cluster.scheduler.handle
        == "9"
    )
    again = taken(seen(Phase.RUNNING, handle="9"), cluster=known.cluster)
    assert again.cluster is known.cluster


def test_what_is_said_of_a_cluster_that_stops_is_not_overwritten_by_its_scheduler() -> None:
    cluster = launched(Launching.STARTED, replace(CREATING, state=State.STOPPING, stop=STOP))
    known = taken(seen(Phase.RUNNING), cluster=cluster)
    assert known.cluster.scheduler.launching is Launching.RUNNING
    assert (known.cluster.reason, known.cluster.message) == ("R", "m")
    assert taken(seen(Phase.QUEUED, message="Priority"), cluster=cluster).cluster == cluster


def test_a_handle_that_was_lost_is_taken_from_what_is_seen_and_a_known_one_is_kept() -> None:
    for phase in (Phase.RUNNING, Phase.QUEUED):
        assert (
            taken(
                seen(phase, handle="9"), cluster=launched(Launching.RUNNING, handle="")
            ).cluster.scheduler.handle
            == "9"
        )
        assert taken(seen(phase, handle="9")).cluster.scheduler.handle == "7"


@pytest.mark.parametrize("before", [Launching.STARTED, Launching.RUNNING])
def test_a_scheduler_that_waits_in_a_queue(before: Launching) -> None:
    known = taken(
        seen(Phase.QUEUED, message="Priority"), cluster=launched(before, CREATING, running_at=50)
    )
    assert (known.cluster.reason, known.cluster.message) == (
        "SCHEDULER_QUEUED",
        "the scheduler waits in the queue: Priority",
    )
    assert known.cluster.scheduler.launching is Launching.STARTED
    again = before is Launching.RUNNING
    assert known.cluster.scheduler.running_at == (0 if again else 50)
    assert told(known) == (
        [("SCHEDULER_REQUEUED", "the scheduler was put back into the queue", "scheduler")]
        if again
        else []
    )


@pytest.mark.parametrize("before", [Launching.INTENDED, Launching.STOPPING])
def test_a_queue_says_nothing_of_what_is_not_in_it(before: Launching) -> None:
    cluster = launched(before, CREATING)
    assert taken(seen(Phase.QUEUED), cluster=cluster).cluster == cluster


@pytest.mark.parametrize(("message", "end"), [("Priority", " Priority"), ("", "")])
def test_an_active_scheduler_that_is_queued_again_has_lost_all_unless_its_agent_is_heard(
    message: str, end: str
) -> None:
    assert taken(seen(Phase.QUEUED, message=message)).cluster == ACTIVE
    silent = launched(Launching.RUNNING, silent_since_at=90)
    stop = taken(seen(Phase.QUEUED, agent=False, message=message), cluster=silent).cluster.stop
    words = f"the scheduler was put back into the queue; what it held is lost.{end}"
    assert stop == StopWish(State.FAILED, "SCHEDULER_REQUEUED", words, NOW)


@pytest.mark.parametrize("phase", [Phase.EXITED, Phase.GONE])
@pytest.mark.parametrize(
    ("state", "code", "message", "expected"),
    [
        (
            State.ACTIVE,
            0,
            "",
            StopWish(
                State.STOPPED, "SCHEDULER_CLOSED", "the scheduler was closed from within", NOW
            ),
        ),
        (
            State.ACTIVE,
            1,
            "",
            StopWish(
                State.FAILED, "SCHEDULER_EXITED", "the scheduler's process ended with code 1.", NOW
            ),
        ),
        (
            State.ACTIVE,
            None,
            "",
            StopWish(State.FAILED, "SCHEDULER_EXITED", "the scheduler's process ended.", NOW),
        ),
        (
            State.CREATING,
            0,
            "bye",
            StopWish(
                State.FAILED,
                "SCHEDULER_EXITED",
                "the scheduler's process ended with code 0. bye",
                NOW,
            ),
        ),
    ],
)
def test_a_scheduler_that_ended(
    phase: Phase, state: State, code: int | None, message: str, expected: StopWish
) -> None:
    known = taken(
        seen(phase, exit_code=code, message=message), cluster=replace(ACTIVE, state=state)
    )
    assert known.cluster.stop == expected
    assert (known.cluster.state, known.cluster.reason) == (State.STOPPING, expected.reason)
    assert known.cluster.scheduler.launching is (None if phase is Phase.GONE else Launching.RUNNING)
    assert known.cluster.scheduler.handle == ("" if phase is Phase.GONE else "7")
    assert told(known) == [("STOPPING", expected.message, "")]


def test_a_scheduler_that_ends_as_was_wished_is_no_news_but_that_it_is_gone() -> None:
    stopping = replace(launched(Launching.STOPPING), state=State.STOPPING, stop=STOP)
    assert taken(seen(Phase.EXITED, exit_code=1), cluster=stopping).cluster == stopping
    gone = taken(seen(Phase.GONE, exit_code=1), cluster=stopping)
    assert (gone.cluster.scheduler.launching, gone.cluster.stop, told(gone)) == (None, STOP, [])


@pytest.mark.parametrize("phase", [Phase.EXITED, Phase.GONE])
def test_a_scheduler_that_was_not_started_yet_has_not_ended(phase: Phase) -> None:
    cluster = launched(Launching.INTENDED, CREATING)
    assert taken(seen(phase), cluster=cluster).cluster == cluster


def test_what_is_only_presumed_of_a_scheduler_fails_it_but_does_not_make_it_gone() -> None:
    assert taken(seen(Phase.GONE, presumed=True)).cluster == ACTIVE  # its agent talks to us
    known = taken(seen(Phase.GONE, agent=False, presumed=True))
    assert known.cluster.stop is not None
    assert (known.cluster.scheduler.launching, known.cluster.scheduler.handle) == (
        Launching.RUNNING,
        "7",
    )


# What is noted.


def test_an_end_is_wished_once_and_told_by_its_own_words() -> None:
    known = Known(ACTIVE, {}, NOW, Patience())
    known.end(STOP)
    known.fail(Reason.AGENT_SILENT, "too late")
    assert known.cluster.stop == STOP
    assert (known.cluster.state, known.cluster.reason, known.cluster.message) == (
        State.STOPPING,
        "STOP_REQUESTED",
        "asked",
    )
    assert told(known) == [("STOPPING", "asked", "")]


def test_a_move_without_words_says_where_the_cluster_is_and_one_that_leads_nowhere_says_nothing() -> (  # noqa: E501
    None
):
    known = Known(ACTIVE, {}, NOW, Patience())
    known.end(replace(STOP, message=""))
    assert told(known) == [("STOPPING", "the cluster is STOPPING", "")]
    finished = replace(ACTIVE, state=State.STOPPED, stop=STOP)
    known = Known(finished, {}, NOW, Patience())
    known.end(STOP)
    assert (known.cluster, known.events) == (finished, [])
