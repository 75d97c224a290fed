"""Which pods have waited for too long, while other things happen."""

from __future__ import annotations

from typing import Any

from gateway.backends.contract import Instance, Phase, Role
from gateway.backends.kubernetes import waiting
from gateway.backends.kubernetes.cache import Pod
from gateway.backends.kubernetes.states import Standing, Wait
from gateway.backends.kubernetes.waiting import Waiting

UID = "c" + "a" * 20


def pod(number: int, standing: Standing) -> Pod:
    """Return a worker's pod."""
    instance = Instance(UID, Role.WORKER, f"default-{number}")
    return Pod(instance.name, f"uid-{number}", 1, instance, standing)


class RunsMeanwhile:
    """An API that takes its time to tell events: one pod has begun to run when it answers."""

    judged: Waiting
    runs: Pod

    async def call(self, *_: Any) -> Any:
        self.judged.explained(self.runs)
        return {"items": []}


async def test_what_runs_when_events_are_told_has_not_waited_for_too_long(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(waiting, "ASK_AFTER_S", 0.0)
    monkeypatch.setattr(waiting, "ASK_AGAIN_S", 0.0)
    connection = RunsMeanwhile()
    connection.judged = Waiting(connection, start_s=1e-9, scale_up_s=1.0)  # type: ignore[arg-type]
    connection.runs = pod(0, Standing(Phase.RUNNING))
    waits = Standing(Phase.QUEUED, "no node has room for it", wait=Wait.NODE)
    await connection.judged.judge("dask", [pod(1, waits)])  # so that it has waited for a while
    overdue = await connection.judged.judge("dask", [pod(0, waits), pod(1, waits)])
    assert [one.name for one, _ in overdue] == ["default-1"]


class Tells:
    """An API that tells the same of every pod, and counts who asks."""

    def __init__(self, reason: str = "TriggeredScaleUp", message: str = "1 -> 2") -> None:
        self.asked: list[str] = []
        self.event = {"reason": reason, "message": message}

    async def call(self, method: str, path: str, query: list[tuple[str, str]]) -> Any:
        self.asked.append(dict(query)["fieldSelector"].rpartition("=")[2])
        return {"items": [self.event]}


async def test_one_speaks_for_all_that_wait_alike_and_others_have_their_turn(
    monkeypatch: Any,
) -> None:
    """Of a hundred workers some were asked for: the others failed while a node was brought."""
    monkeypatch.setattr(waiting, "ASK_AFTER_S", 0.0)
    monkeypatch.setattr(waiting, "ASK_AGAIN_S", 0.0)
    monkeypatch.setattr(waiting, "ASKED", 2)
    connection = Tells()
    judged = Waiting(connection, start_s=1e-9, scale_up_s=3600.0)  # type: ignore[arg-type]
    waits = Standing(Phase.QUEUED, "no node has room for it", wait=Wait.NODE)

    def of(cluster: str, number: int) -> Pod:
        instance = Instance(f"c{cluster * 20}", Role.WORKER, f"default-{number}")
        return Pod(instance.name, f"{cluster}-{number}", 1, instance, waits)

    pods = [of(cluster, number) for cluster in "abc" for number in range(100)]
    await judged.judge("dask", pods)
    assert connection.asked == ["a-0", "b-0"]
    overdue = await judged.judge("dask", pods)  # by now all have waited
    assert connection.asked[2] == "c-0"
    assert overdue == []
    assert all("a node is being brought for it" in judged.explained(pod).message for pod in pods)
    judged.over(pods[0].instance)  # it waits no longer: another of its cluster is asked for
    assert judged.explained(pods[1]).message == waits.message
    for _ in range(2):
        await judged.judge("dask", pods[1:])
    assert "a node is being brought for it" in judged.explained(pods[1]).message


async def test_what_lacks_something_to_mount_is_told_of(monkeypatch: Any) -> None:
    """Somebody has deleted the cluster's Secret: it was never made again."""
    monkeypatch.setattr(waiting, "ASK_AFTER_S", 0.0)
    message = 'MountVolume.SetUp failed for volume "secrets" : secret "dgw-c" not found'
    lack: list[str] = []
    judged = Waiting(
        Tells("FailedMount", message),  # type: ignore[arg-type]
        start_s=60.0,
        scale_up_s=60.0,
        lacks=lack.append,
    )
    waits = Standing(Phase.QUEUED, "its container is being made", wait=Wait.START)
    await judged.judge("dask", [pod(0, waits)])
    assert lack == [UID]
    assert judged.explained(pod(0, waits)).message.startswith("a volume cannot be mounted")
