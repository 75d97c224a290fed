"""What a cluster is known to be once facts are taken in: of its scheduler, its workers, its agent's news, and what is told of each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.backends.contract import Instance, Observation, Phase, Role, Started, StartFailed
from gateway.server.core.absorb import Known, absorb, backoff_ms, hushed_words
from gateway.server.core.facts import AgentNews, Facts, Patience
from gateway.server.core.model import (
    Activity,
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
CREATING = replace(ACTIVE, state=State.CREATING, reason="R", message="m", scheduler=Scheduler(Launching.STARTED, "7"))
WORKER = Worker(UID, "default-0", "default", Launching.RUNNING, "8", created_at=10, since_at=20, connected=True, connected_at=15)


def launched(launching: Launching | None, cluster: Cluster = ACTIVE, **changes: object) -> Cluster:
    """Return a cluster whose scheduler stands there."""
    return replace(cluster, scheduler=replace(cluster.scheduler, launching=launching, **changes))  # type: ignore[arg-type]


def taken(facts: Facts, *workers: Worker, cluster: Cluster = ACTIVE, patience: Patience | None = None) -> Known:
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


def test_facts_of_nothing_change_nothing() -> None:
    known = taken(Facts(agent_connected=True), WORKER)
    assert (known.cluster, known.workers, known.events) == (ACTIVE, {WORKER.name: WORKER}, [])
    other = Instance(UID, Role.WORKER, "default-9")
    strange = Facts({other: Observation(other, Phase.GONE)}, {other: Started("1")}, agent_connected=True)
    assert taken(strange, WORKER).cluster is ACTIVE


# Starts that were answered.


@pytest.mark.parametrize(
    ("before", "after"), [(Launching.INTENDED, Launching.STARTED), (Launching.RUNNING, Launching.RUNNING), (Launching.STOPPING,) * 2]
)
def test_a_scheduler_that_was_accepted(before: Launching, after: Launching) -> None:
    known = taken(Facts(outcomes={ME: Started("9")}), cluster=launched(before, CREATING, failures=2, handle=""))
    assert known.cluster.scheduler == Scheduler(after, "9", failures=0, launched_at=NOW)
    assert told(known) == [("SCHEDULER_STARTED", "the backend has accepted the scheduler", "scheduler")]


def test_a_scheduler_that_was_not_accepted_is_tried_again_a_while_later_and_then_given_up() -> None:
    patience = Patience(scheduler_attempts=3, backoff_s=2.0)
    cluster = launched(Launching.INTENDED, CREATING)
    for failures, wait_ms in ((1, 2_000), (2, 4_000), (3, 8_000)):
        known = taken(Facts(outcomes={ME: StartFailed("disk full")}), cluster=cluster, patience=patience)
        cluster = known.cluster
        assert (cluster.scheduler.failures, cluster.scheduler.retry_at) == (failures, NOW + wait_ms)
        assert told(known)[0] == ("SCHEDULER_START_FAILED", "disk full", "scheduler")
        assert (cluster.stop is None) is (failures < 3)
    words = "the scheduler could not be started: disk full"
    assert cluster.stop == StopWish(State.FAILED, "SCHEDULER_START_FAILED", words, NOW)
    assert (cluster.state, cluster.reason, cluster.message, cluster.state_at) == (State.STOPPING, "SCHEDULER_START_FAILED", words, NOW)
    assert told(known)[1:] == [("STOPPING", words, "")]


def test_a_scheduler_whose_start_is_hopeless_is_given_up_at_once() -> None:
    known = taken(Facts(outcomes={ME: StartFailed("no such queue", permanent=True)}), cluster=launched(Launching.INTENDED, CREATING))
    assert known.cluster.stop is not None
    assert known.cluster.scheduler.failures == 1


@pytest.mark.parametrize(
    ("before", "after"), [(Launching.INTENDED, Launching.STARTED), (Launching.RUNNING, Launching.RUNNING), (Launching.STOPPING,) * 2]
)
def test_a_worker_that_was_accepted(before: Launching, after: Launching) -> None:
    known = taken(Facts(outcomes={WORKER.instance: Started("9")}, agent_connected=True), replace(WORKER, launching=before, handle=""))
    assert known.workers == {WORKER.name: replace(WORKER, launching=after, handle="9", since_at=NOW)}
    assert told(known) == []


@pytest.mark.parametrize(("message", "words"), [("no room", "no room"), ("", "no reason was told")])
def test_a_worker_that_was_not_accepted_is_gone_and_its_group_says_why(message: str, words: str) -> None:
    cluster = replace(ACTIVE, groups={"default": GroupStatus(failures=1)})
    known = taken(Facts(outcomes={WORKER.instance: StartFailed(message)}, agent_connected=True), WORKER, cluster=cluster)
    assert known.workers == {}
    assert known.cluster.groups["default"] == GroupStatus(failures=2, failure=f"default-0: {words}", retry_at=NOW + 2_000)
    assert told(known) == [("WORKER_START_FAILED", words, "default-0")]
    unheard = taken(Facts(outcomes={WORKER.instance: StartFailed("x")}, agent_connected=True), WORKER, cluster=replace(ACTIVE, groups={}))
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
    ("failures", "wait_ms"), [(1, 1_500), (2, 3_000), (3, 6_000), (4, 12_000), (5, 20_000), (6, 20_000), (9**9, 20_000)]
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
    assert (known.cluster.reason, known.cluster.message) == ("", "the scheduler runs and has not reported yet")
    assert taken(seen(Phase.RUNNING, handle="9"), cluster=launched(before, CREATING)).cluster.scheduler.handle == "9"
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
        assert taken(seen(phase, handle="9"), cluster=launched(Launching.RUNNING, handle="")).cluster.scheduler.handle == "9"
        assert taken(seen(phase, handle="9")).cluster.scheduler.handle == "7"


@pytest.mark.parametrize("before", [Launching.STARTED, Launching.RUNNING])
def test_a_scheduler_that_waits_in_a_queue(before: Launching) -> None:
    known = taken(seen(Phase.QUEUED, message="Priority"), cluster=launched(before, CREATING, running_at=50))
    assert (known.cluster.reason, known.cluster.message) == ("SCHEDULER_QUEUED", "the scheduler waits in the queue: Priority")
    assert known.cluster.scheduler.launching is Launching.STARTED
    again = before is Launching.RUNNING
    assert known.cluster.scheduler.running_at == (0 if again else 50)
    assert told(known) == ([("SCHEDULER_REQUEUED", "the scheduler was put back into the queue", "scheduler")] if again else [])


@pytest.mark.parametrize("before", [Launching.INTENDED, Launching.STOPPING])
def test_a_queue_says_nothing_of_what_is_not_in_it(before: Launching) -> None:
    cluster = launched(before, CREATING)
    assert taken(seen(Phase.QUEUED), cluster=cluster).cluster == cluster


@pytest.mark.parametrize(("message", "end"), [("Priority", " Priority"), ("", "")])
def test_an_active_scheduler_that_is_queued_again_has_lost_all_unless_its_agent_is_heard(message: str, end: str) -> None:
    assert taken(seen(Phase.QUEUED, message=message)).cluster == ACTIVE
    silent = launched(Launching.RUNNING, silent_since_at=90)
    stop = taken(seen(Phase.QUEUED, agent=False, message=message), cluster=silent).cluster.stop
    words = f"the scheduler was put back into the queue; what it held is lost.{end}"
    assert stop == StopWish(State.FAILED, "SCHEDULER_REQUEUED", words, NOW)


@pytest.mark.parametrize("phase", [Phase.EXITED, Phase.GONE])
@pytest.mark.parametrize(
    ("state", "code", "message", "expected"),
    [
        (State.ACTIVE, 0, "", StopWish(State.STOPPED, "SCHEDULER_CLOSED", "the scheduler was closed from within", NOW)),
        (State.ACTIVE, 1, "", StopWish(State.FAILED, "SCHEDULER_EXITED", "the scheduler's process ended with code 1.", NOW)),
        (State.ACTIVE, None, "", StopWish(State.FAILED, "SCHEDULER_EXITED", "the scheduler's process ended.", NOW)),
        (State.CREATING, 0, "bye", StopWish(State.FAILED, "SCHEDULER_EXITED", "the scheduler's process ended with code 0. bye", NOW)),
    ],
)
def test_a_scheduler_that_ended(phase: Phase, state: State, code: int | None, message: str, expected: StopWish) -> None:
    known = taken(seen(phase, exit_code=code, message=message), cluster=replace(ACTIVE, state=state))
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
    assert (known.cluster.scheduler.launching, known.cluster.scheduler.handle) == (Launching.RUNNING, "7")


# What a machine room sees of a worker.


def test_a_worker_that_begins_to_run() -> None:
    started = replace(WORKER, launching=Launching.STARTED, connected=False, message="waits")
    running = replace(started, launching=Launching.RUNNING, since_at=NOW, message="")
    assert taken(of_worker(Phase.RUNNING), started).workers[WORKER.name] == running
    assert taken(of_worker(Phase.RUNNING, handle="9"), started).workers[WORKER.name] == replace(running, handle="9")
    assert taken(of_worker(Phase.RUNNING, handle="9"), WORKER).workers[WORKER.name] is WORKER


@pytest.mark.parametrize("launching", Launching)
def test_the_handle_of_a_worker_that_was_lost_is_taken_from_what_is_seen(launching: Launching) -> None:
    nameless = replace(WORKER, launching=launching, handle="")
    found = taken(of_worker(Phase.QUEUED, handle="9"), nameless).workers[WORKER.name]
    assert found == (nameless if launching is Launching.INTENDED else replace(nameless, handle="9"))
    assert taken(of_worker(Phase.QUEUED, handle="9"), replace(nameless, handle="8")).workers[WORKER.name].handle == "8"
    assert taken(of_worker(Phase.QUEUED), nameless).workers[WORKER.name] == nameless


def test_a_worker_that_is_put_back_into_the_queue() -> None:
    unconnected = replace(WORKER, connected=False)
    known = taken(of_worker(Phase.QUEUED), unconnected)
    assert known.workers[WORKER.name] == replace(unconnected, launching=Launching.STARTED, since_at=NOW)
    assert told(known) == [("WORKER_REQUEUED", "it was put back into the queue", "default-0")]
    for other in (WORKER, replace(unconnected, launching=Launching.STARTED)):
        known = taken(of_worker(Phase.QUEUED), other)
        assert (known.workers[WORKER.name], told(known)) == (other, [])


@pytest.mark.parametrize(
    ("connected_at", "code", "message", "event"),
    [
        (15, 0, "", ("WORKER_CLOSED", "its process ended.", "default-0")),
        (15, 1, "", ("WORKER_LOST", "its process ended.", "default-0")),
        (15, None, "killed", ("WORKER_LOST", "its process ended. killed", "default-0")),
        (0, 0, "no module dask", ("WORKER_EXITED", "its process ended before it connected. no module dask", "default-0")),
        (0, None, "", ("WORKER_EXITED", "its process ended before it connected.", "default-0")),
    ],
)
@pytest.mark.parametrize("phase", [Phase.EXITED, Phase.GONE])
def test_a_worker_that_ended(phase: Phase, connected_at: int, code: int | None, message: str, event: tuple[str, str, str]) -> None:
    worker = replace(WORKER, connected=bool(connected_at), connected_at=connected_at)
    known = taken(of_worker(phase, exit_code=code, message=message), worker)
    assert told(known) == [event]
    status = GroupStatus(desired=1, next_sequence=1, lost_at=NOW)
    failed = replace(status, failures=1, failure=f"default-0: {event[1]}", retry_at=NOW + 1_000)
    assert known.cluster.groups["default"] == (status if connected_at else failed)
    leaving = replace(worker, launching=Launching.LEAVING, connected=False, since_at=NOW)
    assert known.workers == ({} if phase is Phase.GONE else {WORKER.name: leaving})


def test_a_worker_that_ends_while_its_cluster_stops_is_no_loss() -> None:
    stopping = replace(ACTIVE, state=State.STOPPING, stop=STOP)
    for phase in (Phase.EXITED, Phase.GONE):
        known = taken(of_worker(phase, exit_code=1), WORKER, cluster=stopping)
        assert (told(known), known.cluster) == ([], stopping)
        assert [one.launching for one in known.workers.values()] == ([Launching.LEAVING] if phase is Phase.EXITED else [])


@pytest.mark.parametrize("launching", [Launching.STOPPING, Launching.LEAVING])
def test_a_worker_that_was_to_go_is_no_loss(launching: Launching) -> None:
    going = replace(WORKER, launching=launching, connected=False)
    for phase in (Phase.QUEUED, Phase.RUNNING, Phase.EXITED):
        known = taken(of_worker(phase), going)
        assert (known.workers, told(known), known.cluster) == ({WORKER.name: going}, [], ACTIVE)
    known = taken(of_worker(Phase.GONE), going)
    assert (known.workers, told(known), known.cluster) == ({}, [], ACTIVE)
    assert taken(of_worker(Phase.GONE, presumed=True), going).workers == {WORKER.name: going}


@pytest.mark.parametrize("phase", Phase)
def test_a_worker_that_was_not_started_yet_is_not_seen(phase: Phase) -> None:
    intended = replace(WORKER, launching=Launching.INTENDED, connected=False, connected_at=0)
    known = taken(of_worker(phase), intended)
    assert (known.workers, told(known), known.cluster) == ({WORKER.name: intended}, [], ACTIVE)


def test_what_is_only_presumed_of_a_worker() -> None:
    missing = of_worker(Phase.GONE, presumed=True)
    assert taken(missing, WORKER).workers == {WORKER.name: WORKER}  # its scheduler knows better
    left = replace(WORKER, connected=False)
    for worker, agent in ((left, True), (WORKER, False)):
        known = taken(replace(missing, agent_connected=agent), worker)
        assert known.workers == {WORKER.name: replace(left, launching=Launching.LEAVING, since_at=NOW)}
        assert [event.reason for event in known.events] == ["WORKER_LOST"]
    certain = taken(of_worker(Phase.GONE), WORKER)
    assert certain.workers == {}


# Whether its agent is heard.


def test_silence_counts_from_the_last_word_or_from_now() -> None:
    assert taken(Facts(heard_at=500)).cluster.scheduler.silent_since_at == 500
    known = taken(Facts())
    assert (known.cluster.scheduler.silent_since_at, known.cluster.reason, told(known)) == (NOW, "", [])
    assert taken(Facts(heard_at=900), cluster=launched(Launching.RUNNING, silent_since_at=90)).cluster.scheduler.silent_since_at == 90
    for state in (State.PENDING, State.CREATING, State.STOPPING, State.STOPPED):
        cluster = replace(ACTIVE, state=state)
        assert taken(Facts(hushed=True), cluster=cluster).cluster == cluster


def test_that_a_connected_scheduler_is_silent_is_told_once_and_that_it_answers_again_too() -> None:
    patience = Patience(agent_silence_s=77.0)
    words = hushed_words(patience)
    assert "said nothing for 20 s" in words
    assert "after 77 s the cluster has failed" in words
    known = taken(Facts(hushed=True, heard_at=500), patience=patience)
    assert (known.cluster.reason, known.cluster.message) == ("AGENT_SILENT", words)
    assert told(known) == [("AGENT_SILENT", words, "scheduler")]
    assert taken(Facts(hushed=True), cluster=known.cluster, patience=patience).events == []
    heard = taken(Facts(agent_connected=True), cluster=known.cluster)
    assert heard.cluster.scheduler.silent_since_at == 0
    assert (heard.cluster.reason, heard.cluster.message) == ("", "the scheduler answers again")
    assert told(heard) == [("AGENT_HEARD", "the scheduler answers again", "scheduler")]
    stopping = taken(Facts(hushed=True), cluster=replace(ACTIVE, stop=STOP))
    assert (stopping.cluster.reason, told(stopping)) == ("", [])


def test_an_agent_that_was_only_not_connected_comes_back_without_a_word() -> None:
    cluster = replace(launched(Launching.RUNNING, silent_since_at=90), reason="R", message="m")
    known = taken(Facts(agent_connected=True), cluster=cluster)
    assert known.cluster == replace(cluster, scheduler=replace(cluster.scheduler, silent_since_at=0))
    assert told(known) == []
    ending = replace(cluster, state=State.STOPPING, reason="AGENT_SILENT")
    known = taken(Facts(agent_connected=True), cluster=ending)
    assert (known.cluster.reason, told(known)) == ("AGENT_SILENT", [])


# What its agent tells.


def news(**fields: object) -> Facts:
    """Return facts of news alone."""
    names = {name: frozenset(value) if isinstance(value, set) else value for name, value in fields.items()}
    return Facts(news=AgentNews(**names), agent_connected=True)  # type: ignore[arg-type]


def test_the_first_report_makes_a_cluster_active() -> None:
    first = news(snapshot=True, address="tls://2:2", dashboard_address="2:3", versions={"dask": "1"})
    known = taken(first, cluster=launched(Launching.STARTED, CREATING))
    assert known.cluster.scheduler == Scheduler(
        Launching.RUNNING, "7", running_at=NOW, address="tls://2:2", dashboard_address="2:3", versions={"dask": "1"}
    )
    assert (known.cluster.state, known.cluster.state_at, known.cluster.started_at) == (State.ACTIVE, NOW, NOW)
    assert (known.cluster.reason, known.cluster.message) == ("", "the scheduler answers")
    assert told(known) == [("ACTIVE", "the scheduler answers", "")]


def test_a_later_report_does_not_begin_it_anew() -> None:
    known = taken(news(snapshot=True, address="tls://2:2"))
    assert (known.cluster.started_at, known.cluster.state_at, told(known)) == (0, 0, [])
    assert (known.cluster.scheduler.running_at, known.cluster.scheduler.address) == (50, "tls://2:2")
    assert taken(news(snapshot=True)).cluster.scheduler.address == "tls://1:1"
    waiting = taken(news(snapshot=True), cluster=launched(Launching.INTENDED, CREATING))
    assert (waiting.cluster.state, waiting.cluster.scheduler.launching) == (State.CREATING, Launching.RUNNING)
    assert taken(news(address="tls://2:2"), cluster=CREATING).cluster.state is State.CREATING
    assert taken(news(snapshot=True), cluster=launched(Launching.STOPPING)).cluster.scheduler.launching is Launching.STOPPING


@pytest.mark.parametrize("state", [State.STOPPED, State.FAILED])
def test_of_a_cluster_that_has_ended_nothing_is_news(state: State) -> None:
    ended = replace(ACTIVE, state=state)
    assert taken(news(snapshot=True, clients=3, workers={"default-0"}), cluster=ended).cluster == ended


@pytest.mark.parametrize("launching", [Launching.INTENDED, Launching.STARTED, Launching.RUNNING])
@pytest.mark.parametrize("snapshot", [True, False])
def test_a_worker_that_connects_runs_and_its_group_fails_no_more(launching: Launching, snapshot: bool) -> None:
    cluster = replace(ACTIVE, groups={"default": GroupStatus(failures=2, failure="x", retry_at=9, next_sequence=1)})
    worker = replace(WORKER, launching=launching, connected=False, connected_at=0, message="waits")
    known = taken(news(snapshot=snapshot, workers={"default-0", "default-9"}), worker, cluster=cluster)
    expected = replace(worker, launching=Launching.RUNNING, connected=True, connected_at=NOW, since_at=NOW, message="")
    assert known.workers == {WORKER.name: expected}
    assert known.cluster.groups["default"] == GroupStatus(next_sequence=1)
    back = taken(news(workers={"default-0"}), replace(worker, connected_at=15))
    assert back.workers[WORKER.name].connected_at == 15


def test_what_is_known_already_or_is_to_go_is_no_news() -> None:
    failing = replace(ACTIVE, groups={"default": GroupStatus(failures=2)})
    known = taken(news(workers={"default-0"}), WORKER, cluster=failing)
    assert (known.workers[WORKER.name], known.cluster) == (WORKER, failing)
    for launching in (Launching.STOPPING, Launching.LEAVING):
        going = replace(WORKER, launching=launching, connected=False)
        known = taken(news(workers={"default-0"}, retired={"default-0"}, left={"default-0", "default-9"}), going, cluster=failing)
        assert (known.workers[WORKER.name], known.cluster) == (going, failing)


def test_a_worker_that_leaves_or_is_retired() -> None:
    gone = replace(WORKER, connected=False, since_at=NOW)
    assert taken(news(left={"default-0", "x"}), WORKER).workers == {WORKER.name: gone}
    assert taken(news(retired={"default-0", "x"}), WORKER).workers == {WORKER.name: replace(gone, launching=Launching.LEAVING)}
    other = replace(WORKER, name="default-1")
    known = taken(news(snapshot=True, workers={"default-1"}), WORKER, other)  # it is missing in a list of all
    assert known.workers == {WORKER.name: gone, other.name: other}
    assert taken(news(workers={"default-1"}), WORKER, other).workers[WORKER.name] == WORKER
    unconnected = replace(WORKER, connected=False)
    assert taken(news(snapshot=True), unconnected).workers[WORKER.name] == unconnected


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (0, 0, 0),
        (0, 50_000, 50_000),
        (50_000, 0, 0),
        (50_000, 51_999, 50_000),
        (50_000, 52_000, 52_000),
        (50_000, 48_001, 50_000),
        (50_000, 48_000, 48_000),
        (1_000, 0, 0),
        (0, 1_000, 1_000),
    ],
)
def test_use_is_told_and_its_instants_do_not_tremble(before: int, now: int, expected: int) -> None:
    for name, other in (("idle_since_at", "no_client_since_at"), ("no_client_since_at", "idle_since_at")):
        cluster = replace(ACTIVE, activity=replace(Activity(), **{name: before}))  # type: ignore[arg-type]
        found = taken(news(clients=3, **{name: now}), cluster=cluster).cluster.activity
        assert (getattr(found, name), getattr(found, other), found.clients) == (expected, 0, 3)


def test_the_same_use_told_twice_changes_nothing() -> None:
    once = taken(news(clients=3, idle_since_at=9_000, targets={"default": 4, "gone": 2, "gpu": 0})).cluster
    assert once.groups == {"default": GroupStatus(desired=1, next_sequence=1, target=4)}
    assert taken(news(clients=3, idle_since_at=9_100, targets={"default": 4}), cluster=once).cluster is once


# What is noted.


def test_an_end_is_wished_once_and_told_by_its_own_words() -> None:
    known = Known(ACTIVE, {}, NOW, Patience())
    known.end(STOP)
    known.fail("LATER", "too late")
    assert known.cluster.stop == STOP
    assert (known.cluster.state, known.cluster.reason, known.cluster.message) == (State.STOPPING, "STOP_REQUESTED", "asked")
    assert told(known) == [("STOPPING", "asked", "")]


def test_a_move_without_words_says_where_the_cluster_is_and_one_that_leads_nowhere_says_nothing() -> None:
    known = Known(ACTIVE, {}, NOW, Patience())
    known.end(replace(STOP, message=""))
    assert told(known) == [("STOPPING", "the cluster is STOPPING", "")]
    finished = replace(ACTIVE, state=State.STOPPED, stop=STOP)
    known = Known(finished, {}, NOW, Patience())
    known.end(STOP)
    assert (known.cluster, known.events) == (finished, [])
