"""Calls over HTTP/2 to an edge, and who makes them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
from daskgateway.v1 import cluster_service_pb2 as pb
from daskgateway.v1 import cluster_service_pb2_grpc

from tests.proxy.served import ALICE, Served

AS_ALICE = (("authorization", ALICE),)


def lists(channel: grpc.aio.Channel) -> Any:
    """Return the call that lists clusters."""
    return cluster_service_pb2_grpc.ClusterServiceStub(channel).ListClusters


async def listed(channel: grpc.aio.Channel) -> str:
    """Return what a list answers."""
    answer = await lists(channel)(pb.ListClustersRequest(), metadata=AS_ALICE, timeout=20)
    return str(answer.next_page_token)


# Floods: what one connection sends, others do not feel


class Beside:
    """A user who works, while something else goes on."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.took_s: list[float] = []

    async def __aenter__(self) -> Beside:
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{self._served.port}")
        await listed(self._channel)
        self._work = asyncio.ensure_future(self._go_on())
        return self

    async def _go_on(self) -> None:
        while True:
            began = time.perf_counter()
            await listed(self._channel)
            self.took_s.append(time.perf_counter() - began)
            await asyncio.sleep(0.01)

    async def __aexit__(self, *_: object) -> None:
        self._work.cancel()
        (ended,) = await asyncio.gather(self._work, return_exceptions=True)
        await self._channel.close(None)
        assert isinstance(ended, asyncio.CancelledError), ended
