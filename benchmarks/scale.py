"""What a server with 10,000 living clusters of 100 users does: 5,000 watches, changes, a restart,
and nothing at all.

`python -m benchmarks.scale [clusters]`. The no-op backend, a SQLite file, sign-in by API tokens and
logging on. Calls and watches go over the server's own socket, but for the first answer after the
restart, which comes through the edge.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import cluster_service_pb2_grpc, credential_service_pb2_grpc
from daskgateway.v1 import credential_service_pb2 as credential_pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from benchmarks import machine, processes
from benchmarks.figures import Samples, last_line, table
from benchmarks.ours import PASSWORD, OurGateway
from benchmarks.watchers import Watchers
from gateway.wire import basic_credentials

CLUSTERS, USERS, WATCHES = 10_000, 100, 5_000
CHANNELS = 4
IN_FLIGHT = 32
CHANGES = 200  # of which the CPU is measured
FANOUT_ROUNDS = 5
RESTARTS = 3
IDLE_S = 60.0
SETTLE_S = 10.0
RATE_S = 10.0  # how long creates, then gets, are sent at their rate
CREATES_A_SECOND, GETS_A_SECOND = 100, 200
LIMIT_S = 120.0
WATCH = "/daskgateway.v1.ClusterService/WatchClusters"
SECTION = "scale"
OURS = "ours"
EXTRA = "c.DaskGateway.max_clusters = 20_000\nc.DaskGateway.max_streams_per_user = 10_000\n"
Stub = cluster_service_pb2_grpc.ClusterServiceStub
Item = TypeVar("Item")


def user_names() -> list[str]:
    """Return the users."""
    return [f"user{number:02}" for number in range(USERS)]


@dataclass(slots=True)
class Room:
    """The server under test, with what its users hold."""

    gateway: OurGateway
    tokens: dict[str, str] = field(default_factory=dict)  # authorization by user
    clusters: dict[str, str] = field(default_factory=dict)  # user by name

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self.gateway.process is not None
        return self.gateway.process.pid

    @property
    def path(self) -> str:
        """The server's own socket."""
        return str(self.gateway.state_dir / "server.sock")

    def metadata(self, user: str) -> tuple[tuple[str, str], ...]:
        """Return what a user's call carries."""
        return (("authorization", self.tokens[user]),)

    def channels(self) -> list[grpc.aio.Channel]:
        """Return connections to call over; a channel carries so many calls at a time, and is one
        connection."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        return [grpc.aio.insecure_channel(f"unix:{self.path}", options) for _ in range(CHANNELS)]


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else CLUSTERS
    print(f"bench-{SECTION}: {machine.described()}")
    print(f"{count:,} living clusters of {USERS} users, no-op backend, SQLite")
    samples = Samples()
    with processes.scratch() as directory, machine.watched() as busy:
        gateway = OurGateway(directory / OURS, noop=True, users=user_names(), extra=EXTRA)
        room = Room(gateway)
        try:
            gateway.start()
            samples.add("creates/s while filling", OURS, asyncio.run(_fill(room, count)))
            figures = _measured(samples, room, min(WATCHES, count // 2))
        finally:
            gateway.stop()
    print(table(samples))
    print(f"the machine was busy with {busy.cores:.2f} cores, this benchmark's own work included")
    print(last_line(SECTION, figures))


def _measured(samples: Samples, room: Room, watches: int) -> dict[str, float]:
    time.sleep(SETTLE_S)
    figures: dict[str, float] = {"idle_cpu_percent": _idle(room), "rss_mib": _rss_mib(room.pid)}
    own = list(room.clusters)[:watches]
    alone_us = statistics.median(
        asyncio.run(_changes(room, list(room.clusters)[-CHANGES:])) for _ in range(3)
    )
    watchers = Watchers(room.path)
    try:
        figures["watches_5000_s"] = _opened(watchers, room, own, own)
        figures["foreign_change_us"] = _foreign(watchers, room, alone_us)
        figures["watches_told"] = _told(watchers, room, own)
    finally:
        watchers.close()
    time.sleep(SETTLE_S)
    figures["fanout_5000_ms"] = _fanout(samples, room, watches)
    time.sleep(SETTLE_S)
    figures |= asyncio.run(_rates(samples, room))
    figures["restart_s"] = _restarts(samples, room)
    figures["change_alone_us"] = alone_us
    for name, value in figures.items():
        if not name.startswith(("fanout", "restart")):
            samples.add(name, OURS, value)
    return figures


async def _fill(room: Room, count: int) -> float:
    """Sign everybody in, and ask for the clusters; return how many were accepted a second."""
    channels = room.channels()
    try:
        credentials = credential_service_pb2_grpc.CredentialServiceStub(channels[0])
        for user in user_names():
            metadata = (("authorization", basic_credentials(user, PASSWORD)),)
            made = await credentials.CreateToken(
                credential_pb.CreateTokenRequest(request_id=str(uuid.uuid4())), metadata=metadata
            )
            room.tokens[user] = f"Bearer {made.secret}"
        began = time.perf_counter()
        await _spread(
            channels,
            range(count),
            lambda stub, number: _create(room, stub, user_names()[number % USERS]),
        )
        return count / (time.perf_counter() - began)
    finally:
        await _close(channels)


async def _create(room: Room, stub: Stub, user: str) -> None:
    request = service_pb.CreateClusterRequest(request_id=str(uuid.uuid4()))
    cluster = await stub.CreateCluster(request, metadata=room.metadata(user))
    room.clusters[cluster.name] = user


async def _spread(
    channels: Sequence[grpc.aio.Channel],
    items: Iterable[Item],
    call: Callable[[Stub, Item], Awaitable[None]],
) -> None:
    """Do something for each item, IN_FLIGHT at a time, over all connections."""
    left = iter(items)

    async def work(stub: Stub) -> None:
        for item in left:
            await call(stub, item)

    await asyncio.gather(
        *(work(Stub(channels[number % len(channels)])) for number in range(IN_FLIGHT))
    )


async def _close(channels: Sequence[grpc.aio.Channel]) -> None:
    for channel in channels:
        await channel.close(None)


def _idle(room: Room) -> float:
    before, began = machine.cpu_s([room.pid]), time.perf_counter()
    time.sleep(IDLE_S)
    return 100 * (machine.cpu_s([room.pid]) - before) / (time.perf_counter() - began)


def _rss_mib(pid: int) -> float:
    with open(f"/proc/{pid}/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


async def _change(room: Room, stub: Stub, name: str) -> None:
    """Change a cluster's label, so that nothing else follows from it."""
    cluster = pb.Cluster(name=name, labels={"changed": uuid.uuid4().hex})
    request = service_pb.UpdateClusterRequest(
        cluster=cluster, update_mask=FieldMask(paths=["labels"]), request_id=str(uuid.uuid4())
    )
    await stub.UpdateCluster(request, metadata=room.metadata(room.clusters[name]))


async def _changes(room: Room, names: Sequence[str]) -> float:
    """Change clusters one after the other; return the server's CPU time of one change, in
    microseconds."""
    channels = room.channels()
    try:
        stub = Stub(channels[0])
        await _change(room, stub, names[0])
        before = machine.cpu_s([room.pid])
        for name in names:
            await _change(room, stub, name)
        return (machine.cpu_s([room.pid]) - before) / len(names) * 1e6
    finally:
        await _close(channels)


def _opened(watchers: Watchers, room: Room, names: Sequence[str], owners: Sequence[str]) -> float:
    """Open a watch of each cluster; return the seconds until all have their first state and their
    bookmark."""
    calls = [
        (
            room.tokens[room.clusters[owner]],
            service_pb.WatchClustersRequest(
                clusters=[name], bookmark_interval=Duration(seconds=600)
            ),
        )
        for name, owner in zip(names, owners)
    ]
    began = time.perf_counter()
    watchers.open(WATCH, calls)
    watchers.until(lambda: sum(count >= 2 for count in watchers.counts()) == len(calls), LIMIT_S)
    return time.perf_counter() - began


def _foreign(watchers: Watchers, room: Room, alone_us: float) -> float:
    """Return what a change costs more while watches are open that did not ask for it."""
    watchers.read_for(SETTLE_S)
    before = watchers.events
    found = [asyncio.run(_changes(room, list(room.clusters)[-CHANGES:])) for _ in range(3)]
    watchers.read_for(1.0)
    if watchers.events != before:
        raise RuntimeError("a watch was told of a cluster that it did not ask for")
    return statistics.median(found) - alone_us


def _told(watchers: Watchers, room: Room, names: Sequence[str]) -> float:
    """Change every watched cluster once; return how many watches were told."""
    before = watchers.counts()

    async def change_all() -> None:
        channels = room.channels()
        try:
            await _spread(channels, names, lambda stub, name: _change(room, stub, name))
        finally:
            await _close(channels)

    asyncio.run(change_all())
    try:
        watchers.until(
            lambda: all(now > then for now, then in zip(watchers.counts(), before)), 30.0
        )
    except TimeoutError as error:
        print(error)
    return sum(now > then for now, then in zip(watchers.counts(), before))


def _fanout(samples: Samples, room: Room, watches: int) -> float:
    """Watch one cluster by many, and change it; return the median of ms until the last one is
    told."""
    name = next(iter(room.clusters))
    watchers = Watchers(room.path)
    try:
        _opened(watchers, room, [name] * watches, [name] * watches)
        watchers.read_for(SETTLE_S)
        for _ in range(FANOUT_ROUNDS):
            before = watchers.events
            with grpc.insecure_channel(f"unix:{room.path}") as channel:
                grpc.channel_ready_future(channel).result(10)
                stub = Stub(channel)
                cluster = pb.Cluster(name=name, labels={"changed": uuid.uuid4().hex})
                update = service_pb.UpdateClusterRequest(
                    cluster=cluster, update_mask=FieldMask(paths=["labels"])
                )
                began = time.perf_counter()
                pending = stub.UpdateCluster.future(
                    update, metadata=room.metadata(room.clusters[name])
                )
                watchers.until(lambda before=before: watchers.events - before >= watches, LIMIT_S)  # type: ignore[misc]
                samples.add("fan-out of one change, ms", OURS, (time.perf_counter() - began) * 1000)
                pending.result(LIMIT_S)
            watchers.read_for(1.0)
    finally:
        watchers.close()
    return samples.median("fan-out of one change, ms", OURS)


async def _rates(samples: Samples, room: Room) -> Mapping[str, float]:
    """Send creates, then gets, at a rate that does not wait for answers; return the 99th
    percentiles."""
    channels = room.channels()
    names = list(room.clusters)
    try:
        stubs = [Stub(channel) for channel in channels]

        async def create(number: int) -> None:
            await _create(room, stubs[number % CHANNELS], user_names()[number % USERS])

        async def get(number: int) -> None:
            name = names[(number * 7919) % len(names)]
            await stubs[number % CHANNELS].GetCluster(
                service_pb.GetClusterRequest(name=name), metadata=room.metadata(room.clusters[name])
            )

        creates = await _at_a_rate(create, CREATES_A_SECOND)
        await asyncio.sleep(SETTLE_S)
        gets = await _at_a_rate(get, GETS_A_SECOND)
        lists = await _at_a_rate(lambda number: _list(room, stubs[number % CHANNELS], number), 10)
    finally:
        await _close(channels)
    return {"create_p99_ms": _p99(creates), "get_p99_ms": _p99(gets), "list_p99_ms": _p99(lists)}


async def _list(room: Room, stub: Stub, number: int) -> None:
    await stub.ListClusters(
        service_pb.ListClustersRequest(page_size=100),
        metadata=room.metadata(user_names()[number % USERS]),
    )


async def _at_a_rate(call: Callable[[int], Awaitable[None]], a_second: int) -> list[float]:
    """Return the ms of each call; one begins every 1/a_second, whether the others have ended or
    not."""
    took: list[float] = []

    async def one(number: int) -> None:
        began = time.perf_counter()
        await call(number)
        took.append((time.perf_counter() - began) * 1000)

    began, tasks = time.perf_counter(), []
    for number in range(int(RATE_S * a_second)):
        await asyncio.sleep(max(0.0, began + number / a_second - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number)))
    await asyncio.gather(*tasks)
    return took


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def _restarts(samples: Samples, room: Room) -> float:
    """Kill the server and start it again; return the median of seconds until the first answer
    through the edge."""
    for _ in range(RESTARTS):
        assert room.gateway.process is not None
        room.gateway.process.kill()
        room.gateway.process.wait()
        began = time.perf_counter()
        room.gateway.launch()
        while not room.gateway.answers():
            if time.perf_counter() - began > LIMIT_S:
                raise TimeoutError("the server does not answer after its restart")
            time.sleep(0.02)
        samples.add("restart until the first answer, s", OURS, time.perf_counter() - began)
        time.sleep(SETTLE_S)
    return samples.median("restart until the first answer, s", OURS)


if __name__ == "__main__":
    main()
