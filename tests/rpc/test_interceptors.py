"""What the interceptors may ask of gRPC, and when."""

from __future__ import annotations

import contextlib
import logging

import grpc
import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb

from gateway.server.rpc.chain import Chain
from gateway.server.rpc.interceptors import ContextInterceptor
from tests.rpc.harness import Harness, as_
from tests.rpc.test_clusters import create

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


async def test_a_methods_interceptors_are_composed_once_and_unknown_methods_are_not_remembered() -> (  # noqa: E501
    None
):
    asked: list[str] = []

    class Details:
        def __init__(self, method: str) -> None:
            self.method = method

    async def answer(request: object, context: object) -> str:
        return f"{request}!"

    async def find(details: Details) -> object:
        asked.append(details.method)
        return grpc.unary_unary_rpc_method_handler(answer) if details.method == "/known" else None

    chain = Chain([ContextInterceptor()])
    first = await chain.intercept_service(find, Details("/known"))
    assert await first.unary_unary("hello", EndedContext()) == "hello!"
    assert await chain.intercept_service(find, Details("/known")) is first
    for _ in range(2):
        assert await chain.intercept_service(find, Details("/unknown")) is None
    assert asked == ["/known", "/unknown", "/unknown"]


async def test_waiting_for_a_cluster_fills_no_log_but_its_failures_are_told(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "gateway.server.calls")
    made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    for name in (made.name, "users/alice/clusters/nobodys"):
        with contextlib.suppress(grpc.aio.AioRpcError):
            wait = service_pb.WaitClusterRequest(name=name, states=[pb.CLUSTER_STATE_CREATING])
            await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
    told = [(record.levelname, *record.getMessage().split()[:2]) for record in caplog.records]
    assert told == [
        ("INFO", f"{SERVICE}/CreateCluster", "OK"),
        ("DEBUG", f"{SERVICE}/WaitCluster", "OK"),
        ("INFO", f"{SERVICE}/WaitCluster", "NOT_FOUND"),
    ]
