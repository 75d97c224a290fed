"""Why a pod waits and why it ended, in words: what a real scheduler and real controllers say, and
what a node would say (its part is played by a patch of the pod's status)."""

from __future__ import annotations

import asyncio
import json
import pathlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from gateway.backends.contract import Instance, Phase, StartFailed
from gateway.backends.kubernetes import names, waiting
from tests.backends.real_kubernetes.rooms import KubernetesRoom, fresh_namespace, room_of
from tests.parts.kubernetes import TOLERATION, Kubernetes, fake_node

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SMALL = {"kubernetes.io/hostname": "fake-small"}


@pytest.fixture(scope="module")
def place(kubernetes: Kubernetes) -> tuple[str, pathlib.Path]:
    """One namespace for the module."""
    return fresh_namespace(kubernetes)


@pytest.fixture
async def room(
    kubernetes: Kubernetes, place: tuple[str, pathlib.Path], tmp_path: pathlib.Path
) -> AsyncIterator[KubernetesRoom]:
    """A room for one test."""
    made = await room_of(kubernetes, tmp_path, *place)
    yield made
    await made.close()


def pod_name(room: KubernetesRoom, instance: Instance) -> str:
    """Return the name of an instance's pod."""
    return names.pod_name(room.backend._tag, instance)


def container(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status of our container in a state."""
    return {
        "name": "dask",
        "image": "dask:1",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": state,
    }


def ended(phase: str, code: int, why: str, words: str = "", **more: Any) -> dict[str, Any]:
    """Return the status of a pod whose container has ended."""
    told = {"exitCode": code, "reason": why, "message": words}
    state = {"terminated": {key: value for key, value in told.items() if value != ""}}
    return {"phase": phase, "containerStatuses": [container(state)], **more}


ENDS: Mapping[str, tuple[dict[str, Any], str]] = {
    "OOMKilled": (
        ended("Failed", 137, "OOMKilled"),
        "it was killed, for it used more memory than its limit (OOMKilled)",
    ),
    "Evicted": (
        ended(
            "Failed",
            137,
            "Error",
            reason="Evicted",
            message="The node was low on resource: ephemeral-storage. ",
        ),
        "its node was short of something and has evicted it (Evicted): The node was low on"
        " resource: ephemeral-storage.",
    ),
    "NodeShutdown": (
        ended("Failed", 143, "Error", reason="Terminated", message="Pod was terminated"),
        "its node was shut down (Terminated): Pod was terminated",
    ),
    "StartError": (
        ended("Failed", 128, "StartError", "exec: /nope: no such file or directory"),
        "its command cannot be started (StartError): exec: /nope: no such file or directory",
    ),
    "its own failure": (
        ended("Failed", 3, "Error", "ModuleNotFoundError: No module named 'numpy'"),
        "exit code 3: ModuleNotFoundError: No module named 'numpy'",
    ),
    "a good end": (ended("Succeeded", 0, "Completed"), ""),
}


@pytest.mark.parametrize("what", ENDS)
async def test_how_it_ended_is_told_in_words(room: KubernetesRoom, what: str) -> None:
    status, words = ENDS[what]
    (target,) = await room.running(room.launch())
    await room.patched(pod_name(room, target.instance), status)
    (seen,) = (await room.until_gone([target])).values()
    assert seen.message == words
    told = status["containerStatuses"][0]["state"]["terminated"]
    assert seen.exit_code == told["exitCode"]


async def told(room: KubernetesRoom, target: Any, *words: str) -> str:
    """Wait until what is told of one that waits has all these words."""
    async with asyncio.timeout(room.patience_s):
        while True:
            (seen,) = (await room.look([target])).values()
            assert seen.phase is not Phase.GONE, seen
            if all(word in seen.message for word in words):
                return seen.message
            await asyncio.sleep(room.look_s)


async def test_what_has_no_node_is_told_with_the_schedulers_words(room: KubernetesRoom) -> None:
    selects = room.launch(options={"node_selector": {"no": "such"}})
    (target,) = await room.start(selects)
    words = "no node has room for it (Unschedulable): 0/"
    await told(room, target, words, "didn't match Pod's node affinity/selector")
    await room.log_with(target, "Kubernetes: FailedScheduling: 0/")


async def test_a_field_that_there_is_not_is_refused_and_not_passed_over(
    room: KubernetesRoom,
) -> None:
    launch = room.launch(options={"pod_fields": {"nodeSelecter": {"pool": "spot"}}})
    (outcome,) = (await room.backend.start([launch])).values()
    assert isinstance(outcome, StartFailed)
    assert 'unknown field "spec.nodeSelecter"' in outcome.message
    assert outcome.permanent


async def test_while_a_node_is_brought_that_is_told(
    room: KubernetesRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event is the cluster autoscaler's, which is not here: it is made as it would make it."""
    monkeypatch.setattr(waiting, "ASK_AFTER_S", 0.0)
    monkeypatch.setattr(waiting, "ASK_AGAIN_S", 0.2)
    (target,) = await room.start(room.launch(options={"node_selector": {"no": "such"}}))
    name = pod_name(room, target.instance)
    pod = await asyncio.to_thread(room.kube.get, "pod", name, "-n", room.namespace)
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.scale-up", "namespace": room.namespace},
        "involvedObject": {
            "kind": "Pod",
            "namespace": room.namespace,
            "name": name,
            "uid": pod["metadata"]["uid"],
        },
        "reason": "TriggeredScaleUp",
        "message": "pod triggered scale-up: [{pool 1->2 (max: 9)}]",
        "type": "Normal",
    }
    await asyncio.to_thread(room.kube.apply, event)
    message = await told(room, target, "a node is being brought for it (TriggeredScaleUp)")
    assert "1->2 (max: 9)" in message
    assert "(Unschedulable)" in message


async def test_what_waits_for_its_image_too_long_fails_with_that_reason(
    kubernetes: Kubernetes, place: tuple[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    room = await room_of(kubernetes, tmp_path, *place, start_timeout_s=3.0)
    try:
        (target,) = await room.running(room.launch())
        state = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling dask:1"}}
        status = {"phase": "Pending", "containerStatuses": [container(state)]}
        await room.patched(pod_name(room, target.instance), status)
        (seen,) = (await room.until_gone([target])).values()
        assert seen.message == (
            "it has not started within 3 s: its image cannot be pulled (ImagePullBackOff):"
            " Back-off pulling dask:1"
        )
        await room.none_of(pod_name(room, target.instance))
    finally:
        await room.close()


async def test_a_worker_that_is_drained_is_told_so_and_a_scheduler_is_not_drained(
    room: KubernetesRoom,
) -> None:
    """By the eviction that `kubectl drain` asks for; a scheduler's disruption budget refuses it."""
    scheduler, worker = await room.running(room.launch("scheduler"), room.launch())
    async with asyncio.timeout(room.patience_s):
        # until the controller of budgets has counted the scheduler, nobody may be evicted
        while True:
            name = names.cluster_name(room.backend._tag, scheduler.instance.uid)
            budget = await asyncio.to_thread(room.kube.get, "pdb", name, "-n", room.namespace)
            if budget.get("status", {}).get("currentHealthy") == 1:
                break
            await asyncio.sleep(0.2)
    assert "disruption budget" in await asyncio.to_thread(evicted, room, scheduler.instance)
    assert not await asyncio.to_thread(evicted, room, worker.instance)
    (seen,) = (await room.until_gone([worker])).values()
    assert seen.message.startswith("its node is being drained (EvictionByEvictionAPI)")
    await room.until([scheduler], Phase.RUNNING)


def evicted(room: KubernetesRoom, instance: Instance) -> str:
    """Ask for an eviction; what stands against it."""
    name = pod_name(room, instance)
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": room.namespace},
    }
    path = f"/api/v1/namespaces/{room.namespace}/pods/{name}/eviction"
    return room.kube.refusal("create", f"--raw={path}", "-f", "-", stdin=json.dumps(body))


async def test_what_makes_room_for_another_is_told_that_it_was_preempted(
    room: KubernetesRoom,
) -> None:
    """A node with two cores, a worker on it that needs them, and a pod of higher priority."""
    first = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "first"},
        "value": 1000,
    }
    small = fake_node("fake-small", cores=2)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "another", "namespace": room.namespace},
        "spec": {
            "priorityClassName": "first",
            "nodeSelector": SMALL,
            "tolerations": [TOLERATION],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "c",
                    "image": "x",
                    "resources": {"requests": {"cpu": "1500m"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }
    await asyncio.to_thread(room.kube.apply, first, small)
    try:
        (target,) = await room.running(room.launch(options={"node_selector": SMALL}))
        await asyncio.to_thread(room.kube.apply, pod)
        (seen,) = (await room.until_gone([target])).values()
        words = "a pod of higher priority takes its place (PreemptionByScheduler)"
        assert seen.message.startswith(words)
    finally:
        words_ = ("delete", "pod", "another", "-n", room.namespace, "--ignore-not-found")
        await asyncio.to_thread(room.kube.kubectl, *words_)
        await asyncio.to_thread(room.kube.kubectl, "delete", "node", "fake-small")


async def test_what_its_node_no_longer_bears_is_told_so(room: KubernetesRoom) -> None:
    """The taint is what the node controller gives to a node that it has lost."""
    node = fake_node("fake-lost")
    await asyncio.to_thread(room.kube.apply, node)
    try:
        where = {"node_selector": {"kubernetes.io/hostname": "fake-lost"}}
        (target,) = await room.running(room.launch(options=where))
        taint = ("taint", "node", "fake-lost", "lost=true:NoExecute")
        await asyncio.to_thread(room.kube.kubectl, *taint)
        (seen,) = (await room.until_gone([target])).values()
        words = "its node was lost or is closed to it (DeletionByTaintManager)"
        assert seen.message.startswith(words)
    finally:
        await asyncio.to_thread(room.kube.kubectl, "delete", "node", "fake-lost")
