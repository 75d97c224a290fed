"""Asks a server for clusters as fast as it accepts them, so many in flight, in a process of its
own; prints the seconds it took.

`python -m benchmarks.creates ours|dgw ADDRESS CREDENTIALS COUNT IN_FLIGHT`. Both ways are Python on
one event loop: grpc.aio here, aiohttp there. Each can send thousands of calls a second, which is
far beyond what either server accepts, so neither is the bound. Ours sends a request_id of its own
with each call, as our client does.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import Awaitable, Callable

Create = Callable[[], Awaitable[None]]


async def timed(create: Create, count: int, in_flight: int) -> float:
    """Return the seconds that so many creates took."""
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await create()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    return time.perf_counter() - began


async def ours(listener: str, authorization: str, count: int, in_flight: int) -> float:
    """Create over gRPC."""
    import grpc
    from daskgateway.v1 import cluster_service_pb2 as service_pb
    from daskgateway.v1 import cluster_service_pb2_grpc

    async with grpc.aio.insecure_channel(listener) as channel:
        stub = cluster_service_pb2_grpc.ClusterServiceStub(channel)
        metadata = (("authorization", authorization),)
        await stub.ListClusters(service_pb.ListClustersRequest(page_size=1), metadata=metadata)

        async def create() -> None:
            await stub.CreateCluster(
                service_pb.CreateClusterRequest(request_id=str(uuid.uuid4())), metadata=metadata
            )

        return await timed(create, count, in_flight)


async def theirs(port: str, cookie: str, count: int, in_flight: int) -> float:
    """Create over REST."""
    import aiohttp

    address = f"http://127.0.0.1:{port}/api/v1/clusters/"
    async with aiohttp.ClientSession(
        headers={"Cookie": cookie}, connector=aiohttp.TCPConnector(limit=0)
    ) as session:

        async def create() -> None:
            async with session.post(address, json={}) as answer:
                answer.raise_for_status()
                await answer.read()

        return await timed(create, count, in_flight)


if __name__ == "__main__":
    side, address, credentials, count, in_flight = sys.argv[1:6]
    print(
        asyncio.run(
            (ours if side == "ours" else theirs)(address, credentials, int(count), int(in_flight))
        )
    )
