"""The planner waits for what is queued or missed, and says what it waits for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.backends.contract import Instance, Observation, Phase, StartFailed, Target
from gateway.server.core.facts import Facts
from gateway.server.core.model import (
    Condition,
    Count,
    GroupStatus,
    Launching,
    State,
    WorkerGroup,
)
from gateway.server.core.plan import (
    StartWorkers,
    Step,
    Stop,
    step,
)
from gateway.server.reconcile.sweep import surprises, targets_of
from tests.unit.machine_room import PATIENCE, MachineRoom, new_cluster


def observed(room: MachineRoom, *seen: Observation, agent: bool = False) -> Step:
    """Take a step with nothing but these observations."""
    room.now += 200
    facts = Facts({one.instance: one for one in seen}, agent_connected=agent, agent_says="")
    result = step(room.cluster, list(room.workers.values()), facts, room.now, PATIENCE)
    room.cluster = result.cluster
    room.workers = {
        name: kept for name, kept in room.workers.items() if name not in result.deleted
    } | {w.name: w for w in result.put}
    room.events += [event.reason for event in result.events]
    return result


def test_a_scheduler_waits_in_the_queue_for_hours_and_its_user_sees_why() -> None:
    room = MachineRoom(new_cluster())
    scheduler = room.cluster.scheduler_instance
    observed(room)
    room.cluster = replace(
        room.cluster,
        scheduler=replace(room.cluster.scheduler, launching=Launching.STARTED, handle="12"),
    )
    for _ in range(3):
        room.now += 3 * 3600 * 1000
        observed(
            room, Observation(scheduler, Phase.QUEUED, message="Resources; position 3 in the queue")
        )
        assert room.cluster.state is State.CREATING
        assert room.cluster.reason == "SCHEDULER_QUEUED"
        assert "position 3 in the queue" in room.cluster.message
    observed(room, Observation(scheduler, Phase.RUNNING))
    assert room.cluster.reason == ""
    # it was preempted before it had reported
    result = observed(room, Observation(scheduler, Phase.QUEUED, message="Priority"))
    assert "SCHEDULER_REQUEUED" in room.events
    assert result.wake_at is None  # its time to report counts from when it runs again
    observed(room, Observation(scheduler, Phase.RUNNING))
    room.now += int(PATIENCE.scheduler_start_s * 1000)
    observed(room)
    assert room.cluster.reason == "SCHEDULER_START_TIMEOUT"


def test_an_active_scheduler_that_is_put_back_into_the_queue_fails_its_cluster() -> None:
    room = MachineRoom(new_cluster())
    room.settle()
    waiting = Observation(room.cluster.scheduler_instance, Phase.QUEUED, message="Priority")
    observed(room, waiting, agent=True)  # older news than its agent's
    assert room.cluster.state is State.ACTIVE
    observed(room)
    observed(room, waiting)
    assert room.cluster.reason == "SCHEDULER_REQUEUED"


def test_a_requeued_worker_is_waited_for_and_not_replaced() -> None:
    room = MachineRoom(new_cluster(default=Count(1)))
    room.settle()
    (name,) = room.names()
    queued = Observation(room.workers[name].instance, Phase.QUEUED, message="Priority")
    observed(room, queued, agent=True)
    assert room.workers[name].connected  # its scheduler knows better
    room.workers[name] = replace(room.workers[name], connected=False)
    result = observed(room, queued, agent=True)
    assert room.workers[name].launching is Launching.STARTED
    assert list(room.workers) == [name]
    assert not result.actions
    (condition,) = [c for c in room.cluster.conditions if c.type == "WorkersAvailable"]
    assert (condition.reason, condition.message) == (
        "QUEUED",
        "1 worker waits in the queue: Priority",
    )
    room.now += 24 * 3600 * 1000
    assert not observed(room, agent=True).actions
    room.settle()
    assert room.names() == [name]


def test_a_machine_room_that_does_not_answer_is_told_and_nothing_is_lost() -> None:
    room = MachineRoom(new_cluster(default=Count(1)))
    room.settle()
    facts = Facts(unavailable="squeue did not answer within 60 s", agent_connected=True)
    room.cluster = step(
        room.cluster, list(room.workers.values()), facts, room.now, PATIENCE
    ).cluster
    (condition,) = [c for c in room.cluster.conditions if c.type == "BackendAvailable"]
    assert (condition.holds, condition.message) == (
        False,
        "squeue did not answer within 60 s; trying again",
    )
    assert room.cluster.state is State.ACTIVE
    observed(room, Observation(room.cluster.scheduler_instance, Phase.RUNNING), agent=True)
    assert next(c for c in room.cluster.conditions if c.type == "BackendAvailable").holds


def test_an_address_that_nobody_reaches_is_told_once_until_it_changes_for_the_better() -> None:
    room = active()

    def looked(objection: str) -> Condition:
        facts, objections = Facts(agent_connected=True), iter([objection])
        result = step(
            room.cluster,
            list(room.workers.values()),
            facts,
            room.now,
            PATIENCE,
            lambda address, backend: next(objections),
        )
        room.cluster = result.cluster
        room.events += [event.reason for event in result.events]
        (condition,) = [c for c in room.cluster.conditions if c.type == "SchedulerReachable"]
        return condition

    told = looked("it is afar")
    assert (told.holds, told.reason, told.message) == (False, "ADDRESS_NOT_PERMITTED", "it is afar")
    assert looked("it is afar") == told
    assert room.events.count("ADDRESS_NOT_PERMITTED") == 1
    assert room.cluster.state is State.ACTIVE  # it is not stopped by it
    assert looked("").reason == "REPORTING"
    looked("it is afar")
    assert room.events.count("ADDRESS_NOT_PERMITTED") == 2


def active(count: int = 1) -> MachineRoom:
    """Return a room whose cluster is active, its workers connected and its agent too."""
    room = MachineRoom(new_cluster(default=Count(count)))
    room.settle()
    assert room.cluster.state is State.ACTIVE
    return room


def presumed(instance: Instance, handle: str = "7") -> Observation:
    """Return what a batch system tells of what it has not listed for too long."""
    return Observation(instance, Phase.GONE, handle, message="nobody knows it", presumed=True)


def test_each_group_that_fails_says_why() -> None:
    room = MachineRoom(new_cluster(default=Count(1), gpu=Count(1), huge=Count(1)))
    for _ in range(20):
        room.tick()
    assert room.cluster.state is State.ACTIVE
    for name in ("default", "gpu", "huge"):
        room.cluster = replace(
            room.cluster,
            spec=replace(
                room.cluster.spec, groups={**room.cluster.spec.groups, name: WorkerGroup(Count(2))}
            ),
        )
    result = observed(room, agent=True)
    started = {
        one.group: one
        for action in result.actions
        if isinstance(action, StartWorkers)
        for one in action.workers
    }
    why = {"default": "no room", "gpu": "no such queue", "huge": "it asked for too much"}
    outcomes = {
        one.instance: StartFailed(why[group]) for group, one in started.items() if group != "huge"
    }
    # as they come, not all at once
    for told in (outcomes, {started["huge"].instance: StartFailed(why["huge"])}, {}):
        room.now += 200
        taken = step(
            room.cluster,
            list(room.workers.values()),
            Facts(outcomes=told, agent_connected=True),
            room.now,
            PATIENCE,
        )
        room.cluster = taken.cluster
        room.workers = {n: w for n, w in room.workers.items() if n not in taken.deleted} | {
            w.name: w for w in taken.put
        }
    (condition,) = [c for c in room.cluster.conditions if c.type == "WorkersAvailable"]
    assert condition.reason == "WORKERS_FAIL"
    assert (
        condition.message
        == "default-1: no room; gpu-1: no such queue; huge-1: it asked for too much"
    )
    room.settle()
    assert {name: group.failure for name, group in room.cluster.groups.items()} == {
        "default": "",
        "gpu": "",
        "huge": "",
    }


def test_long_reasons_of_several_groups_share_the_room_there_is() -> None:
    room = active()
    groups = {
        f"g{n}": GroupStatus(
            desired=1, failures=1, failure=f"g{n}-0: " + "x" * 2000, retry_at=2**50
        )
        for n in range(5)
    }
    spec = replace(
        room.cluster.spec,
        groups={**room.cluster.spec.groups, **{name: WorkerGroup(Count(1)) for name in groups}},
    )
    room.cluster = replace(room.cluster, spec=spec, groups={**room.cluster.groups, **groups})
    observed(room, agent=True)
    (condition,) = [c for c in room.cluster.conditions if c.type == "WorkersAvailable"]
    assert len(condition.message) <= 1024
    assert all(f"g{n}-0: xxx" in condition.message for n in range(5))


def test_each_group_that_waits_says_why() -> None:
    room = MachineRoom(new_cluster(default=Count(2), gpu=Count(1)))
    room.settle()
    room.workers = {
        name: replace(one, launching=Launching.STARTED, connected=False)
        for name, one in room.workers.items()
    }
    waiting = {"default": "no free nodes", "gpu": "queue not started"}
    observed(
        room,
        *(
            Observation(one.instance, Phase.QUEUED, message=waiting[one.group])
            for one in room.workers.values()
        ),
        agent=True,
    )
    (condition,) = [c for c in room.cluster.conditions if c.type == "WorkersAvailable"]
    assert condition.message == (
        "2 workers of group default wait in the queue: no free nodes; 1 worker of group gpu waits"
        " in the queue: queue not started"
    )


def test_a_worker_that_left_and_was_not_seen_to_end_is_not_said_never_to_have_connected() -> None:
    room = active()
    (name,) = room.names()
    room.workers[name] = replace(room.workers[name], connected=False, since_at=room.now)
    target = next(
        target
        for target in targets_of(room.cluster, room.workers.values())
        if target.instance.name == name
    )
    assert target.left  # so that a backend may call it gone once nothing is seen of it
    room.now += int(PATIENCE.worker_connect_s * 1000)
    result = observed(room, agent=True)
    (event,) = [event for event in result.events if event.instance == name]
    assert (event.reason, event.message) == (
        "WORKER_LOST",
        "it left its scheduler, did not come back within 300 s, and was not seen to end",
    )


def test_a_worker_that_left_and_is_gone_is_replaced_at_once() -> None:
    room = active()
    (name,) = room.names()
    room.workers[name] = replace(room.workers[name], connected=False, since_at=room.now)
    gone = Observation(room.workers[name].instance, Phase.GONE, message="its job is listed no more")
    result = observed(room, gone, agent=True)
    assert [event.reason for event in result.events] == ["WORKER_LOST"]
    assert name not in room.workers
    room.now += 200  # with the next sign of life of its scheduler
    heard = Facts(agent_connected=True, heard_at=room.now)
    result = step(room.cluster, list(room.workers.values()), heard, room.now, PATIENCE)
    assert [type(action) for action in result.actions] == [StartWorkers]


def test_what_is_only_missed_is_not_gone_while_its_scheduler_talks_to_us() -> None:
    room = active()
    (one,) = room.workers.values()
    seen = {
        instance: presumed(instance) for instance in (room.cluster.scheduler_instance, one.instance)
    }
    result = step(
        room.cluster, [one], Facts(observations=seen, agent_connected=True), room.now + 1, PATIENCE
    )
    assert result.cluster.state is State.ACTIVE
    assert not result.actions
    assert not result.deleted


def test_what_is_missed_and_silent_fails_its_cluster_and_is_told_to_end_all_the_same() -> None:
    room = active()
    (one,) = room.workers.values()
    scheduler = room.cluster.scheduler_instance
    seen = {instance: presumed(instance) for instance in (scheduler, one.instance)}
    result = step(room.cluster, [one], Facts(observations=seen), room.now + 1, PATIENCE)
    assert result.cluster.stop is not None
    assert result.cluster.stop.reason == "SCHEDULER_EXITED"
    workers = {worker.name: worker for worker in (one, *result.put)}
    told = {
        target.instance
        for action in result.actions
        if isinstance(action, Stop)
        for target in action.targets
    }
    assert told == {scheduler, one.instance}
    gone = {instance: Observation(instance, Phase.GONE, "7") for instance in told}
    ended = step(
        result.cluster, list(workers.values()), Facts(observations=gone), room.now + 2, PATIENCE
    )
    assert ended.cluster.scheduler.launching is None
    assert ended.deleted == {one.name}


@pytest.mark.parametrize("of", ["worker", "scheduler"])
def test_a_handle_whose_answer_was_lost_is_taken_from_the_next_look(of: str) -> None:
    room = active()
    (one,) = room.workers.values()
    one, cluster = (
        replace(one, handle=""),
        replace(room.cluster, scheduler=replace(room.cluster.scheduler, handle="")),
    )
    instance = one.instance if of == "worker" else cluster.scheduler_instance
    facts = Facts(
        observations={instance: Observation(instance, Phase.RUNNING, "7/0")}, agent_connected=True
    )
    result = step(cluster, [one], facts, room.now + 1, PATIENCE)
    found = result.put[0].handle if of == "worker" else result.cluster.scheduler.handle
    assert found == "7/0"


def test_what_runs_as_known_is_no_surprise_unless_its_handle_is_news() -> None:
    room = active()
    (one,) = room.workers.values()
    seen = {one.instance: Observation(one.instance, Phase.RUNNING, "7")}
    assert surprises(seen, {Target(one.instance, "7"): Launching.RUNNING}) == []
    assert surprises(seen, {Target(one.instance, ""): Launching.RUNNING}) == [*seen.values()]
    assert surprises(seen, {Target(one.instance, "7"): Launching.STARTED}) == [*seen.values()]
