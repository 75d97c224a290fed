"""What the interceptors may ask of gRPC, and when."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from grpc_interceptor.server import AsyncServerInterceptor

from gateway.server.rpc.chain import Chain, Interceptor, composed
from gateway.server.rpc.interceptors import ContextInterceptor
from tests.rpc.harness import Harness, as_
from tests.rpc.test_clusters import create
from tests.waiting import comes

SERVICE = "/daskgateway.v1.ClusterService"


class EndedContext:
    """A call that can end; asking the real one for its peer after that crashes the process."""

    ended = False

    def peer(self) -> str:
        assert not self.ended, "the peer was asked for after the call had ended"
        return "ipv4:127.0.0.1:1"

    def invocation_metadata(self) -> tuple[()]:
        assert not self.ended, "the metadata was asked for after the call had ended"
        return ()

    def time_remaining(self) -> float:
        assert not self.ended, "the deadline was asked for after the call had ended"
        return 10.0

    def code(self) -> None:
        return None

    def cancelled(self) -> bool:
        return self.ended


async def test_a_stream_that_was_cut_off_is_logged_without_asking_grpc_for_its_peer() -> None:
    context = EndedContext()
    async with ContextInterceptor().around(
        None, context, "/daskgateway.v1.ClusterService/WatchClusters"
    ):
        context.ended = True


class Noting(Interceptor):
    """Notes what passes it."""

    def __init__(self, name: str, noted: list[str]) -> None:
        self.name, self.noted = name, noted

    async def call(self, method: Any, name: str, request: Any, context: Any) -> Any:
        self.noted.append(f"{self.name} begins {name}")
        try:
            return await method(request, context)
        finally:
            self.noted.append(f"{self.name} ends")

    @contextlib.asynccontextmanager
    async def around(self, request: Any, context: Any, name: str) -> AsyncIterator[None]:
        self.noted.append(f"{self.name} begins {name}")
        try:
            yield
        finally:
            self.noted.append(f"{self.name} ends")

    async def incoming(self, requests: AsyncIterator[str]) -> AsyncIterator[str]:
        async for request in requests:
            yield f"{request}<{self.name}"

    async def outgoing(self, messages: AsyncIterator[str]) -> AsyncIterator[str]:
        async with contextlib.aclosing(messages):  # type: ignore[type-var]
            async for message in messages:
                yield f"{message}>{self.name}"


async def requests_of(*words: str) -> AsyncIterator[str]:
    """Stream words."""
    for word in words:
        yield word


async def one(request: Any, context: object) -> str:
    """Answer a request, or a stream of them, by one message."""
    return f"{request}!" if isinstance(request, str) else "".join([word async for word in request])


def plain(request: str, context: object) -> str:
    """Answer without being asynchronous, as a servicer of others may."""
    return f"{request}!"


async def several(request: Any, context: object) -> AsyncIterator[str]:
    """Answer by a stream, which ends when its reader has had enough."""
    words = requests_of(request, "more") if isinstance(request, str) else request
    try:
        async for word in words:
            yield word
    finally:
        CLOSED.append("several")


CLOSED: list[str] = []
ORDER = ["outer begins /s/m", "inner begins /s/m", "inner ends", "outer ends"]


async def test_a_methods_interceptors_are_around_it_in_their_order() -> None:
    noted: list[str] = []
    both = [Noting("outer", noted), Noting("inner", noted)]
    for answer in (one, plain):
        handler = composed(both, grpc.unary_unary_rpc_method_handler(answer), "/s/m")
        assert inspect.iscoroutinefunction(handler.unary_unary)  # which gRPC awaits
        assert await handler.unary_unary("hello", None) == "hello!"
        assert noted == ORDER
        noted.clear()
    handler = composed(both, grpc.stream_unary_rpc_method_handler(one), "/s/m")
    assert await handler.stream_unary(requests_of("a", "b"), None) == "a<outer<innerb<outer<inner"
    assert noted == ORDER
    noted.clear()
    handler = composed(both, grpc.unary_stream_rpc_method_handler(several), "/s/m")
    assert inspect.isasyncgenfunction(handler.unary_stream)
    told = [word async for word in handler.unary_stream("a", None)]
    assert told == ["a>inner>outer", "more>inner>outer"]
    assert noted == ORDER
    handler = composed(both, grpc.stream_stream_rpc_method_handler(several), "/s/m")
    told = [word async for word in handler.stream_stream(requests_of("a"), None)]
    assert told == ["a<outer<inner>inner>outer"]


async def test_grpc_is_given_one_handler_for_a_method_however_often_it_asks() -> None:
    noted: list[str] = []
    asked: list[str] = []
    chain = Chain([Noting("outer", noted), Noting("inner", noted)])

    async def continuation(details: Any) -> Any:
        asked.append(details.method)
        known = details.method == "/s/m"
        return grpc.unary_unary_rpc_method_handler(one) if known else None

    details = SimpleNamespace(method="/s/m", invocation_metadata=())
    first = await chain.intercept_service(continuation, details)
    assert await chain.intercept_service(continuation, details) is first
    assert await first.unary_unary("hello", None) == "hello!"
    assert noted == ORDER
    assert asked == ["/s/m"]
    strange = SimpleNamespace(method="/s/strange", invocation_metadata=())
    for _ in range(2):  # of methods that do not exist nothing is kept
        assert await chain.intercept_service(continuation, strange) is None
    assert asked == ["/s/m", "/s/strange", "/s/strange"]


async def test_an_interceptor_is_one_of_grpc_interceptor_by_itself_too() -> None:
    noted: list[str] = []
    alone = Noting("alone", noted)
    assert isinstance(alone, AsyncServerInterceptor)
    assert await alone.intercept(one, "hello", None, "/s/m") == "hello!"
    assert await alone.intercept(plain, "hello", None, "/s/m") == "hello!"
    assert noted == ["alone begins /s/m", "alone ends"] * 2
    told = await alone.intercept(several, requests_of("a"), None, "/s/m")
    assert [word async for word in told] == ["a<alone>alone"]


async def test_a_stream_whose_reader_has_had_enough_is_ended_at_once_with_all_around_it() -> None:
    noted: list[str] = []
    both = [Noting("outer", noted), Noting("inner", noted)]
    handler = composed(both, grpc.unary_stream_rpc_method_handler(several), "/s/m")
    CLOSED.clear()
    stream = handler.unary_stream("a", None)
    assert await anext(stream) == "a>inner>outer"
    await stream.aclose()
    assert CLOSED == ["several"]
    assert noted == ORDER


async def test_what_goes_wrong_in_a_stream_passes_all_around_it_from_the_inside_out() -> None:
    noted: list[str] = []

    async def fails(request: object, context: object) -> AsyncIterator[str]:
        yield "a"
        raise ValueError("no")

    both = [Noting("outer", noted), Noting("inner", noted)]
    handler = composed(both, grpc.unary_stream_rpc_method_handler(fails), "/s/m")
    with pytest.raises(ValueError, match="no"):
        _ = [word async for word in handler.unary_stream("a", None)]
    assert noted == ORDER


async def test_waiting_for_a_cluster_fills_no_log_but_its_failures_are_told(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "gateway.server.calls")
    made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    for name in (made.name, "users/alice/clusters/nobodys"):
        with contextlib.suppress(grpc.aio.AioRpcError):
            wait = service_pb.WaitClusterRequest(name=name, states=[pb.CLUSTER_STATE_CREATING])
            await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
    await comes(lambda: len(caplog.records) >= 3)  # a refusal is told before it is logged
    told = [(record.levelname, *record.getMessage().split()[:2]) for record in caplog.records]
    assert told == [
        ("INFO", f"{SERVICE}/CreateCluster", "OK"),
        ("DEBUG", f"{SERVICE}/WaitCluster", "OK"),
        ("INFO", f"{SERVICE}/WaitCluster", "NOT_FOUND"),
    ]


async def test_credentials_that_are_sent_twice_are_none(harness: Harness) -> None:
    """What stands before the server may have read the others."""
    right = as_("alice")
    twice = [*right, *right]
    for metadata in (twice, [("authorization", "Bearer made-up"), *right]):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await harness.clusters.ListClusters(service_pb.ListClustersRequest(), metadata=metadata)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "there are 2 values of authorization; send one" in (refused.value.details() or "")
    await harness.clusters.ListClusters(service_pb.ListClustersRequest(), metadata=right)
