"""Workers that end soon after they joined are not started again without pause, nor for ever, and it
is said why."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.backends.contract import Observation, Phase
from gateway.server.core.facts import AgentNews, Facts, Patience
from gateway.server.core.model import Condition, Count, Launching, Spec, State, WorkerGroup
from gateway.server.core.plan import StartWorkers, Stop, step
from tests.unit.known import ACTIVE, NOW, WORKER
from tests.unit.machine_room import MachineRoom, new_cluster

PATIENCE = Patience(worker_settle_s=60.0, worker_attempts=10)


def room_of(workers: int, patience: Patience = PATIENCE) -> MachineRoom:
    """Return a cluster with its workers running for long."""
    room = MachineRoom(new_cluster(default=Count(workers)), patience=patience)
    room.settle()
    room.now += 3_600_000
    room.tick()
    return room


def available(room: MachineRoom) -> Condition:
    """Return what is said of the cluster's workers."""
    (condition,) = [c for c in room.cluster.conditions if c.type == "WorkersAvailable"]
    return condition


def live(room: MachineRoom, seconds: float, dies: Callable[[str, int], bool]) -> int:
    """Let time pass in which workers end (name, age in ms since joining); return how many were
    started."""
    before = len(room.starts)
    until = room.now + int(seconds * 1000)
    while room.now < until:
        for name, worker in list(room.workers.items()):
            if worker.connected and dies(name, room.now - worker.connected_at):
                room.running.pop(worker.instance, None)
        room.tick()
    return len(room.starts) - before


def young(name: str, age_ms: int) -> bool:
    """Whether it ends: whoever has just joined does."""
    return age_ms < 50_000


def test_workers_that_die_soon_after_joining_are_started_with_pauses_that_grow() -> None:
    """26 were started in 30 s."""
    room = room_of(1)
    room.running.pop(next(i for i in room.running if i.name != "scheduler"))
    assert live(room, 30, young) <= 6
    assert live(room, 60, young) <= 2


def test_a_whole_batch_that_dies_is_one_failure_and_then_one_is_tried_at_a_time() -> None:
    room = room_of(0)
    room.wish(default=Count(20))
    assert live(room, 30, young) <= 20 + 20 + 4
    assert room.cluster.groups["default"].died < 8
    condition = available(room)
    assert (condition.holds, condition.reason) == (False, "WORKERS_FAIL")
    assert "after it had joined: its process ended" in condition.message


def test_after_so_many_rounds_no_more_are_started_and_it_says_so() -> None:
    room = room_of(0)
    room.wish(default=Count(3))
    live(room, 1200, young)
    assert live(room, 7200, young) == 0
    condition = available(room)
    assert (condition.holds, condition.reason) == (False, "WORKERS_GIVEN_UP")
    assert "10 times one after the other" in condition.message
    assert "until the cluster is scaled" in condition.message
    assert "after it had joined" in condition.message
    assert room.events.count("WORKERS_GIVEN_UP") == 1
    assert room.cluster.state is State.ACTIVE


def test_a_new_wish_tries_again_at_once() -> None:
    room = room_of(0)
    room.wish(default=Count(3))
    live(room, 1200, young)
    room.wish(default=Count(2))
    assert live(room, 200, lambda *_: False) == 2
    assert len(room.names()) == 2
    assert (available(room).holds, room.cluster.groups["default"].died) == (True, 0)


def test_a_limit_of_0_is_none() -> None:
    room = room_of(0, Patience(worker_attempts=0))
    room.wish(default=Count(1))
    live(room, 1200, young)
    assert 5 < live(room, 1200, young) < 25


def test_one_that_lives_on_ends_the_pauses() -> None:
    room = room_of(0)
    room.wish(default=Count(4))
    live(room, 20, young)
    assert room.cluster.groups["default"].died > 1
    live(room, 120, lambda *_: False)
    assert len(room.names()) == 4
    assert room.cluster.groups["default"].died == 0
    assert available(room).reason == "ALL_RUNNING"


def test_a_few_of_many_that_die_are_replaced_together_after_a_moment() -> None:
    """One task of a user may take several workers with it: that is no reason to be slow."""
    room = room_of(0)
    room.wish(default=Count(10))
    live(room, 5, lambda *_: False)
    doomed = room.names()[:5]
    live(room, 1, lambda name, _: name in doomed)
    assert live(room, 4, lambda *_: False) == 5
    assert len(room.names()) == 10


def test_who_has_lived_for_long_is_replaced_at_once_and_counts_as_nothing() -> None:
    room = room_of(2)
    for _ in range(30):
        live(room, 0.4, lambda _, age_ms: age_ms > 3_000_000)
        room.settle()
        room.now += 3_600_000
        room.tick()
    assert len(room.names()) == 2
    assert room.cluster.groups["default"].died == 0


def test_after_one_death_an_older_worker_that_ends_is_replaced_at_once() -> None:
    room = room_of(2)
    room.wish(default=Count(3))
    live(room, 2, lambda *_: False)
    (youngest,) = [
        name for name, worker in room.workers.items() if worker.created_at > room.now - 60_000
    ]
    live(room, 0.4, lambda name, _: name == youngest)
    live(room, 4, lambda *_: False)
    assert room.cluster.groups["default"].died == 1
    oldest = min(room.names(), key=lambda name: room.workers[name].connected_at)
    room.running.pop(room.workers[oldest].instance)
    assert live(room, 4, lambda *_: False) == 1
    assert len(room.names()) == 3


def test_groups_are_counted_each_by_itself() -> None:
    cluster = new_cluster(default=Count(0), gpu=Count(0))
    room = MachineRoom(cluster, patience=PATIENCE)
    room.settle()
    room.wish(default=Count(2), gpu=Count(2))
    live(room, 1200, lambda name, age_ms: name.startswith("gpu") and age_ms < 50_000)
    assert {name.rpartition("-")[0] for name in room.names()} == {"default"}
    assert len(room.names()) == 2
    groups = room.cluster.groups
    assert (groups["default"].died, groups["gpu"].died) == (0, 10)
    assert available(room).reason == "WORKERS_GIVEN_UP"


@pytest.mark.parametrize("seconds", [59, 61])
def test_soon_is_what_the_administrator_says(seconds: int) -> None:
    room = room_of(0)
    room.wish(default=Count(1))
    live(room, 3, lambda *_: False)
    live(room, seconds - 3, lambda *_: False)
    doomed = set(room.names())
    live(room, 0.4, lambda name, _: name in doomed)
    assert (room.cluster.groups["default"].died > 0) == (seconds < 60)


def test_once_all_are_started_again_what_they_wait_for_is_told() -> None:
    """One that was killed soon after it had joined hid that its successor waits in the queue."""
    room = room_of(0)
    room.wish(default=Count(2))
    live(room, 5, lambda *_: False)
    doomed = room.names()[:1]
    live(room, 0.6, lambda name, _: name in doomed)
    assert available(room).reason == "WORKERS_FAIL"
    live(room, 1.2, lambda *_: False)
    assert room.cluster.groups["default"].died == 1
    assert available(room).reason in ("STARTING", "ALL_RUNNING")


def test_a_worker_that_is_put_back_into_the_queue_is_waited_for_whenever_its_leaving_is_heard() -> (
    None
):
    """News of agent and machine room come in any order: none of them makes it another worker."""
    queued, running = (
        {WORKER.instance: Observation(WORKER.instance, phase)}
        for phase in (Phase.QUEUED, Phase.RUNNING)
    )
    name = frozenset({WORKER.name})
    left, joined = AgentNews(left=name), AgentNews(workers=name)
    looks = [Facts(observations=queued), Facts(observations=running)]
    for order in itertools.permutations((0, 1, 2, 3)):
        if order.index(2) > order.index(3):
            continue  # it leaves before it joins again
        facts = [looks[0], looks[1], Facts(news=left), Facts(news=joined)]
        spec = Spec("local", groups={"default": WorkerGroup(Count(1))})
        cluster, workers, now = replace(ACTIVE, spec=spec), {WORKER.name: WORKER}, NOW
        for number in order:
            now += 500
            fact = replace(facts[number], agent_connected=True, heard_at=now)
            result = step(cluster, list(workers.values()), fact, now, PATIENCE)
            cluster = result.cluster
            workers |= {worker.name: worker for worker in result.put}
            assert not result.deleted
            assert not any(isinstance(action, StartWorkers | Stop) for action in result.actions)
        assert list(workers) == [WORKER.name]


def test_one_that_joined_and_left_between_two_reports_is_looked_at_soon() -> None:
    started = replace(WORKER, launching=Launching.STARTED, connected=False, connected_at=0)
    name = frozenset({WORKER.name})
    facts = Facts(news=AgentNews(workers=name, left=name), agent_connected=True)
    spec = Spec("local", groups={"default": WorkerGroup(Count(1))})
    result = step(replace(ACTIVE, spec=spec), [started], facts, NOW, PATIENCE)
    assert [(one.instance, one.left) for one in result.departed] == [(WORKER.instance, True)]
    (away,) = result.put
    again = step(result.cluster, [away], Facts(agent_connected=True), NOW + 1, PATIENCE)
    assert again.departed == ()
