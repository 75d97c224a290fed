"""An agent's open stream is no sign of life; the server's own standstill is no silence of
others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb

from gateway.backends.contract import Observation, Phase
from gateway.server.core.facts import BEAT_S
from gateway.server.core.model import Cluster
from gateway.server.reconcile import hearing, loop
from tests.rpc.harness import Harness, PretendAgent, as_
from tests.rpc.test_clusters import active
from tests.waiting import comes


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notice silence soon."""
    monkeypatch.setattr(hearing, "HUSH_S", 1.0)
    monkeypatch.setattr(loop, "LISTEN_S", 0.05)
    monkeypatch.setattr(loop, "STANDSTILL_S", 0.5)


@pytest.fixture
async def agent(harness: Harness) -> AsyncIterator[PretendAgent]:
    """The agent of an active cluster."""
    made, agent = await active(harness)
    harness.uid = made.uid  # type: ignore[attr-defined]
    yield agent
    agent.call.cancel()


def stored(harness: Harness) -> Cluster:
    """Return the cluster."""
    found = harness.store.view.cluster(harness.uid)  # type: ignore[attr-defined]
    assert found is not None
    return found


def reachable(cluster: Cluster) -> str:
    """Return the reason of the condition."""
    return next(
        condition.reason
        for condition in cluster.conditions
        if condition.type == "SchedulerReachable"
    )


async def test_an_agent_that_hangs_is_told_as_silent_and_as_heard_again(
    harness: Harness, agent: PretendAgent
) -> None:
    assert reachable(stored(harness)) == "REPORTING"
    await comes(lambda: reachable(stored(harness)) == "AGENT_SILENT")
    request = service_pb.GetClusterRequest(name=f"users/alice/clusters/{stored(harness).uid}")
    told = await harness.clusters.GetCluster(request, metadata=as_("alice"))
    assert "its connection is open" in told.status.message
    await agent.report(beat=True)
    await comes(lambda: reachable(stored(harness)) == "REPORTING")


async def test_beats_keep_an_agent_heard_and_cost_no_step(
    harness: Harness, agent: PretendAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.sleep(0.3)  # until the steps of its start are over
    taken: list[str] = []
    take = harness.reconciler.inbox.take
    monkeypatch.setattr(
        harness.reconciler.inbox, "take", lambda uid, now: taken.append(uid) or take(uid, now)
    )
    for _ in range(20):
        await agent.report(beat=True)
        await asyncio.sleep(0.1)
    assert reachable(stored(harness)) == "REPORTING"
    assert taken == []


async def test_an_agent_is_told_how_often_to_beat(harness: Harness, agent: PretendAgent) -> None:
    assert (await agent.directive()).beat_interval_ms == BEAT_S * 1000


async def test_a_server_that_stood_still_holds_that_against_nobody(
    harness: Harness, agent: PretendAgent, caplog: pytest.LogCaptureFixture
) -> None:
    await agent.report(beat=True)
    await asyncio.sleep(0.1)
    time.sleep(2.0)  # noqa: ASYNC251 (as when the process is suspended: nothing is read, and the clock goes on)
    for _ in range(5):
        await asyncio.sleep(0.1)
        assert reachable(stored(harness)) == "REPORTING"
    assert "stood still" in caplog.text
    await comes(lambda: reachable(stored(harness)) == "AGENT_SILENT")


async def test_a_worker_that_ends_while_its_scheduler_hangs_is_not_replaced(
    harness: Harness,
) -> None:
    made, agent = await active(harness, worker_groups={"default": pb.WorkerGroup(count=2)})
    harness.uid = made.uid  # type: ignore[attr-defined]
    await comes(lambda: len(harness.backend.running) == 3)
    await agent.report(workers=["default-0", "default-1"])
    await comes(lambda: stored(harness).groups["default"].running == 2)
    names = [instance for instance in harness.backend.running if instance.name != "scheduler"]
    for instance in names:
        harness.backend.running.pop(instance)
        harness.reconciler.observed([Observation(instance, Phase.GONE, exit_code=1)])
    await comes(lambda: reachable(stored(harness)) == "AGENT_SILENT")
    assert stored(harness).groups["default"].next_sequence == 2
    await agent.report(beat=True)
    await comes(lambda: len(harness.backend.running) == 3)
    agent.call.cancel()
