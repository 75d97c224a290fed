"""A user who works while others flood: gets, lists, creates, stops and watches through the edge,
and says how long everything took.

`python -m benchmarks.abuse_user PORT CA AUTHORIZATION PASSWORD`. Prints `ready`; then each line on
standard input begins a measurement, the next one ends it, and the answer is one line of JSON:
milliseconds of every call, of every event of the watch and of first sign-ins, and errors.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import sys
import time
from typing import Any

import grpc
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import cluster_service_pb2_grpc

from gateway.wire import basic_credentials

PAUSE_S = 0.02
CREATE_S = 1.5  # a user may create 60 in a minute
# between sign-ins of users who have not been here before, each on a connection of its own
SIGN_IN_S = 1.0
TIMEOUT_S = 30.0
NAME_LENGTH = 12


class Worker:
    """The user."""

    def __init__(self, port: str, ca: str, authorization: str, password: str) -> None:
        self._address, self._password = f"127.0.0.1:{port}", password
        self._credentials = grpc.ssl_channel_credentials(pathlib.Path(ca).read_bytes())
        self._metadata = (("authorization", authorization),)
        self._told: dict[str, list[float]] = {}
        self._errors: list[str] = []
        self._seen: dict[str, asyncio.Event] = {}
        self._people = 0
        self._name = ""

    async def run(self) -> None:
        """Work, and answer what is measured."""
        async with grpc.aio.secure_channel(self._address, self._credentials) as channel:
            stub: Any = cluster_service_pb2_grpc.ClusterServiceStub(channel)
            made = await stub.CreateCluster(
                service_pb.CreateClusterRequest(), metadata=self._metadata
            )
            self._name = made.name
            work = [
                asyncio.ensure_future(one)
                for one in (
                    self._read(stub),
                    self._create(stub),
                    self._watch(stub),
                    self._sign_in(),
                )
            ]
            print("ready", flush=True)
            while await asyncio.to_thread(sys.stdin.readline):
                self._told, self._errors = {"calls": [], "events": [], "sign_ins": []}, []
                await asyncio.to_thread(sys.stdin.readline)
                print(json.dumps({**self._told, "errors": self._errors}), flush=True)
            for one in work:
                one.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _timed(self, what: str, call: Any) -> Any:
        began = time.perf_counter()
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            self._errors.append(f"{what}: {error.code().name}: {error.details()}")
            return None
        finally:
            self._told.setdefault(what, []).append((time.perf_counter() - began) * 1000)

    async def _read(self, stub: Any) -> None:
        while True:
            request = service_pb.GetClusterRequest(name=self._name)
            await self._timed(
                "calls", stub.GetCluster(request, metadata=self._metadata, timeout=TIMEOUT_S)
            )
            await asyncio.sleep(PAUSE_S)
            await self._timed(
                "calls",
                stub.ListClusters(
                    service_pb.ListClustersRequest(), metadata=self._metadata, timeout=TIMEOUT_S
                ),
            )
            await asyncio.sleep(PAUSE_S)

    async def _create(self, stub: Any) -> None:
        while True:
            wish = service_pb.CreateClusterRequest()
            made = await self._timed(
                "calls", stub.CreateCluster(wish, metadata=self._metadata, timeout=TIMEOUT_S)
            )
            if made is not None:
                began = time.perf_counter()
                seen = self._seen.setdefault(made.uid, asyncio.Event())
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        await seen.wait()
                except TimeoutError:
                    self._errors.append("a created cluster was not watched")
                self._told.setdefault("events", []).append((time.perf_counter() - began) * 1000)
                request = service_pb.StopClusterRequest(name=made.name)
                await self._timed(
                    "calls", stub.StopCluster(request, metadata=self._metadata, timeout=TIMEOUT_S)
                )
            await asyncio.sleep(CREATE_S)

    async def _watch(self, stub: Any) -> None:
        while True:
            try:
                async for told in stub.WatchClusters(
                    service_pb.WatchClustersRequest(), metadata=self._metadata
                ):
                    if told.HasField("event"):
                        self._seen.setdefault(told.event.cluster.uid, asyncio.Event()).set()
            except grpc.aio.AioRpcError as error:
                self._errors.append(f"watch: {error.code().name}: {error.details()}")
                await asyncio.sleep(PAUSE_S)

    async def _sign_in(self) -> None:
        """Others come for the first time; their passwords take a thread's time by design, so they
        are counted apart."""
        while True:
            await asyncio.sleep(SIGN_IN_S)
            self._people += 1
            metadata = (
                ("authorization", basic_credentials(f"guest{self._people % 1000}", self._password)),
            )
            async with grpc.aio.secure_channel(
                self._address, self._credentials, [("grpc.use_local_subchannel_pool", 1)]
            ) as channel:
                stub: Any = cluster_service_pb2_grpc.ClusterServiceStub(channel)
                call = stub.ListClusters(
                    service_pb.ListClustersRequest(),
                    metadata=metadata,
                    timeout=TIMEOUT_S,
                    wait_for_ready=True,
                )
                await self._timed("sign_ins", call)


if __name__ == "__main__":
    asyncio.run(Worker(*sys.argv[1:5]).run())
