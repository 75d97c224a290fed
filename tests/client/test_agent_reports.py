"""Reports of very many workers are sent in parts, of which the server makes the whole; an agent
whose reports are refused does not report without end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pathlib
from concurrent import futures
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from daskgateway.internal.v1 import agent_pb2 as pb
from daskgateway.internal.v1 import agent_pb2_grpc

from gateway.agent.agent import BACKOFF_S, REJECTED_S, Agent, pause_s
from gateway.agent.reports import MAX_NAMES, parts
from gateway.agent.setup import Setup


def a_report(workers: int, left: int = 0, retired: int = 0) -> pb.AgentReport:
    """Return a snapshot."""
    return pb.AgentReport(
        sequence=3,
        snapshot=True,
        scheduler_address="tls://10.0.0.1:1",
        versions={"dask": "1"},
        workers=[f"default-{n}" for n in range(workers)],
        left=[f"gone-{n}" for n in range(left)],
        retired=[f"old-{n}" for n in range(retired)],
        idle_ms=-1,
        targets={"default": 7},
    )


@pytest.mark.parametrize("workers", [0, 1, MAX_NAMES])
def test_what_fits_is_sent_as_it_is(workers: int) -> None:
    report = a_report(workers)
    assert list(parts(report)) == [report]


def test_what_does_not_fit_is_sent_in_parts_and_only_the_first_is_a_snapshot() -> None:
    report = a_report(2 * MAX_NAMES + 5, 7, MAX_NAMES)
    sent = list(parts(report))
    assert [part.snapshot for part in sent] == [True, False, False, False]
    assert all(len(part.workers) + len(part.left) + len(part.retired) <= MAX_NAMES for part in sent)
    assert all((part.idle_ms, part.targets["default"]) == (-1, 7) for part in sent)
    assert [bool(part.versions or part.scheduler_address) for part in sent] == [
        True,
        False,
        False,
        False,
    ]
    for kind in ("workers", "left", "retired"):
        assert [name for part in sent for name in getattr(part, kind)] == list(
            getattr(report, kind)
        )
    longest = pb.AgentReport(workers=["g" * 32 + "-" + "9" * 20] * MAX_NAMES)
    assert longest.ByteSize() < 600 * 1024


def a_scheduler(*names: str) -> Any:
    """Return what an agent reads of a scheduler with these workers, by addresses like names."""
    return SimpleNamespace(
        address="tls://127.0.0.1:1",
        workers={name: SimpleNamespace(name=name) for name in names},
        services={},
        clients={},
        client_comms={},
        transition_counter=0,
    )


@pytest.mark.parametrize("snapshot", [False, True])
async def test_who_came_and_went_between_two_reports_is_told_of_as_both(snapshot: bool) -> None:
    scheduler = a_scheduler("default-0", "default-1")
    agent = Agent(scheduler, Setup("c" + "a" * 20, "unix:/nowhere", "t", b"ca"))
    for name in ("default-0", "default-1"):
        agent.add_worker(scheduler, name)
    agent.remove_worker(scheduler, "default-0")
    report = agent._report(snapshot=snapshot)
    assert (list(report.workers), list(report.left)) == (["default-0", "default-1"], ["default-0"])
    agent.remove_worker(scheduler, "default-1")
    agent.add_worker(scheduler, "default-1")  # it is back
    report = agent._report(snapshot=snapshot)
    assert (list(report.workers), list(report.left)) == (["default-1"], [])


def test_pauses_are_short_while_nobody_answers_and_long_where_reports_are_refused() -> None:
    assert [pause_s(n, 0) for n in (1, 2, 3, 100)] == [0.2, 0.4, 0.8, BACKOFF_S[1]]
    assert [pause_s(1, n) for n in (1, 2, 3, 100)] == [0.2, 0.4, 0.8, REJECTED_S]


class Refusing(agent_pb2_grpc.AgentServiceServicer):
    """A server that tells what is wished, as it does at once, and takes no report."""

    def Connect(self, reports: Any, context: Any) -> Any:
        next(reports)
        yield pb.AgentDirective()
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "scheduler_address: must be another")


class Pauses:
    """How long the agent would wait; after some it is told to stop."""

    def __init__(self, most: int) -> None:
        self.told: list[float] = []
        self._most = most

    def is_set(self) -> bool:
        """Whether the agent is to end."""
        return len(self.told) >= self._most

    def wait(self, wait_s: float) -> None:
        """Wait no longer than it takes to note it."""
        self.told.append(wait_s)


async def test_an_agent_whose_reports_are_refused_tries_again_more_and_more_seldom(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is wished comes before the refusal, and had ended every pause: 8 streams a second."""
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    server = grpc.server(futures.ThreadPoolExecutor(2))
    agent_pb2_grpc.add_AgentServiceServicer_to_server(Refusing(), server)
    address = f"unix:{tmp_path}/server.sock"
    server.add_insecure_port(address)
    server.start()
    try:
        scheduler = SimpleNamespace(
            address="tls://127.0.0.1:1", workers={}, services={}, clients={}, transition_counter=0
        )
        agent = Agent(scheduler, Setup("c" + "a" * 20, address, "t", b"ca"))
        pauses = agent._stopped = Pauses(8)  # type: ignore[assignment]
        monkeypatch.setattr(agent, "_look", lambda: None)
        monkeypatch.setattr(agent, "_obey", lambda directive: None)
        monkeypatch.setattr(agent, "_report", lambda snapshot: pb.AgentReport(snapshot=snapshot))
        with caplog.at_level(logging.INFO):
            await asyncio.wait_for(asyncio.to_thread(agent._talk), 60)
        assert pauses.told == [0.2 * 2**n for n in range(8)]
        refusals = [line for line in caplog.messages if "refuses this agent's reports" in line]
        assert len(refusals) == 1
        assert "scheduler_address: must be another" in refusals[0]
    finally:
        with contextlib.suppress(Exception):
            server.stop(None).wait(30)
