"""What the interceptors may ask of gRPC, and when."""

from __future__ import annotations

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
