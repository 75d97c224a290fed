"""Methods and services that there are not, whoever calls them and however."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from gateway.server.rpc.chain import Chain
from gateway.server.rpc.status import STATUS_DETAILS
from tests.rpc.harness import Harness, as_

UNKNOWN = [
    "/daskgateway.v1.ClusterService/Nothing",
    "/daskgateway.v1.ClusterService/listclusters",
    "/daskgateway.v9.ClusterService/ListClusters",
    "/grpc.health.v1.Health/Nothing",
    "/grpc.reflection.v2.ServerReflection/ServerReflectionInfo",
    "/grpc.channelz.v1.Channelz/GetServers",
    "/a/b/c",
    "/Nothing",
    "/é/" + "x" * 5000,
]


def told(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """Return the ErrorInfo of an error, which is the only detail."""
    trailers: Any = error.trailing_metadata() or ()
    status = status_pb2.Status.FromString(dict(trailers)[STATUS_DETAILS])
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    (packed,) = status.details
    info = error_details_pb2.ErrorInfo()
    assert packed.Unpack(info)
    assert info.domain == "daskgateway"
    return info


@pytest.mark.parametrize("path", UNKNOWN, ids=lambda path: path[:40])
@pytest.mark.parametrize(
    "who", [(), as_("alice"), as_("mallory")], ids=["nobody", "alice", "wrong"]
)
async def test_an_unknown_method_says_so_to_calls_of_every_kind(
    harness: Harness, path: str, who: tuple[tuple[str, str], ...]
) -> None:
    channel = harness.channel

    async def one(call: grpc.aio.UnaryUnaryCall[bytes, bytes]) -> None:
        await call

    async def first(call: grpc.aio.UnaryStreamCall[bytes, bytes]) -> None:
        await call.read()

    async def many() -> None:
        ask: Any = channel.stream_stream(path, None, None)
        await ask(metadata=who, timeout=30).read()

    for asking in (
        one(channel.unary_unary(path, None, None)(b"\xff" * 300_000, metadata=who, timeout=30)),
        first(channel.unary_stream(path, None, None)(b"", metadata=who, timeout=30)),
        many(),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await asking
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        info = told(refused.value)
        assert info.reason == "METHOD_UNKNOWN"
        assert path.startswith(info.metadata["method"].removesuffix("…"))


async def test_what_health_does_not_answer_is_unknown_too(harness: Harness) -> None:
    listing = harness.channel.unary_unary("/grpc.health.v1.Health/List", None, None)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await listing(b"", timeout=30)
    assert told(refused.value).reason == "METHOD_UNKNOWN"


async def test_unknown_methods_are_not_remembered() -> None:
    """There is no end of them."""
    asked = []

    async def none(details: Any) -> None:
        """There is no handler."""

    def unknown(name: str) -> str:
        asked.append(name)
        return name

    chain = Chain([], unknown)
    for number in range(50):
        details = SimpleNamespace(method=f"/a.B/{number}")
        assert await chain.intercept_service(none, details) == f"/a.B/{number}"
    assert len(asked) == 50
    assert chain._handlers == {}
