"""What the interceptors may ask of gRPC, and when."""

from __future__ import annotations

import grpc

from gateway.server.rpc.chain import Chain
from gateway.server.rpc.interceptors import ContextInterceptor


class EndedContext:
    """A call that can end; asking the real one for its peer after that crashes the process."""

    ended = False

    def peer(self) -> str:
        assert not self.ended, "the peer was asked for after the call had ended"
        return "ipv4:127.0.0.1:1"

    def code(self) -> None:
        return None


async def test_a_stream_that_was_cut_off_is_logged_without_asking_grpc_for_its_peer() -> None:
    context = EndedContext()
    async with ContextInterceptor().around(None, context, "/daskgateway.v1.ClusterService/WatchClusters"):
        context.ended = True


async def test_a_methods_interceptors_are_composed_once_and_unknown_methods_are_not_remembered() -> None:
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
