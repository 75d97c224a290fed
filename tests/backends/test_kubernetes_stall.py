"""20,000 pods in one namespace: whatever is asked of them, or told, the event loop turns."""

from __future__ import annotations

import asyncio
import gc
import pathlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.backends.contract import Observation, Phase, Target
from gateway.backends.kubernetes import api
from gateway.backends.kubernetes.api import Api
from gateway.backends.kubernetes.backend import KubernetesBackend
from tests.backends.test_kubernetes_cache import TAG, body, worker

PODS = 20_000
MOST_S = 0.05  # that this thread may work between two turns of the event loop
SCHEDULED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
WAITS = {"phase": "Pending", "conditions": [{**SCHEDULED, "message": "1 Insufficient cpu. " * 9}]}


class Pages:
    """A connection to an API that has many pods, and says nothing else."""

    own_namespace = "dask"

    def __init__(self, bodies: list[dict[str, Any]]) -> None:
        self.bodies = bodies
        self.most = 0  # pods of one answer

    async def call(
        self, method: str, path: str, query: Sequence[tuple[str, str]] = (), *_: Any, **__: Any
    ) -> Any:
        """Return a page of pods; nothing else is there."""
        await asyncio.sleep(0)
        if method != "GET" or not path.endswith("/pods"):
            return {"items": []}
        asked = dict(query)
        start, limit = int(asked.get("continue", 0)), int(asked["limit"])
        self.most = max(self.most, limit)
        more = str(start + limit) if start + limit < len(self.bodies) else ""
        metadata = {"resourceVersion": str(2 * PODS), "continue": more}
        return {"metadata": metadata, "items": self.bodies[start : start + limit]}

    @asynccontextmanager
    async def stream(self, *_: Any, **__: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield a watch that says nothing."""

        async def nothing() -> AsyncIterator[bytes]:
            await asyncio.Event().wait()
            yield b""

        yield nothing()

    async def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Leave out what Python's collector does, which `tests/unit/test_garbage.py` is about."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@asynccontextmanager
async def longest_turn() -> AsyncIterator[list[float]]:
    """Measure what this thread works between two turns of the event loop, in seconds at most."""
    worst = [0.0]

    async def turn() -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            worst[0] = max(worst[0], now - before)
            before = now

    task = asyncio.create_task(turn())
    try:
        await asyncio.sleep(0)
        yield worst
        await asyncio.sleep(0)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def room(
    request: pytest.FixtureRequest,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    uncollected: None,
) -> AsyncIterator[tuple[KubernetesBackend, Pages, list[Observation]]]:
    """Yield a backend that is not open yet, what it talks to, and what it tells."""
    bodies = [body(number, number + 1) for number in range(PODS)]
    if request.param == "waiting":
        bodies = [{**one, "status": WAITS} for one in bodies]
    pages = Pages(bodies)

    async def connected(*_: Any, **__: Any) -> Api:
        return pages  # type: ignore[return-value]

    monkeypatch.setattr(api, "connected", connected)
    made = KubernetesBackend(root=str(tmp_path / "root"), tag=TAG, namespace="dask", image="i")
    yield made, pages, []
    await made.close()


Made = tuple[KubernetesBackend, Pages, list[Observation]]


@pytest.mark.parametrize("room", ["running", "waiting"], indirect=True)
async def test_many_pods_hold_up_nobody(room: Made) -> None:
    """They are listed, looked at, found, not found, and all gone."""
    backend, pages, told = room
    targets = [Target(worker(number), f"dask/u{number}", "alice") for number in range(PODS)]
    absent = [Target(worker(PODS + number), f"dask/x{number}") for number in range(PODS)]
    phase = Phase.QUEUED if pages.bodies[0]["status"] is WAITS else Phase.RUNNING

    async def looked() -> None:
        seen = await backend.observations(targets)
        assert {one.phase for one in seen.values()} == {phase}

    async def missed() -> None:
        seen = await backend.observations(absent)
        assert {one.phase for one in seen.values()} == {Phase.GONE}

    async def found() -> None:
        assert len(await backend.find()) == PODS

    async def listed() -> None:
        await backend._informers["dask"].fresh()

    async def stopped() -> None:
        told.clear()
        pages.bodies = []
        await listed()
        assert len(told) == PODS
        assert {one.phase for one in told} == {Phase.GONE}

    took: dict[str, float] = {}
    async with longest_turn() as worst:
        await backend.open(told.extend)
        await listed()
    took["begun"] = worst[0]
    assert len(told) == PODS
    steps: list[Callable[[], Any]] = [looked, missed, found, listed, stopped]
    for step in steps:
        async with longest_turn() as worst:
            await step()
        took[step.__name__] = worst[0]
    assert {what: took_s for what, took_s in took.items() if took_s > MOST_S} == {}
    assert pages.most <= 100
