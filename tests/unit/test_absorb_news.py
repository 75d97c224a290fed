"""What is known once an agent was heard or fell silent, and of what it tells of workers and of
use."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.backends.contract import Observation, Phase
from gateway.server.core.absorb import hushed_words
from gateway.server.core.facts import AgentNews, Facts, Patience
from gateway.server.core.model import (
    Activity,
    GroupStatus,
    Launching,
    Scheduler,
    State,
)
from tests.unit.known import ACTIVE, CREATING, NOW, STOP, WORKER, launched, taken, told

# Whether its agent is heard.


def test_silence_counts_from_the_last_word_or_from_now() -> None:
    assert taken(Facts(heard_at=500)).cluster.scheduler.silent_since_at == 500
    known = taken(Facts())
    assert (known.cluster.scheduler.silent_since_at, known.cluster.reason, told(known)) == (
        NOW,
        "",
        [],
    )
    assert (
        taken(
            Facts(heard_at=900), cluster=launched(Launching.RUNNING, silent_since_at=90)
        ).cluster.scheduler.silent_since_at
        == 90
    )
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
    assert known.cluster == replace(
        cluster, scheduler=replace(cluster.scheduler, silent_since_at=0)
    )
    assert told(known) == []
    ending = replace(cluster, state=State.STOPPING, reason="AGENT_SILENT")
    known = taken(Facts(agent_connected=True), cluster=ending)
    assert (known.cluster.reason, told(known)) == ("AGENT_SILENT", [])


# What its agent tells.


def news(**fields: object) -> Facts:
    """Return facts of news alone."""
    names = {
        name: frozenset(value) if isinstance(value, set) else value
        for name, value in fields.items()
    }
    return Facts(news=AgentNews(**names), agent_connected=True)  # type: ignore[arg-type]


def test_the_first_report_makes_a_cluster_active() -> None:
    first = news(
        snapshot=True, address="tls://2:2", dashboard_address="2:3", versions={"dask": "1"}
    )
    known = taken(first, cluster=launched(Launching.STARTED, CREATING))
    assert known.cluster.scheduler == Scheduler(
        Launching.RUNNING,
        "7",
        running_at=NOW,
        address="tls://2:2",
        dashboard_address="2:3",
        versions={"dask": "1"},
    )
    assert (known.cluster.state, known.cluster.state_at, known.cluster.started_at) == (
        State.ACTIVE,
        NOW,
        NOW,
    )
    assert (known.cluster.reason, known.cluster.message) == ("", "the scheduler answers")
    assert told(known) == [("ACTIVE", "the scheduler answers", "")]


def test_a_later_report_does_not_begin_it_anew() -> None:
    known = taken(news(snapshot=True, address="tls://2:2"))
    assert (known.cluster.started_at, known.cluster.state_at, told(known)) == (0, 0, [])
    assert (known.cluster.scheduler.running_at, known.cluster.scheduler.address) == (
        50,
        "tls://2:2",
    )
    assert taken(news(snapshot=True)).cluster.scheduler.address == "tls://1:1"
    waiting = taken(news(snapshot=True), cluster=launched(Launching.INTENDED, CREATING))
    assert (waiting.cluster.state, waiting.cluster.scheduler.launching) == (
        State.CREATING,
        Launching.RUNNING,
    )
    assert taken(news(address="tls://2:2"), cluster=CREATING).cluster.state is State.CREATING
    assert (
        taken(news(snapshot=True), cluster=launched(Launching.STOPPING)).cluster.scheduler.launching
        is Launching.STOPPING
    )


@pytest.mark.parametrize("state", [State.STOPPED, State.FAILED])
def test_of_a_cluster_that_has_ended_nothing_is_news(state: State) -> None:
    ended = replace(ACTIVE, state=state)
    assert (
        taken(news(snapshot=True, clients=3, workers={"default-0"}), cluster=ended).cluster == ended
    )


@pytest.mark.parametrize("launching", [Launching.INTENDED, Launching.STARTED, Launching.RUNNING])
@pytest.mark.parametrize("snapshot", [True, False])
def test_a_worker_that_connects_runs_and_its_group_fails_no_more(
    launching: Launching, snapshot: bool
) -> None:
    cluster = replace(
        ACTIVE,
        groups={"default": GroupStatus(failures=2, failure="x", retry_at=9, next_sequence=1)},
    )
    worker = replace(WORKER, launching=launching, connected=False, connected_at=0, message="waits")
    known = taken(
        news(snapshot=snapshot, workers={"default-0", "default-9"}), worker, cluster=cluster
    )
    expected = replace(
        worker,
        launching=Launching.RUNNING,
        connected=True,
        connected_at=NOW,
        since_at=NOW,
        message="",
    )
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
        known = taken(
            news(workers={"default-0"}, retired={"default-0"}, left={"default-0", "default-9"}),
            going,
            cluster=failing,
        )
        assert (known.workers[WORKER.name], known.cluster) == (going, failing)


def test_a_worker_that_leaves_or_is_retired() -> None:
    gone = replace(WORKER, connected=False, since_at=NOW)
    assert taken(news(left={"default-0", "x"}), WORKER).workers == {WORKER.name: gone}
    assert taken(news(retired={"default-0", "x"}), WORKER).workers == {
        WORKER.name: replace(gone, launching=Launching.LEAVING)
    }
    other = replace(WORKER, name="default-1")
    # it is missing in a list of all
    known = taken(news(snapshot=True, workers={"default-1"}), WORKER, other)
    assert known.workers == {WORKER.name: gone, other.name: other}
    assert taken(news(workers={"default-1"}), WORKER, other).workers[WORKER.name] == WORKER
    unconnected = replace(WORKER, connected=False)
    assert taken(news(snapshot=True), unconnected).workers[WORKER.name] == unconnected


def test_who_joined_and_left_between_two_reports_had_joined() -> None:
    """It was told as one that ended before it connected."""
    started = replace(
        WORKER, launching=Launching.STARTED, connected=False, connected_at=0, since_at=NOW
    )
    both = news(workers={"default-0"}, left={"default-0"})
    gone = replace(started, launching=Launching.RUNNING, connected_at=NOW)
    assert taken(both, started).workers == {WORKER.name: gone}
    ended = {WORKER.instance: Observation(WORKER.instance, Phase.GONE, exit_code=-9)}
    known = taken(replace(both, observations=ended), started)  # its end is seen at once
    assert [(reason, name) for reason, _, name in told(known)] == [("WORKER_LOST", WORKER.name)]
    assert "before it connected" not in told(known)[0][1]
    assert known.workers == {}


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
    for name, other in (
        ("idle_since_at", "no_client_since_at"),
        ("no_client_since_at", "idle_since_at"),
    ):
        cluster = replace(ACTIVE, activity=replace(Activity(), **{name: before}))
        found = taken(news(clients=3, **{name: now}), cluster=cluster).cluster.activity
        assert (getattr(found, name), getattr(found, other), found.clients) == (expected, 0, 3)


def test_the_same_use_told_twice_changes_nothing() -> None:
    once = taken(
        news(clients=3, idle_since_at=9_000, targets={"default": 4, "gone": 2, "gpu": 0})
    ).cluster
    assert once.groups == {"default": GroupStatus(desired=1, next_sequence=1, target=4)}
    assert (
        taken(news(clients=3, idle_since_at=9_100, targets={"default": 4}), cluster=once).cluster
        is once
    )
