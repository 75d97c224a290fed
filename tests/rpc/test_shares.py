"""Whose calls are worked on when there are too many, and where each call comes from."""

from __future__ import annotations

import asyncio
import logging
import pathlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from daskgateway.v1 import cluster_service_pb2 as service_pb
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.proxy.http2.frames import DATA
from gateway.server.rpc.limits import MAX_OPEN_STREAMS, MAX_OPEN_STREAMS_PER_ADDRESS
from gateway.server.rpc.peers import HERE, Peer, peer_of
from gateway.wire import EDGE_CALLER, EDGE_TOKEN, caller_of_peer, relayed_peer
from tests.proxy.by_hand import GREETING, LIST, Client, body, head, opening
from tests.rpc.harness import Harness, as_
from tests.rpc.test_clusters import create, details, reason
from tests.waiting import comes

WHO = service_pb.ListClustersRequest()


class Slow:
    """A database that does not answer until told to."""

    def __init__(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.answers = 0, asyncio.Event()
        transact = harness.store.transact

        async def slow(fn: Any) -> Any:
            self.asked += 1
            await self.answers.wait()
            return await transact(fn)

        monkeypatch.setattr(harness.store, "transact", slow)


async def test_one_user_takes_no_more_than_a_share_and_others_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = Harness(max_calls=20, max_calls_per_user=5)
    await harness.start()
    try:
        database = Slow(harness, monkeypatch)
        begun = [
            asyncio.ensure_future(
                harness.clusters.CreateCluster(create(f"c{n}"), metadata=as_("alice"))
            )
            for n in range(15)
        ]
        await comes(lambda: sum(one.done() for one in begun) == 5)  # five are worked on, five wait
        assert database.asked == 5
        refusals = [one.exception() for one in begun if one.done()]
        for refusal in refusals:
            assert isinstance(refusal, grpc.aio.AioRpcError)
            assert reason(refusal) == "OVERLOADED"
            assert "5 calls of yours are being worked on" in (refusal.details() or "")
            assert details(refusal)["RetryInfo"].retry_delay.seconds == 1
        await harness.clusters.ListClusters(WHO, metadata=as_("bob"), timeout=20)
        database.answers.set()
        made = await asyncio.gather(*begun, return_exceptions=True)
        assert sum(not isinstance(one, BaseException) for one in made) == 10
    finally:
        await harness.stop()


async def test_when_all_places_are_taken_users_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(max_calls=4, max_calls_per_user=4)
    await harness.start()
    try:
        database = Slow(harness, monkeypatch)
        greedy = [
            asyncio.ensure_future(
                harness.clusters.CreateCluster(create(f"c{n}"), metadata=as_("alice"))
            )
            for n in range(8)
        ]
        await comes(lambda: database.asked == 4)
        modest = asyncio.ensure_future(
            harness.clusters.ListClusters(WHO, metadata=as_("bob"), timeout=30)
        )
        await asyncio.sleep(0)
        assert not modest.done()
        database.answers.set()
        await modest
        await asyncio.gather(*greedy)
    finally:
        await harness.stop()


async def test_an_address_that_does_not_sign_in_cannot_use_up_what_there_is_for_all_who_do_not(
    harness: Harness,
) -> None:
    stub = health_pb2_grpc.HealthStub(harness.channel)
    request = health_pb2.HealthCheckRequest()

    def watch(address: str) -> Any:
        return stub.Watch(request, metadata=((EDGE_TOKEN, "edge"), (EDGE_CALLER, address)))

    watches = [watch("192.0.2.1") for _ in range(MAX_OPEN_STREAMS_PER_ADDRESS)]
    for one in watches:
        await one.read()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await watch("192.0.2.1").read()
    assert reason(refused.value) == "OVERLOADED"
    more = [
        watch(f"198.51.100.{n}") for n in range(MAX_OPEN_STREAMS - MAX_OPEN_STREAMS_PER_ADDRESS)
    ]
    for one in more:
        await one.read()
    another = grpc.aio.insecure_channel(
        f"127.0.0.1:{harness.port}", [("grpc.use_local_subchannel_pool", 1)]
    )
    with pytest.raises(grpc.aio.AioRpcError):
        await (
            health_pb2_grpc.HealthStub(another)
            .Watch(request, metadata=((EDGE_TOKEN, "edge"), (EDGE_CALLER, "203.0.113.1")))
            .read()
        )
    await another.close(None)
    for one in [*watches, *more]:
        one.cancel()


# Where a call comes from


@pytest.mark.parametrize(
    ("told", "metadata", "peer"),
    [
        ("ipv4:192.0.2.1:4711", {}, Peer("192.0.2.1:4711", "192.0.2.1")),
        ("ipv6:%5B2001:db8::7%5D:4711", {}, Peer("[2001:db8::7]:4711", "2001:db8::/64")),
        ("ipv6:[2001:db8::7]:4711", {}, Peer("[2001:db8::7]:4711", "2001:db8::/64")),
        ("unix:", {}, Peer(HERE, HERE)),
        (
            "unix-abstract:daskgateway-edge/a-1/203.0.113.7/99",
            {},
            Peer("203.0.113.7:99", "203.0.113.7"),
        ),
        (
            "unix-abstract:daskgateway-edge/a-1/2001:db8::7/99",
            {},
            Peer("[2001:db8::7]:99", "2001:db8::/64"),
        ),
        ("unix-abstract:something/else", {}, Peer(HERE, HERE)),
        ("unix-abstract:daskgateway-edge/a-1//", {}, Peer(HERE, HERE)),
        (
            "unix:",
            {EDGE_TOKEN: "good", EDGE_CALLER: "203.0.113.7"},
            Peer("203.0.113.7", "203.0.113.7"),
        ),
        ("unix:", {EDGE_TOKEN: "good", EDGE_CALLER: "junk"}, Peer(HERE, HERE)),
        (
            "ipv4:192.0.2.1:1",
            {EDGE_TOKEN: "bad", EDGE_CALLER: "203.0.113.7"},
            Peer("192.0.2.1:1", "192.0.2.1"),
        ),
        ("ipv4:192.0.2.1:1", {EDGE_CALLER: "203.0.113.7"}, Peer("192.0.2.1:1", "192.0.2.1")),
    ],
)
def test_a_caller_is_where_the_kernel_or_an_edge_says(
    told: str, metadata: dict[str, str], peer: Peer
) -> None:
    assert peer_of(told, metadata, lambda token: token == "good") == peer


@pytest.mark.parametrize(
    "host_port", [("203.0.113.7", 99), ("2001:db8::7", 65535), ("::ffff:10.0.0.1", 1)]
)
def test_the_name_of_an_edges_end_tells_the_caller(host_port: tuple[str, int]) -> None:
    name = relayed_peer("0123abcd-1000000", *host_port)
    assert len(name.encode()) <= 107
    assert caller_of_peer("unix-abstract:" + name[1:]) == host_port


@pytest.fixture
async def reached(tmp_path: pathlib.Path) -> AsyncIterator[Harness]:
    """A server with a socket of its own."""
    made = Harness(own_socket=f"{tmp_path}/s")
    await made.start()
    yield made
    await made.stop()


async def test_the_true_peer_stands_in_the_log(
    reached: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    harness = reached
    caplog.set_level(logging.INFO, "gateway.server.calls")
    end = socket.socket(socket.AF_UNIX)
    end.bind(relayed_peer("x-1", "203.0.113.7", 99))
    end.connect(reached.own_socket)
    end.setblocking(False)
    client = Client(*await asyncio.open_unix_connection(sock=end))
    client.send(GREETING, opening(1, head(LIST, "Bearer alice")), body(1))
    await client.until(DATA, 1)
    await comes(lambda: "peer=203.0.113.7:99" in caplog.text)
    client.close()
    for token, shown in (("edge", "203.0.113.8"), ("guess", "127.0.0.1:")):
        told = ((EDGE_TOKEN, token), (EDGE_CALLER, "203.0.113.8"))
        await harness.clusters.ListClusters(WHO, metadata=(*as_("alice"), *told))
        await comes(lambda shown=shown: f"peer={shown}" in caplog.records[-1].getMessage())  # type: ignore[misc]
    assert "guess" not in caplog.text
