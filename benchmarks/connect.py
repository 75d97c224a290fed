"""What a watch costs over Connect beside one over gRPC: CPU of server and edge for each message
that a watch is told, and for each watch that is opened.

`python -m benchmarks.connect`. Both go through the edge, with a connection each; the no-op backend,
a SQLite file, an API token, logging on. Rounds of both are interleaved.
"""

from __future__ import annotations

import asyncio
import json
import struct
import uuid
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import aiohttp
import grpc
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import cluster_service_pb2_grpc, credential_service_pb2_grpc
from daskgateway.v1 import credential_service_pb2 as credential_pb
from google.protobuf.field_mask_pb2 import FieldMask

from benchmarks import machine, processes
from benchmarks.figures import Samples, last_line, table
from benchmarks.ours import PASSWORD, USER, OurGateway
from gateway.wire import basic_credentials

WATCHES, CHANGES, ROUNDS = 100, 50, 5
WATCH = "/daskgateway.v1.ClusterService/WatchClusters"


class Told:
    """Counts what all watches were told."""

    def __init__(self) -> None:
        self.count = 0
        self._more = asyncio.Event()

    def one(self) -> None:
        """Count one message."""
        self.count += 1
        self._more.set()

    async def until(self, count: int) -> None:
        """Wait for so many."""
        async with asyncio.timeout(120):
            while self.count < count:
                self._more.clear()
                await self._more.wait()


Watch = Callable[[OurGateway, str, str, Told], Coroutine[Any, Any, None]]


async def watch_grpc(gateway: OurGateway, name: str, token: str, told: Told) -> None:
    """Watch one cluster over a connection of its own."""
    target = gateway.address.removeprefix("http://")
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(target, options) as channel:
        call = cluster_service_pb2_grpc.ClusterServiceStub(channel).WatchClusters(
            service_pb.WatchClustersRequest(clusters=[name]), metadata=(("authorization", token),)
        )
        async for _ in call:
            told.one()


def watch_connect(kind: str) -> Watch:
    """Return what watches one cluster over Connect, with messages of a kind."""

    async def watch(gateway: OurGateway, name: str, token: str, told: Told) -> None:
        request = service_pb.WatchClustersRequest(clusters=[name])
        body = (
            request.SerializeToString()
            if kind == "proto"
            else json.dumps({"clusters": [name]}).encode()
        )
        headers = {"Authorization": token, "Content-Type": f"application/connect+{kind}"}
        sent = struct.pack(">BI", 0, len(body)) + body
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(gateway.address + WATCH, data=sent, headers=headers) as answer,
        ):
            while True:
                flags, size = struct.unpack(">BI", await answer.content.readexactly(5))
                message = await answer.content.readexactly(size)
                if flags & 2:
                    raise RuntimeError(f"the watch ended: {message[:500]!r}")
                told.one()

    return watch


WAYS: Mapping[str, Watch] = {
    "grpc": watch_grpc,
    "connect+proto": watch_connect("proto"),
    "connect+json": watch_connect("json"),
}


async def measured(gateway: OurGateway, pids: list[int], samples: Samples) -> None:
    """Measure all ways, round by round."""
    listener = grpc.aio.insecure_channel(gateway.listener)
    basic = (("authorization", basic_credentials(USER, PASSWORD)),)
    made = await credential_service_pb2_grpc.CredentialServiceStub(listener).CreateToken(
        credential_pb.CreateTokenRequest(request_id=str(uuid.uuid4())), metadata=basic
    )
    token = f"Bearer {made.secret}"
    stub: Any = cluster_service_pb2_grpc.ClusterServiceStub(listener)
    metadata = (("authorization", token),)
    cluster = await stub.CreateCluster(service_pb.CreateClusterRequest(), metadata=metadata)
    await asyncio.sleep(3)  # the cluster's own changes are over
    for _ in range(ROUNDS):
        for way, watch in WAYS.items():
            told, before = Told(), machine.cpu_s(pids)
            tasks = [
                asyncio.create_task(watch(gateway, cluster.name, token, told))
                for _ in range(WATCHES)
            ]
            await told.until(2 * WATCHES)  # the cluster as it is, and a bookmark
            opened, before = machine.cpu_s(pids) - before, machine.cpu_s(pids)
            for number in range(CHANGES):
                update = service_pb.UpdateClusterRequest(
                    cluster=pb.Cluster(name=cluster.name, labels={"n": uuid.uuid4().hex}),
                    update_mask=FieldMask(paths=["labels"]),
                )
                await stub.UpdateCluster(update, metadata=metadata)
                await told.until((3 + number) * WATCHES)
            changed = machine.cpu_s(pids) - before
            samples.add("us of CPU of a watch opened", way, opened / WATCHES * 1e6)
            samples.add("us of CPU of a message", way, changed / WATCHES / CHANGES * 1e6)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(1)
    await listener.close(None)


def main() -> None:
    """Measure and print."""
    print(f"bench-connect: {machine.described()}")
    print(f"{WATCHES} watches of one cluster through the edge, {CHANGES} changes, {ROUNDS} rounds")
    samples = Samples()
    with processes.scratch() as directory:
        gateway = OurGateway(directory / "ours", noop=True)
        try:
            gateway.start()
            assert gateway.process is not None
            record = json.loads((gateway.state_dir / "edge.json").read_text())
            pids = [gateway.process.pid, int(record["pid"])]
            asyncio.run(measured(gateway, pids, samples))
        finally:
            gateway.stop()
    print(table(samples))
    message, opened = (
        {way: samples.median(what, way) for way in WAYS}
        for what in ("us of CPU of a message", "us of CPU of a watch opened")
    )
    figures = {f"message_{way.replace('+', '_')}_us": us for way, us in message.items()}
    for way in list(WAYS)[1:]:
        key = way.replace("+", "_")
        figures[f"message_{key}_vs_grpc"] = message[way] / message["grpc"]
        figures[f"opened_{key}_vs_grpc"] = opened[way] / opened["grpc"]
    print(last_line("connect", figures))


if __name__ == "__main__":
    main()
