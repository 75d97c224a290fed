"""However a call ends, nothing is said of it but one line, with the code that its caller saw."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from daskgateway.internal.v1 import agent_pb2, route_pb2
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb

from gateway.server.core.errors import CredentialsInvalid
from tests.rpc.harness import Harness, as_
from tests.rpc.test_clusters import active
from tests.waiting import comes

Stream = Any  # grpc.aio's call


class Kept(logging.Handler):
    """Everything that is logged, by whomever."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def codes(self, method: str) -> list[str]:
        """Return how calls of a method ended."""
        said = [
            record.getMessage() for record in self.records if record.name == "gateway.server.calls"
        ]
        return [words.split()[1] for words in said if words.split()[0].endswith(f"/{method}")]

    def trouble(self) -> list[str]:
        """Return all that should not have been said."""
        return [
            record.getMessage()
            for record in self.records
            if record.levelno >= logging.WARNING or record.exc_info
        ]


@pytest.fixture
async def kept() -> AsyncIterator[Kept]:
    """What is logged, and what the event loop complains of."""
    handler, root = Kept(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: handler.emit(
            logging.LogRecord("loop", logging.ERROR, "", 0, repr(context), None, None)
        )
    )
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


async def _endless(*_: Any, **__: Any) -> AsyncIterator[str]:
    """Yield a log that goes on."""
    while True:
        yield "line\n"
        await asyncio.sleep(0.01)


async def _silent(*_: Any, **__: Any) -> AsyncIterator[str]:
    """Yield a log to which nothing is added."""
    yield "line\n"
    await asyncio.Event().wait()


def _watch(harness: Harness, stub: Any, name: str, **options: Any) -> Stream:
    return stub.clusters.WatchClusters(
        service_pb.WatchClustersRequest(), metadata=as_("alice"), **options
    )


def _logs(harness: Harness, stub: Any, name: str, **options: Any) -> Stream:
    harness.backend.logs = _endless  # type: ignore[method-assign]
    return stub.clusters.StreamLogs(
        service_pb.StreamLogsRequest(name=name, follow=True), metadata=as_("alice"), **options
    )


def _quiet_logs(harness: Harness, stub: Any, name: str, **options: Any) -> Stream:
    harness.backend.logs = _silent  # type: ignore[method-assign]
    return stub.clusters.StreamLogs(
        service_pb.StreamLogsRequest(name=name, follow=True), metadata=as_("alice"), **options
    )


def _whole_logs(harness: Harness, stub: Any, name: str, **options: Any) -> Stream:
    harness.backend.logs = _endless  # type: ignore[method-assign]
    return stub.clusters.StreamLogs(
        service_pb.StreamLogsRequest(name=name), metadata=as_("alice"), **options
    )


def _agent(harness: Harness, stub: Any, name: str, **options: Any) -> Stream:
    uid = harness.store.view.named("alice", name.rpartition("/")[2]).uid
    return stub.agents.Connect(
        metadata=(("authorization", "Bearer agent"), ("dgw-uid", uid)), **options
    )


def _routes(harness: Harness, stub: Any, name: str, **options: Any) -> Stream:
    return stub.routes.WatchRoutes(route_pb2.WatchRoutesRequest(), metadata=as_("edge"), **options)


STREAMS: dict[str, tuple[str, Callable[..., Stream]]] = {
    "watch": ("WatchClusters", _watch),
    "logs": ("StreamLogs", _logs),
    "quiet logs": ("StreamLogs", _quiet_logs),
    "whole logs": ("StreamLogs", _whole_logs),
    "agent": ("Connect", _agent),
    "routes": ("WatchRoutes", _routes),
}


class Stubs:
    """A connection of its own."""

    def __init__(self, harness: Harness) -> None:
        self.channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{harness.port}", [("grpc.use_local_subchannel_pool", 1)]
        )
        self.clusters = type(harness.clusters)(self.channel)
        self.agents = type(harness.agents)(self.channel)
        self.routes = type(harness.routes)(self.channel)


async def cancel(harness: Harness, stubs: Stubs, call: Stream) -> None:
    call.cancel()


async def disconnect(harness: Harness, stubs: Stubs, call: Stream) -> None:
    await stubs.channel.close(None)


async def revoke(harness: Harness, stubs: Stubs, call: Stream) -> None:
    for _, end in tuple(harness.doors.held):
        end(CredentialsInvalid())


async def stop(harness: Harness, stubs: Stubs, call: Stream) -> None:
    await harness.server.stop(0)


async def opened(
    harness: Harness, name: str, stream: str, **options: Any
) -> tuple[str, Stubs, Stream]:
    """Return a stream that has brought its first message."""
    method, begin = STREAMS[stream]
    stubs = Stubs(harness)
    call = begin(harness, stubs, name, **options)
    assert await call.read() is not grpc.aio.EOF  # type: ignore[attr-defined]
    return method, stubs, call


async def ended(call: Stream) -> str:
    """Return the code that the caller saw."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
        async with asyncio.timeout(10):
            while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
                pass
    return str((await call.code()).name)


ENDS: dict[str, tuple[Callable[[Harness, Stubs, Stream], Awaitable[None]], str]] = {
    "cancelled": (cancel, "CANCELLED"),
    "disconnected": (disconnect, "CANCELLED"),
    "revoked": (revoke, "UNAUTHENTICATED"),
    "stopped": (stop, "CANCELLED"),
}


@pytest.fixture
async def name(harness: Harness) -> AsyncIterator[str]:
    """The name of an active cluster whose agent is connected."""
    cluster, agent = await active(harness)
    yield cluster.name
    agent.call.cancel()


# What agents and edges were let in by is not revoked: their cluster ends, or the server.
CUTS = [
    (stream, end)
    for stream in STREAMS
    for end in ENDS
    if end != "revoked" or stream not in ("agent", "routes")
]


@pytest.mark.parametrize(("stream", "end"), CUTS)
async def test_a_stream_that_is_cut_is_told_so_and_leaves_nothing(
    harness: Harness, name: str, kept: Kept, stream: str, end: str
) -> None:
    how, code = ENDS[end]
    method, stubs, call = await opened(harness, name, stream)
    before = len(kept.codes(method))
    await how(harness, stubs, call)
    await comes(lambda: len(kept.codes(method)) > before)
    assert kept.codes(method)[before] == code
    if end == "revoked":
        assert await ended(call) == code
    await asyncio.sleep(0.05)  # for whoever complains late
    assert kept.trouble() == []
    await stubs.channel.close(None)


@pytest.mark.parametrize("stream", STREAMS)
async def test_a_stream_that_ends_at_its_deadline_is_told_so(
    harness: Harness, name: str, kept: Kept, stream: str
) -> None:
    method, stubs, call = await opened(harness, name, stream, timeout=0.5)
    assert await ended(call) == "DEADLINE_EXCEEDED"
    await comes(lambda: kept.codes(method))
    assert kept.codes(method)[-1] == "DEADLINE_EXCEEDED"
    assert kept.trouble() == []
    await stubs.channel.close(None)


@pytest.mark.parametrize("stream", ["watch", "logs", "quiet logs", "routes", "agent"])
async def test_a_stream_that_a_drain_ends_has_ended_well(
    harness: Harness, name: str, kept: Kept, stream: str
) -> None:
    method, stubs, call = await opened(harness, name, stream)
    harness.draining.set()
    harness.switchboard.wake_all()
    harness.route_servicer.wake_all()
    assert await ended(call) == "OK"
    await comes(lambda: kept.codes(method))
    assert set(kept.codes(method)) == {"OK"}
    assert kept.trouble() == []
    await stubs.channel.close(None)


@pytest.mark.parametrize(
    ("end", "code"),
    # a wait is answered just before its caller's deadline
    [("cancelled", "CANCELLED"), ("deadline", "OK"), ("stopped", "CANCELLED")],
)
async def test_a_wait_that_is_cut_is_told_so(
    harness: Harness, name: str, kept: Kept, end: str, code: str
) -> None:
    stubs = Stubs(harness)
    request = service_pb.WaitClusterRequest(name=name, states=[pb.CLUSTER_STATE_STOPPED])
    call = stubs.clusters.WaitCluster(
        request, metadata=as_("alice"), timeout=0.5 if end == "deadline" else 30
    )
    await asyncio.sleep(0.2)
    if end == "cancelled":
        call.cancel()
    elif end == "stopped":
        await harness.server.stop(0)
    await comes(lambda: kept.codes("WaitCluster"))
    assert kept.codes("WaitCluster")[-1] == code
    assert kept.trouble() == []
    await stubs.channel.close(None)


async def test_an_agent_that_reports_what_cannot_be_is_told_with_that_code(
    harness: Harness, name: str, kept: Kept
) -> None:
    method, stubs, call = await opened(harness, name, "agent")
    await call.write(agent_pb2.AgentReport(sequence=1))
    assert await ended(call) == "INVALID_ARGUMENT"
    await comes(lambda: kept.codes(method))
    assert kept.codes(method)[-1] == "INVALID_ARGUMENT"
    assert kept.trouble() == []
    await stubs.channel.close(None)
