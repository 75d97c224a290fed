"""A watch that is late, repeats itself, plays back what is over or lacks something: what is known
of pods stays true, and nothing is told twice."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from gateway.backends.conformance import UID
from gateway.backends.contract import Instance, Phase, Role
from gateway.backends.kubernetes import names
from gateway.backends.kubernetes.cache import Cache, Change, Pod, pod_of

TAG = "dgw"


def worker(number: int) -> Instance:
    """Return a worker."""
    return Instance(UID, Role.WORKER, f"default-{number}")


def body(
    number: int, version: int, *, uid: str = "", state: str = "running", deleting: bool = False
) -> dict[str, Any]:
    """Return a pod as the API tells it."""
    instance = worker(number)
    states = {
        "running": {"running": {}},
        "ended": {"terminated": {"exitCode": 3}},
        "waiting": {"waiting": {"reason": "ContainerCreating"}},
    }
    metadata: dict[str, Any] = {
        "name": names.pod_name(TAG, instance),
        "uid": uid or f"u{number}",
        "resourceVersion": str(version),
        "labels": names.labels(TAG, instance, "alice"),
        "annotations": {names.USER_ANNOTATION: "alice"},
    }
    if deleting:
        metadata["deletionTimestamp"] = "2026-11-27T00:00:00Z"
    status = {"phase": "Pending", "containerStatuses": [{"name": "dask", "state": states[state]}]}
    return {"metadata": metadata, "status": status, "spec": {"nodeName": "n1"}}


def pods(bodies: Iterable[dict[str, Any]]) -> list[Pod]:
    """Return the pods of ours among those that a list has."""
    return [pod for one in bodies if (pod := pod_of(TAG, one)) is not None]


def told(changes: Sequence[Change]) -> list[tuple[str, str]]:
    """Return what changes say."""
    return [
        (one.pod.instance.name, "gone" if one.gone else one.pod.standing.phase.value)
        for one in changes
    ]


def test_what_is_older_than_what_is_known_changes_nothing() -> None:
    cache = Cache(TAG)
    assert told(cache.heard("ADDED", body(0, 10, state="waiting"))) == [("default-0", "queued")]
    assert told(cache.heard("MODIFIED", body(0, 12))) == [("default-0", "running")]
    for late in (body(0, 10, state="waiting"), body(0, 12), body(0, 11, state="waiting")):
        assert cache.heard("MODIFIED", late) == []
        assert cache.heard("ADDED", late) == []
    assert cache.pods[worker(0)].standing.phase is Phase.RUNNING


def test_what_is_gone_does_not_come_back_by_a_watch() -> None:
    cache = Cache(TAG)
    cache.heard("ADDED", body(0, 10))
    assert told(cache.heard("DELETED", body(0, 14, deleting=True))) == [("default-0", "gone")]
    for late in (body(0, 10), body(0, 14), body(0, 99)):
        assert cache.heard("ADDED", late) == []
        assert cache.heard("DELETED", late) == []
    assert cache.pods == {}


def test_a_pod_that_vanishes_with_no_word_of_its_end_is_doubted_until_a_list() -> None:
    cache = Cache(TAG)
    cache.heard("ADDED", body(0, 10))
    cache.heard("ADDED", body(1, 11))
    assert cache.heard("DELETED", body(0, 12)) == []
    assert cache.heard("DELETED", body(1, 13)) == []
    assert set(cache.doubtful) == {worker(0), worker(1)}
    changes = cache.listed(pods([body(0, 12)]), "20")
    assert ("default-1", "gone") in told(changes)
    assert set(cache.pods) == {worker(0)}
    (gone,) = [one for one in changes if one.gone]
    assert gone.gone is not None
    assert "has deleted its pod" in gone.gone.message


def test_whose_end_was_asked_for_needs_no_word_of_it() -> None:
    cache = Cache(TAG)
    cache.heard("ADDED", body(0, 10))
    (change,) = cache.heard("DELETED", body(0, 12), [worker(0)])
    assert change.gone is not None
    assert change.gone.message == ""


def test_a_list_is_the_truth_but_for_what_was_made_after_it() -> None:
    cache = Cache(TAG)
    cache.listed(pods([body(0, 5), body(1, 6)]), "9")
    assert cache.created(body(2, 30)) is not None
    changes = cache.listed(pods([body(1, 6)]), "20")
    assert told(changes) == [("default-0", "gone")]
    assert set(cache.pods) == {worker(1), worker(2)}
    assert told(cache.listed(pods([]), "31")) == [("default-1", "gone"), ("default-2", "gone")]


def test_a_list_brings_back_what_a_watch_had_wrongly_buried() -> None:
    cache = Cache(TAG)
    cache.heard("ADDED", body(0, 10))
    cache.heard("DELETED", body(0, 12, deleting=True))
    assert told(cache.listed(pods([body(0, 10)]), "20")) == [("default-0", "running")]


def test_what_is_heard_while_a_list_is_on_its_way_or_taken_in_is_newer_than_it() -> None:
    cache = Cache(TAG)
    for number in range(3):
        cache.heard("ADDED", body(number, 10 + number))
    cache.heard("DELETED", body(0, 31, deleting=True))
    parts = cache.listing(pods([body(0, 10), body(1, 11), body(2, 12)]), "20")
    assert told(next(parts)) == []
    assert told(cache.heard("DELETED", body(1, 32, deleting=True))) == [("default-1", "gone")]
    assert cache.heard("DELETED", body(2, 33)) == []  # doubted: the next list decides, not this one
    assert told(cache.heard("ADDED", body(3, 34))) == [("default-3", "running")]
    assert [told(part) for part in parts] == [[]]
    assert set(cache.pods) == {worker(3)}
    assert set(cache.doubtful) == {worker(2)}
    assert told(cache.listed(pods([body(3, 34)]), "40")) == [("default-2", "gone")]


def test_another_pod_of_the_same_name_ends_the_earlier_one() -> None:
    cache = Cache(TAG)
    cache.heard("ADDED", body(0, 10))
    assert told(cache.heard("ADDED", body(0, 20, uid="other"))) == [
        ("default-0", "gone"),
        ("default-0", "running"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda pod: pod["metadata"]["labels"].update({names.TAG_LABEL: "other"}),
        lambda pod: pod["metadata"].update(name="dgw-something-else"),
        lambda pod: pod["metadata"]["labels"].update({names.NAME_LABEL: "../../etc"}),
        lambda pod: pod["metadata"]["labels"].update({names.UID_LABEL: "c" * 21 + "x"}),
        lambda pod: pod["metadata"].update(labels=None),
        lambda pod: pod.update(metadata=[]),
    ],
)
def test_a_pod_that_only_looks_like_ours_is_passed_over(change: Any) -> None:
    pod = body(0, 10)
    change(pod)
    cache = Cache(TAG)
    assert cache.heard("ADDED", pod) == []
    assert cache.listed(pods([pod]), "20") == []
    assert cache.pods == {}


def test_a_bookmark_moves_the_version_that_a_watch_goes_on_from() -> None:
    cache = Cache(TAG)
    assert cache.heard("BOOKMARK", {"metadata": {"resourceVersion": "77"}}) == []
    assert cache.version == "77"


@pytest.mark.parametrize("seed", range(40))
def test_whatever_a_watch_does_a_list_sets_right_and_nothing_ends_twice(seed: int) -> None:
    """Events of a true history are dropped, repeated and put out of order."""
    chance = random.Random(seed)
    history: list[tuple[str, dict[str, Any]]] = []
    true: dict[int, dict[str, Any]] = {}
    for version in range(1, 120):
        number = chance.randrange(8)
        if number not in true:
            true[number] = body(number, version, uid=f"u{number}-{version}", state="waiting")
            history.append(("ADDED", true[number]))
        elif chance.random() < 0.6:
            uid = true[number]["metadata"]["uid"]
            state = chance.choice(["running", "waiting"])
            true[number] = body(number, version, uid=uid, state=state)
            history.append(("MODIFIED", true[number]))
        else:
            uid = true.pop(number)["metadata"]["uid"]
            history.append(("DELETED", body(number, version, uid=uid, deleting=True)))
    heard = [event for event in history if chance.random() < 0.7]
    heard += chance.choices(history, k=60)
    for _ in range(60):
        one, other = chance.randrange(len(heard)), chance.randrange(len(heard))
        heard[one], heard[other] = heard[other], heard[one]
    cache = Cache(TAG)
    ended: list[str] = []
    for kind, pod in heard:
        ended += [one.pod.uid for one in cache.heard(kind, pod) if one.gone]
    assert len(ended) == len(set(ended))
    cache.listed(pods(true.values()), "120")
    assert {pod.uid for pod in cache.pods.values()} == {
        pod["metadata"]["uid"] for pod in true.values()
    }
    assert not cache.doubtful
