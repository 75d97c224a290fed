"""What Hadoop's web services say, and how launches are sealed for containers."""

from __future__ import annotations

import pytest

from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Launch,
    Phase,
    Resources,
    Role,
    Target,
)
from gateway.backends.yarn import answers, held, inside, record, script, shape

UID = "c" + "a" * 20
HEAD = (
    b"Container: container_1_0001_01_000002 on localhost_1\nLogAggregationType: LOCAL\n======\n"
    b"LogType:dask.log\nLogLastModifiedTime:Fri\nLogLength:%d\nLogContents:\n"
)


def test_a_log_is_taken_out_of_what_is_written_around_it() -> None:
    log = b"one\n\nEnd of LogType:not yet\ntwo\n"
    # with nothing between the log and what follows
    tail = b"End of LogType:dask.log.This log file belongs to a running container\n****\n\n"
    whole = HEAD % len(log) + log + tail
    assert answers.log_piece(whole, 1000) == answers.LogPiece(len(log), log)
    end = HEAD % 100 + log + tail
    assert answers.log_piece(end, len(log)) == answers.LogPiece(100, log)
    assert answers.log_piece(b"<html>", 10) is None


def test_collected_logs_are_told_apart_by_their_lengths() -> None:
    raw = b"".join(
        (
            b"Container: container_1_0001_01_00000%d on localhost_1\nLogAggregationType: LOCAL\n"
            b"======\nLogType:%s\nLogLastModifiedTime:Fri\nLogLength:%d\nLogContents:\n%s\n"
            b"End of LogType:%s\n******\n\n" % (number, name, len(text), text, name)
        )
        for number, name, text in (
            (2, b"dask.log", b"LogType:fake\nLogLength:3\nLogContents:\nabc"),
            (2, b"dask.exit", b"3\n"),
            (3, b"dask.log", b""),
        )
    )
    assert answers.aggregated(raw) == {
        "container_1_0001_01_000002": {
            "dask.log": b"LogType:fake\nLogLength:3\nLogContents:\nabc",
            "dask.exit": b"3\n",
        },
        "container_1_0001_01_000003": {"dask.log": b""},
    }


@pytest.mark.parametrize("said", [None, [], {}, {"error": "x"}, "text"])
def test_what_is_no_listing_is_no_empty_one(said: object) -> None:
    with pytest.raises(BackendUnavailable):
        answers.applications(said)


def test_a_listing() -> None:
    assert answers.applications({"apps": None}) == []
    assert answers.applications({"apps": {}}) == []
    told = {"id": "application_1_0001", "state": "RUNNING", "applicationTags": "a,b"}
    (one,) = answers.applications({"apps": {"app": [told, {"id": "../x"}, "junk"]}})
    assert (one.id, one.state, sorted(one.tags)) == ("application_1_0001", "RUNNING", ["a", "b"])
    assert answers.application({**told, "amRPCAddress": "N/A"}) is not None


def test_queues_by_whole_and_short_names() -> None:
    most = {"memory": 4096, "vCores": 4}
    leaf = {"queueName": "small", "state": "STOPPED", "maximumAllocation": most}
    inner = {"queueName": "team", "queues": {"queue": [{**leaf, "queuePath": "root.team.small"}]}}
    top = {"queueName": "root", "queuePath": "root", "queues": {"queue": [inner]}}
    found = answers.queues({"scheduler": {"schedulerInfo": top}})
    assert set(found) == {"root", "root.team", "team", "root.team.small", "small"}
    assert (found["small"].running, found["small"].most_mb, found["small"].most_cores) == (
        False,
        4096,
        4,
    )


def test_a_sealed_launch_is_opened_with_its_key_alone() -> None:
    key = b"k" * 32
    launch = Launch(
        Instance(UID, Role.WORKER, "default-3"),
        "alice",
        ("python", "-m", "x", "{name}"),
        env={"SECRET": "v3ry-secret"},
        files={"key.pem": b"v3ry-secret" * 20_000},
    )
    sealed = script.environment(key, launch)
    assert "v3ry" not in str(sealed)
    assert all(len(value) < 128 * 1024 for value in sealed.values())
    opened = inside.unseal(key, sealed)
    assert opened["argv"] == ["python", "-m", "x", "default-3"]
    for wrong in (b"x" * 32, key):
        damaged = dict(sealed)
        if wrong == key:
            name = f"{inside.VARIABLE}0"
            damaged[name] = ("B" if damaged[name][0] == "A" else "A") + damaged[name][1:]
        with pytest.raises(ValueError, match="not sealed with the key"):
            inside.unseal(wrong, damaged)


def test_sizes_of_both_services_come_from_one_launch() -> None:
    options: dict[str, object] = {
        "worker_cores": 1.5,
        "worker_memory": "1500 MB",
        "scheduler_cores": 1.0,
        "scheduler_memory": 2**30,
        "worker_gpus": 1,
    }
    scheduler = Launch(
        Instance(UID, Role.SCHEDULER, "scheduler"),
        "alice",
        ("python",),
        resources=Resources(1.0, 2**30),
        options=options,
    )
    worker = Launch(
        Instance(UID, Role.WORKER, "default-0"),
        "alice",
        ("python",),
        resources=Resources(1.5, 1_500_000_000, 1),
        options=options,
    )
    expected = {"dask.scheduler": shape.Size(1024, 1), "dask.worker": shape.Size(1536, 2, gpus=1)}
    assert shape.sizes_of(scheduler, 512) == shape.sizes_of(worker, 512) == expected


REQUEST = {"priority": 4, "resourceName": "*", "numContainers": 1}  # as Hadoop 3.4.2 tells them


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ({"id": "application_1_0001"}, 0),
        ({"resourceRequests": None}, 0),
        ({"resourceRequests": [REQUEST, {**REQUEST, "priority": 3, "numContainers": 2}]}, 3),
        ({"resourceRequests": [REQUEST, {**REQUEST, "resourceName": "/default-rack"}]}, 1),
        ({"resourceRequests": REQUEST}, 1),  # some versions tell one without a list
        ({"resourceRequests": ["?"]}, None),
        ({"resourceRequests": "?"}, None),
        (None, None),
    ],
)
def test_open_requests(said: object, number: int | None) -> None:
    assert answers.open_requests(said) == number


def held_with(states: dict[str, str]) -> tuple[held.Held, list[Instance]]:
    """Return an application with workers in these states, asked for one second after the other."""
    found = held.Held(UID, answers.Application("application_1_0001", "RUNNING"))
    instances = [Instance(UID, Role.WORKER, name) for name in states]
    for number, (instance, state) in enumerate(zip(instances, states.values(), strict=True)):
        launch = Launch(instance, "alice", ())
        found.containers[instance] = held.Container(f"dask.worker_{number}", "dask.worker", state)
        found.asked[instance] = held.Asked(launch, float(number))
    return found, instances


def test_what_waits_without_an_open_request_is_lost() -> None:
    """Found on a real Hadoop: of three workers that were asked for together, one waited for
    ever."""
    found, (first, second, _) = held_with(dict.fromkeys(("w-0", "w-1", "w-2"), "REQUESTED"))
    assert found.overdue(15.5, 15.0) == [first]
    assert found.overdue(16.0, 15.0) == [first, second]
    assert found.lost([first, second], 3) == []
    assert found.lost([first, second], 2) == [first]
    assert found.lost([first, second], 0) == [first, second]
    assert found.lost([first], 0) == [first]  # the other two may be on their way
    assert found.lost([first, second], 4) == []
    assert found.lost([first, second], None) == []


def test_what_runs_is_neither_overdue_nor_asked_for() -> None:
    states = {"w-0": "RUNNING", "w-1": "REQUESTED"}
    found, (first, second) = held_with(states)
    assert found.overdue(99.0, 15.0) == [second]
    assert found.lost([second], 0) == [second]
    told = {
        "containers": [
            {"id": one.id, "service": one.service, "state": one.state}
            for one in found.containers.values()
        ],
        "names": {"dask.worker_0": "w-0", "dask.worker_1": "w-1"},
    }
    found.take(told, 100.0)
    assert set(found.asked) == {second}
    assert first in found.containers


@pytest.mark.parametrize("backwards", [False, True])
def test_of_two_containers_of_one_name_the_later_counts_and_the_earlier_is_surplus(
    backwards: bool,
) -> None:
    found, (instance,) = held_with({"w-0": "REQUESTED"})
    states = {0: "KILLED", 1: "REQUESTED", 2: "RUNNING"}
    told = [
        {"id": f"dask.worker_{number}", "service": "dask.worker", "state": state}
        for number, state in states.items()
    ]
    names = {f"dask.worker_{number}": "w-0" for number in states}
    ended = found.take({"containers": told[::-1] if backwards else told, "names": names}, 1.0)
    assert found.containers[instance].id == "dask.worker_2"
    assert found.surplus == ["dask.worker_1"]
    assert ended == []


def begun(containers: list[dict[str, str]]) -> held.Held:
    """Return an application that begins with a scheduler, after its master has told of these."""
    sizes = {"dask.scheduler": shape.Size(512, 1), "dask.worker": shape.Size(512, 1)}
    kept = record.new(UID, {"certificate": "", "key": ""}, shape.Shape(), sizes, scheduler=True)
    said = answers.Application("application_1_0001", "RUNNING", address="node:1")
    found = held.Held(UID, said, kept)
    found.take({"containers": containers, "names": {"dask.worker_0": "w-0"}}, 100.0)
    return found


SCHEDULER = Instance(UID, Role.SCHEDULER, "scheduler")
WORKER = {"id": "dask.worker_0", "service": "dask.worker", "state": "REQUESTED"}


@pytest.mark.parametrize("containers", [[], [WORKER]])
def test_a_master_that_tells_before_it_has_asked_for_the_scheduler_has_not_lost_it(
    containers: list[dict[str, str]],
) -> None:
    """Found on a busy machine: the cluster ended with "the scheduler's process ended"."""
    found = begun(containers)
    seen = held.tell(found, Target(SCHEDULER))
    assert seen is not None
    assert seen.phase is Phase.QUEUED
    assert SCHEDULER in held.expected(found)
    assert found.needs_look(100.0, 1800.0)
    scheduler = {"id": "dask.scheduler_0", "service": "dask.scheduler", "state": "FAILED"}
    told = {"containers": [*containers, scheduler], "names": {"dask.worker_0": "w-0"}}
    assert found.take(told, 101.0) == [SCHEDULER]
    assert found.looked_at == 101.0
    assert held.tell(found, Target(SCHEDULER)) is None  # it is told when its log is here


def test_a_container_that_was_asked_for_while_its_master_told_of_the_others_is_there() -> None:
    found, (first, second) = held_with({"w-0": "REQUESTED", "w-1": "REQUESTED"})  # at 0 and at 1
    told: dict[str, object] = {"containers": [], "names": {}}
    found.take(told, 2.0, begun_at=0.5)
    assert set(found.containers) == {second}
    found.take(told, 3.0, begun_at=2.5)
    assert not found.containers
    assert first not in found.live()
