"""How long a client waits for a cluster, told by a server that is not there."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from daskgateway.v1 import cluster_pb2

from gateway import ClusterState, Gateway
from gateway.client.calls import channel, errors
from gateway.client.calls import waiting as module
from gateway.client.calls.channel import Connection

CREATING, ACTIVE = cluster_pb2.CLUSTER_STATE_CREATING, cluster_pb2.CLUSTER_STATE_ACTIVE


class Clock:
    """A clock that only answers move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now


def gateway_that_tells(monkeypatch: pytest.MonkeyPatch, *told: tuple[float, int, str]) -> Gateway:
    """Return a client whose server tells, each after some seconds, a state with its reason."""
    clock = Clock()
    answers = iter(told)

    def call(*_: Any, **__: Any) -> cluster_pb2.Cluster:
        seconds, state, reason = next(answers)
        clock.now += seconds
        return cluster_pb2.Cluster(
            name="users/a/clusters/b",
            status=cluster_pb2.ClusterStatus(state=state, reason=reason),  # type: ignore[arg-type]
        )

    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(Connection, "call", call)
    return Gateway("http://127.0.0.1:1")


def test_time_in_a_batch_systems_queue_is_no_start_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = (3600.0, CREATING, "SCHEDULER_QUEUED")
    gateway = gateway_that_tells(
        monkeypatch, hours, hours, hours, (8.0, CREATING, ""), (1.0, ACTIVE, "")
    )
    assert gateway.wait("b", timeout_s=10.0).state is ClusterState.ACTIVE


def test_a_scheduler_that_runs_and_does_not_report_is_waited_for_until_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gateway = gateway_that_tells(
        monkeypatch,
        (3600.0, CREATING, "SCHEDULER_QUEUED"),
        (8.0, CREATING, ""),
        (8.0, CREATING, ""),
    )
    with pytest.raises(errors.DeadlineExceeded, match="is CREATING after 10 s"):
        gateway.wait("b", timeout_s=10.0)


async def test_those_who_wait_do_not_keep_others_from_the_gateway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over = threading.Event()
    monkeypatch.setattr(module, "wait", lambda *_: over.wait(60))
    monkeypatch.setattr(Connection, "call", lambda *_, **__: cluster_pb2.Cluster(uid="answered"))
    gateway = Gateway("http://127.0.0.1:9", auth="token", asynchronous=True)
    waits_for = [
        asyncio.create_task(gateway.wait(f"queued-{number}")) for number in range(channel.THREADS)
    ]
    await asyncio.sleep(0)  # they begin
    try:
        async with asyncio.timeout(10):
            assert (await gateway.get_cluster("another")).uid == "answered"
    finally:
        over.set()
        await asyncio.gather(*waits_for)
