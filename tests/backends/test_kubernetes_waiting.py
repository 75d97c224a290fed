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
