"""What Kubernetes says of pods, and what it refuses, in words for users: each as it was recorded of
a real one (1.34)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.backends.contract import Phase
from gateway.backends.kubernetes import events, refusals, states
from gateway.backends.kubernetes.refusals import Kind
from gateway.backends.kubernetes.states import Wait


def _state(**state: Any) -> list[dict[str, Any]]:
    return [{"name": "dask", "state": state}]


def _waiting(reason: str, message: str = "") -> dict[str, Any]:
    told = {"reason": reason, "message": message}
    scheduled = {"type": "PodScheduled", "status": "True"}
    return {
        "phase": "Pending",
        "conditions": [scheduled],
        "containerStatuses": _state(waiting=told),
    }


def _ended(code: int, reason: str = "Error", message: str = "", **pod: Any) -> dict[str, Any]:
    told = {"exitCode": code, "reason": reason, "message": message}
    return {
        "phase": "Succeeded" if code == 0 else "Failed",
        "containerStatuses": _state(terminated=told),
        **pod,
    }


def _disrupted(reason: str, message: str, **pod: Any) -> dict[str, Any]:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}
    return {"phase": "Running", "conditions": [condition], **pod}


UNSCHEDULABLE = {
    "phase": "Pending",
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient cpu. preemption: ...",
        }
    ],
}
STATUSES: dict[str, tuple[dict[str, Any], Phase, Wait, int | None, str]] = {
    "new": ({}, Phase.QUEUED, Wait.NODE, None, "it has no node yet"),
    "unschedulable": (
        UNSCHEDULABLE,
        Phase.QUEUED,
        Wait.NODE,
        None,
        "no node has room for it (Unschedulable): 0/1 nodes are available: 1 Insufficient cpu.",
    ),
    "creating": (_waiting("ContainerCreating"), Phase.QUEUED, Wait.START, None, "being made"),
    "pull": (
        _waiting("ImagePullBackOff", "Back-off pulling image x"),
        Phase.QUEUED,
        Wait.IMAGE,
        None,
        "its image cannot be pulled (ImagePullBackOff): Back-off pulling image x",
    ),
    "never": (_waiting("ErrImageNeverPull"), Phase.QUEUED, Wait.HOPELESS, None, "policy is Never"),
    "name": (_waiting("InvalidImageName"), Phase.QUEUED, Wait.HOPELESS, None, "InvalidImageName"),
    "running": (
        {"phase": "Running", "containerStatuses": _state(running={"startedAt": "x"})},
        Phase.RUNNING,
        Wait.NOTHING,
        None,
        "",
    ),
    "oom": (
        _ended(137, "OOMKilled", "Killed"),
        Phase.GONE,
        Wait.NOTHING,
        137,
        "it was killed, for it used more memory than its limit (OOMKilled): Killed",
    ),
    "exit 3": (
        _ended(3, message="ModuleNotFoundError: no module named numpy"),
        Phase.GONE,
        Wait.NOTHING,
        3,
        "exit code 3: ModuleNotFoundError: no module named numpy",
    ),
    "completed": (_ended(0, "Completed"), Phase.GONE, Wait.NOTHING, 0, ""),
    "no such command": (
        _ended(128, "StartError", 'exec: "/nope": stat /nope: no such file or directory'),
        Phase.GONE,
        Wait.NOTHING,
        128,
        "its command cannot be started (StartError): exec: ",
    ),
    "terminated": (_ended(143), Phase.GONE, Wait.NOTHING, 143, "it was ended by SIGTERM"),
    "evicted": (
        {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "The node was low on resource: memory.",
        },
        Phase.GONE,
        Wait.NOTHING,
        None,
        "its node was short of something and has evicted it (Evicted): The node was low on",
    ),
    "deadline": (
        _ended(137, reason="Error") | {"reason": "DeadlineExceeded", "message": "Pod was active"},
        Phase.GONE,
        Wait.NOTHING,
        137,
        "it has lived for as long as it may",
    ),
    "preempted while it runs": (
        _disrupted(
            "PreemptionByScheduler",
            "default-scheduler: preempting",
            containerStatuses=_state(running={}),
        ),
        Phase.RUNNING,
        Wait.NOTHING,
        None,
        "a pod of higher priority takes its place (PreemptionByScheduler)",
    ),
    "ended while its phase lags": (
        _ended(1) | {"phase": "Pending"},
        Phase.GONE,
        Wait.NOTHING,
        1,
        "exit code 1",
    ),
}


@pytest.mark.parametrize("name", STATUSES)
def test_a_status_has_its_phase_its_code_and_its_words(name: str) -> None:
    status, phase, wait, code, words = STATUSES[name]
    seen = states.standing({"status": status})
    assert (seen.phase, seen.wait, seen.exit_code) == (phase, wait, code)
    assert words in seen.message
    assert bool(seen.message) == bool(words)


def test_another_container_of_the_pod_is_not_the_instance() -> None:
    sidecar = {"name": "proxy", "state": {"terminated": {"exitCode": 1}}}
    status = {"phase": "Running", "containerStatuses": [sidecar, *_state(running={})]}
    assert states.standing({"status": status}).phase is Phase.RUNNING


def test_a_container_before_it_that_cannot_start_is_told() -> None:
    first = {
        "name": "first",
        "state": {"waiting": {"reason": "ErrImagePull", "message": "no such"}},
    }
    status = _waiting("PodInitializing") | {"initContainerStatuses": [first]}
    seen = states.standing({"status": status})
    assert (seen.wait, "no such" in seen.message) == (Wait.IMAGE, True)


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        ({"exitCode": 7, "reason": "Error"}, "exit code 7"),
        ({"exitCode": 1, "reason": "Error", "message": "no data"}, "exit code 1: no data"),
        ({"exitCode": 128, "reason": "StartError", "message": "exec: /nope"}, "exec: /nope"),
        ({"exitCode": 137, "reason": "OOMKilled"}, "more memory than its limit (OOMKilled)"),
    ],
)
def test_a_container_before_it_that_fails_is_told(ended: dict[str, Any], words: str) -> None:
    """The pod has failed, and its own container never ran: there was no word of why."""
    status = _waiting("PodInitializing") | {
        "phase": "Failed",
        "initContainerStatuses": [
            {"name": "fetch", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
            {"name": "first", "state": {"terminated": ended}},
        ],
    }
    seen = states.standing({"status": status})
    assert (seen.phase, seen.exit_code, seen.told) == (Phase.GONE, None, True)
    assert seen.message.startswith("the container first, which comes before it, failed: ")
    assert seen.message.endswith(words)
    evicted = states.standing({"status": {**status, "reason": "Evicted"}})
    assert evicted.message == "its node was short of something and has evicted it (Evicted)"


def test_how_a_pod_was_removed() -> None:
    running = {"status": {"phase": "Running", "containerStatuses": _state(running={})}}
    assert states.removed(running, asked=True).message == ""
    assert "has deleted its pod" in states.removed(running, asked=False).message
    lost = {"status": _disrupted("DeletionByTaintManager", "Taint manager: deleting")}
    assert "its node was lost" in states.removed(lost, asked=False).message
    ended = states.removed({"status": _ended(3, message="last words")}, asked=True)
    assert (ended.exit_code, ended.message) == (3, "exit code 3: last words")


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        # what a scheduler does that is told to end: it was taken for one that its user had closed
        (_ended(0), None, states.DELETED),
        (_ended(143), 143, f"{states.DELETED}: it was ended by SIGTERM"),
        (_ended(3, message="last words"), 3, "exit code 3: last words"),
        (_ended(137, reason="OOMKilled"), 137, "it was killed, for it used more memory"),
        (
            _ended(0) | _disrupted("PreemptionByScheduler", "default-scheduler: preempting"),
            None,
            "a pod of higher priority takes its place (PreemptionByScheduler)",
        ),
    ],
)
def test_a_process_that_ends_as_its_pod_is_deleted_has_not_ended_by_itself(
    status: dict[str, Any], code: int | None, message: str
) -> None:
    end = states.deleted(states.standing({"status": status}))
    assert end.exit_code == code
    assert end.message.startswith(message)
    assert states.deleted(end) == end


def test_events_say_what_the_status_does_not() -> None:
    node = states.standing({"status": UNSCHEDULABLE})
    brought = [("FailedScheduling", "x"), ("TriggeredScaleUp", "pod triggered scale-up: g 1->2")]
    assert states.explained(node, brought).message.startswith(
        "a node is being brought for it (TriggeredScaleUp): pod triggered scale-up: g 1->2; no node"
    )
    assert states.brings_node(brought)
    refused = [("NotTriggerScaleUp", "max limit reached")]
    assert "no node is brought for it (NotTriggerScaleUp): max" in (
        states.explained(node, refused).message
    )
    creating = states.standing({"status": _waiting("ContainerCreating")})
    told = states.explained(creating, [("FailedMount", "secret dask not found")])
    assert told.message == "a volume cannot be mounted (FailedMount): secret dask not found"


@pytest.mark.parametrize(
    ("status", "event", "adds"),
    [
        ("Back-off pulling x", 'Failed to pull image "x": rpc error: not found', "not found"),
        (
            'Back-off pulling image "x": ErrImagePull: rpc error',
            'Failed to pull image "x": rpc',
            "",
        ),
        ('secret "s" not found', 'Error: secret "s" not found', ""),
        ("Back-off pulling x", "", ""),
    ],
)
def test_why_an_image_is_not_there_is_told_once(status: str, event: str, adds: str) -> None:
    state = {"waiting": {"reason": "ImagePullBackOff", "message": status}}
    waits = states.standing({"status": {"containerStatuses": [{"name": "dask", "state": state}]}})
    told = states.explained(waits, [("Failed", event)] if event else []).message
    assert told.startswith(f"its image cannot be pulled (ImagePullBackOff): {status}")
    assert (
        told.endswith(f"; its node says (Failed): rpc error: {adds}") if adds else ";" not in told
    )


def test_of_events_the_latest_of_each_reason_counts_and_what_only_repeats_does_not() -> None:
    found = events.in_order(
        [
            _event("Failed", "Error: ErrImagePull", "2026-11-28T10:00:09Z"),
            _event("Failed", 'Failed to pull image "x": a', "2026-11-28T10:00:08Z", count=3),
            _event("Scheduled", "Successfully\nassigned", "2026-11-28T10:00:01Z"),
            {"reason": None, "message": None},
        ]
    )
    assert events.latest(found) == [
        ("", ""),
        ("Scheduled", "Successfully assigned"),
        ("Failed", 'Failed to pull image "x": a'),
    ]
    assert events.lines(found)[1:3] == [
        "2026-11-28T10:00:01Z Kubernetes: Scheduled: Successfully assigned\n",
        '2026-11-28T10:00:08Z Kubernetes: Failed: Failed to pull image "x": a (3 times)\n',
    ]


def _event(reason: str, message: str, at: str, **more: Any) -> dict[str, Any]:
    return {"reason": reason, "message": message, "lastTimestamp": at, **more}


@pytest.mark.parametrize("junk", [None, [], "x", {"conditions": 7, "containerStatuses": [None, 3]}])
def test_what_makes_no_sense_breaks_nothing(junk: Any) -> None:
    assert states.standing({"status": junk}).phase is Phase.QUEUED


def _answer(reason: str, message: str) -> bytes:
    told = {"kind": "Status", "status": "Failure", "reason": reason, "message": message}
    return json.dumps(told).encode()


REFUSALS = {
    Kind.RIGHTS: (
        403,
        "Forbidden",
        'pods is forbidden: User "system:serviceaccount:t1:op" cannot list resource "pods" in API'
        ' group "" in the namespace "t2"',
    ),
    Kind.QUOTA: (
        403,
        "Forbidden",
        'pods "q3" is forbidden: exceeded quota: q, requested: pods=1, used: pods=3',
    ),
    Kind.WRONG: (
        403,
        "Forbidden",
        'pods "x" is forbidden: violates PodSecurity "restricted:latest": host namespaces',
    ),
    Kind.EXISTS: (409, "AlreadyExists", 'pods "m9" already exists'),
    Kind.DELETING: (409, "AlreadyExists", 'object is being deleted: pods "m9" already exists'),
    Kind.CONFLICT: (409, "Conflict", "the UID in the precondition does not match"),
    Kind.EXPIRED: (410, "Expired", "too old resource version: 5 (9331)"),
    Kind.ABSENT: (404, "NotFound", 'namespaces "x" not found'),
    Kind.BUSY: (429, "TooManyRequests", "too many requests"),
    Kind.FAILED: (500, "InternalError", "etcdserver: request timed out"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_is_told_from_another_by_what_it_says(kind: Kind) -> None:
    status, reason, message = REFUSALS[kind]
    found = refusals.refusal(status, _answer(reason, message), "7")
    assert (found.kind, found.message, found.retry_after_s) == (kind, message, 7.0)
    assert message in refusals.words(found, "the pod") or kind is Kind.DELETING


def test_an_invalid_object_and_a_limit_range_are_hopeless() -> None:
    limit = "maximum memory usage per Container is 512Mi, but limit is 2Gi"
    assert refusals.refusal(403, _answer("Forbidden", limit)).kind is Kind.WRONG
    assert refusals.refusal(422, _answer("Invalid", "spec.x")).kind is Kind.WRONG


def test_what_a_proxy_answers_is_told_and_its_wait_is_bounded() -> None:
    found = refusals.refusal(502, b"<html>Bad\n gateway</html>", "1e9")
    assert (found.kind, str(found)) == (Kind.FAILED, "<html>Bad gateway</html>")
    assert found.retry_after_s == refusals.MAX_RETRY_AFTER_S
    assert refusals.refusal(429, b"", "soon").retry_after_s == 0.0
