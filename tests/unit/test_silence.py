"""Silence is the absence of signs of life, counted while the server listens; and nobody is replaced
while nobody could join."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.backends.contract import Instance, Observation, Phase
from gateway.server.core.absorb import hushed_words
from gateway.server.core.facts import BEAT_S, HUSH_S, AgentNews, Facts
from gateway.server.core.model import Cluster, Count, GroupStatus, Launching, State, Worker
from gateway.server.core.plan import StartWorkers, Step, step
from gateway.server.reconcile.hearing import Hearing
from gateway.server.reconcile.inbox import Inbox
from tests.unit.machine_room import PATIENCE, MachineRoom, new_cluster

HUSHED = Facts(hushed=True)


def room_with(workers: int) -> MachineRoom:
    """Return an active cluster with so many workers."""
    room = MachineRoom(new_cluster(default=Count(workers)))
    room.settle()
    assert len(room.names()) == workers
    return room


def ended(worker: Worker) -> dict[Instance, Observation]:
    """Return that a worker was seen to have ended."""
    return {worker.instance: Observation(worker.instance, Phase.GONE, exit_code=1)}


def reachable(cluster: Cluster) -> tuple[bool, str, str]:
    """Return what is said of whether the scheduler is reached."""
    (told,) = [
        condition for condition in cluster.conditions if condition.type == "SchedulerReachable"
    ]
    return told.holds, told.reason, told.message


def fresh(result: Step) -> list[str]:
    """Return the names of workers that a step intends anew."""
    return [worker.name for worker in result.put if worker.launching is Launching.INTENDED]


def test_a_scheduler_that_is_silent_though_connected_is_told() -> None:
    room = room_with(1)
    workers = list(room.workers.values())
    result = step(
        room.cluster, workers, replace(HUSHED, heard_at=room.now - 20_000), room.now, PATIENCE
    )
    assert reachable(result.cluster) == (False, "AGENT_SILENT", hushed_words(PATIENCE))
    assert (result.cluster.reason, result.cluster.message) == (
        "AGENT_SILENT",
        hushed_words(PATIENCE),
    )
    # from the last word on, not from when it was noticed
    assert result.cluster.scheduler.silent_since_at == room.now - 20_000
    assert [event.reason for event in result.events] == ["AGENT_SILENT"]
    again = step(result.cluster, workers, HUSHED, room.now + 1000, PATIENCE)
    assert not again.changes(result.cluster)
    heard = step(
        result.cluster,
        workers,
        Facts(agent_connected=True, heard_at=room.now + 2000),
        room.now + 2000,
        PATIENCE,
    )
    assert reachable(heard.cluster) == (True, "REPORTING", "")
    assert (heard.cluster.reason, heard.cluster.message) == ("", "the scheduler answers again")
    assert [event.reason for event in heard.events] == ["AGENT_HEARD"]


def test_a_scheduler_that_is_silent_for_too_long_has_failed() -> None:
    room = room_with(0)
    silent = step(room.cluster, [], replace(HUSHED, heard_at=room.now), room.now + 20_000, PATIENCE)
    late = room.now + int(PATIENCE.agent_silence_s * 1000)
    assert silent.wake_at == late
    assert step(silent.cluster, [], HUSHED, late - 1, PATIENCE).cluster.stop is None
    end = step(silent.cluster, [], replace(HUSHED, agent_says=""), late, PATIENCE).cluster.stop
    assert end is not None
    assert (end.goal, end.reason) == (State.FAILED, "AGENT_SILENT")
    assert (
        step(
            silent.cluster, [], replace(HUSHED, listening_since_at=late - 1), late, PATIENCE
        ).cluster.stop
        is None
    )


@pytest.mark.parametrize("facts", [HUSHED, Facts()], ids=["silent", "not connected"])
def test_nobody_is_started_or_replaced_while_nobody_could_join(facts: Facts) -> None:
    room = room_with(2)
    first, second = room.workers.values()
    cluster, now = room.cluster, room.now
    # its workers end one after the other, as those of a scheduler that hangs do
    for _ in range(20):
        result = step(cluster, [second], replace(facts, observations=ended(first)), now, PATIENCE)
        assert fresh(result) == []
        assert not any(isinstance(action, StartWorkers) for action in result.actions)
        cluster, now = result.cluster, now + 1000
    room.wish(default=Count(50))
    result = step(
        replace(cluster, spec=room.cluster.spec, generation=9), [second], facts, now, PATIENCE
    )
    assert (fresh(result), result.cluster.groups["default"].desired) == ([], 50)
    heard = step(
        result.cluster, [second], Facts(agent_connected=True, heard_at=now + 1), now + 1, PATIENCE
    )
    assert len(fresh(heard)) == 49


def test_what_was_intended_before_the_silence_waits_for_its_end() -> None:
    room = room_with(0)
    waiting = Worker(
        room.cluster.uid, "default-0", "default", created_at=room.now, since_at=room.now
    )
    cluster = replace(
        room.cluster,
        spec=new_cluster(default=Count(1)).spec,
        groups={"default": GroupStatus(next_sequence=1)},
    )
    assert not any(
        isinstance(action, StartWorkers)
        for action in step(cluster, [waiting], HUSHED, room.now + 1, PATIENCE).actions
    )
    heard = step(
        cluster, [waiting], Facts(agent_connected=True, heard_at=room.now), room.now + 1, PATIENCE
    )
    assert [
        action.workers[0].name for action in heard.actions if isinstance(action, StartWorkers)
    ] == ["default-0"]


def test_a_lost_worker_is_replaced_once_its_scheduler_has_given_a_sign_of_life_since() -> None:
    room = room_with(1)
    (lost,) = room.workers.values()
    hangs_already = Facts(agent_connected=True, heard_at=room.now - 3000)  # it is not known yet
    result = step(
        room.cluster, [lost], replace(hangs_already, observations=ended(lost)), room.now, PATIENCE
    )
    assert fresh(result) == []
    assert result.wake_at is not None
    assert result.wake_at <= room.now + BEAT_S * 1000
    for later in range(1, 4):
        assert (
            fresh(step(result.cluster, [], hangs_already, room.now + later * 5000, PATIENCE)) == []
        )
    alive = Facts(agent_connected=True, heard_at=room.now + 200)
    assert len(fresh(step(result.cluster, [], alive, room.now + 1000, PATIENCE))) == 1


def test_a_clock_that_was_set_back_keeps_no_replacement_waiting() -> None:
    room = room_with(1)
    (lost,) = room.workers.values()
    seen = Facts(agent_connected=True, heard_at=room.now, observations=ended(lost))
    result = step(room.cluster, [lost], seen, room.now + 10_000_000, PATIENCE)
    assert (
        len(
            fresh(
                step(
                    result.cluster,
                    [],
                    Facts(agent_connected=True, heard_at=room.now + 5),
                    room.now + 10,
                    PATIENCE,
                )
            )
        )
        == 1
    )


def test_the_time_to_connect_does_not_run_while_nobody_could() -> None:
    room = room_with(0)
    stuck = Worker(
        room.cluster.uid, "default-0", "default", Launching.RUNNING, created_at=1, since_at=room.now
    )
    cluster = replace(
        room.cluster,
        spec=new_cluster(default=Count(1)).spec,
        groups={"default": GroupStatus(next_sequence=1)},
    )
    late = room.now + int(PATIENCE.worker_connect_s * 1000) + 1
    for facts in (HUSHED, Facts(), Facts(agent_connected=True, heard_since_at=late - 1000)):
        assert {w.launching for w in step(cluster, [stuck], facts, late, PATIENCE).put} <= {
            Launching.RUNNING
        }
    result = step(
        cluster,
        [stuck],
        Facts(agent_connected=True, heard_since_at=1, heard_at=late),
        late,
        PATIENCE,
    )
    assert {w.name: w.launching for w in result.put}["default-0"] is Launching.STOPPING


def test_use_that_was_told_before_the_silence_ends_nothing() -> None:
    room = room_with(0)
    lifecycle = replace(room.cluster.spec.lifecycle, idle_timeout_s=60.0, no_client_timeout_s=60.0)
    news = AgentNews(idle_since_at=room.now, no_client_since_at=room.now)
    cluster = replace(room.cluster, spec=replace(room.cluster.spec, lifecycle=lifecycle))
    cluster = step(
        cluster, [], Facts(agent_connected=True, heard_at=room.now, news=news), room.now, PATIENCE
    ).cluster
    assert step(cluster, [], HUSHED, room.now + 120_000, PATIENCE).cluster.stop is None


class Clock:
    """A steady clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_hearing_counts_from_the_last_word_and_only_while_it_listened() -> None:
    clock = Clock()
    hearing = Hearing(clock)
    hearing.came("a")
    clock.now += 5
    hearing.came("b")
    clock.now += HUSH_S - 5
    assert hearing.fallen_silent() == ["a"]
    assert hearing.fallen_silent() == []
    assert hearing.of("a") == (False, True, HUSH_S, HUSH_S)
    assert hearing.of("b")[:2] == (True, False)
    assert hearing.heard("a")
    assert not hearing.heard("a")
    assert hearing.of("a") == (True, False, 0.0, 0.0)  # since when it is heard begins anew
    clock.now += 3600  # this process was suspended
    hearing.begin_anew()
    assert hearing.fallen_silent() == []
    assert hearing.of("b")[:2] == (True, False)
    clock.now += HUSH_S
    assert sorted(hearing.fallen_silent()) == ["a", "b"]
    assert hearing.of("never there") == (False, False, None, None)
    assert not hearing.heard("never there")


def test_an_agent_is_gone_with_the_last_of_its_streams() -> None:
    hearing = Hearing(Clock())
    hearing.came("a")
    hearing.came("a")
    assert not hearing.went("a")
    assert hearing.of("a")[0]
    assert hearing.went("a")
    assert not hearing.of("a")[0]
    assert hearing.went("a")


def test_what_the_inbox_says_of_hearing_is_by_the_clock_of_day() -> None:
    inbox = Inbox()
    inbox.agent_came("a")
    facts = inbox.take("a", 1_000_000)
    assert facts.agent_connected
    assert 999_000 < facts.heard_at <= 1_000_000
    assert 999_000 < facts.heard_since_at <= 1_000_000
    inbox.agent_went("a")
    assert inbox.take("a", 1_000_000) == Facts(listening_since_at=0)
