"""What Hadoop's web services say, and how launches are sealed for containers."""

from __future__ import annotations

import pytest

from gateway.backends.contract import BackendUnavailable, Instance, Launch, Resources, Role
from gateway.backends.yarn import answers, inside, script, shape

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
