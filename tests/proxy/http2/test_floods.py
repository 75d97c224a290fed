"""Floods over HTTP/2 are the flooder's own."""

from __future__ import annotations

import asyncio
import pathlib
import struct
import time

import aiohttp
import grpc
import pytest
from daskgateway.v1 import cluster_service_pb2 as pb

from gateway.proxy.http2.frames import (
    CONTINUATION,
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    frame,
    settings,
)
from tests.proxy.by_hand import GREETING, LIST, Client, body, call, head, message, opening
from tests.proxy.http2.calls import Beside, listed
from tests.proxy.served import ALICE, BOB, Served, serving
from tests.waiting import comes

FLOODS = {
    "heads without bodies": lambda: b"".join(opening(n) for n in range(1, 40_001, 2)),
    "large heads": lambda: b"".join(
        opening(n, head(more=[("x", "y" * 12_000)])) for n in range(1, 2001, 2)
    ),
    "resets": lambda: b"".join(
        opening(n) + frame(RST_STREAM, 0, n, struct.pack(">I", 8)) for n in range(1, 20_001, 2)
    ),
    "continuations": lambda: (
        frame(HEADERS, 0, 1, head()) + frame(CONTINUATION, 0, 1, bytes(16_000)) * 1000
    ),
    "pings": lambda: call(1) + frame(PING, 0, 0, bytes(8)) * 50_000,
    "settings": lambda: call(1) + settings({4: 65_535}) * 50_000,
    "empty": lambda: opening(1) + frame(DATA, 0, 1) * 50_000,
    "bodies without end": lambda: b"".join(
        opening(n) + body(n, b"\0\0\x30\0\0" + bytes(15_000), ends=False) * 15
        for n in range(1, 399, 2)
    ),
    "bodies of what is over": lambda: call(1, ALICE) + body(1, bytes(16_000), ends=False) * 1000,
}


@pytest.mark.parametrize("what", FLOODS)
async def test_a_flood_on_one_connection_ends_it_and_others_do_not_feel_it(
    tmp_path: pathlib.Path, what: str
) -> None:
    async with serving(tmp_path, message_timeout_s=1.0) as served:
        await _flooded(served, FLOODS[what]())


async def _flooded(served: Served, flood: bytes) -> None:
    async with Beside(served) as beside:
        client = await Client.connect(served.port)
        client.send(GREETING, flood)
        frames = await client.rest(30)
        ends = [payload for kind, _, _, payload in frames if kind == GOAWAY]
        assert not ends or struct.unpack(">I", ends[-1][4:8])[0] != 0
        client.close()
        await comes(lambda: len(beside.took_s) > 20)
    assert served.edge.counts.cut_sessions == 1
    assert sorted(beside.took_s)[len(beside.took_s) // 2] < 0.1
    # the user's own may close later
    await comes(lambda: len(served.edge.http2.sessions) <= 1 and not served.edge.http2._seated)


async def test_calls_that_nobody_signed_are_few_at_a_time_and_those_of_users_are_not_kept_waiting(
    served: Served,
) -> None:
    """Whole calls as fast as they go, on many connections, which no rule forbids."""
    async with Beside(served) as beside:
        crowd = [await Client.connect(served.port) for _ in range(20)]
        calls = b"".join(
            call(n, "Basic bm86Ym9keQ==", "/daskgateway.v1.CredentialService/X")
            for n in range(1, 301, 2)
        )
        for client in crowd:
            client.send(GREETING, calls)
        await comes(lambda: len(beside.took_s) > 30)
        assert len(served.edge.http2._seated) <= 32 + 24
        for client in crowd:
            client.close()
    assert sorted(beside.took_s)[len(beside.took_s) // 2] < 0.1
    await comes(lambda: len(served.edge.http2.sessions) <= 1)


async def test_who_waits_for_a_place_among_strangers_gets_that_of_one_who_sends_no_body(
    served: Served,
) -> None:
    crowd = [await Client.connect(served.port) for _ in range(12)]
    for client in crowd:
        client.send(GREETING, opening(1))
    await comes(lambda: len(served.edge.http2._seated) == 12)
    began = time.perf_counter()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{served.port}") as channel:
        assert await listed(channel) == "more"
    assert time.perf_counter() - began < 10  # the others' own time is 20 s
    for client in crowd:
        client.close()


async def test_a_body_that_does_not_come_in_time_ends_its_connection(
    tmp_path: pathlib.Path,
) -> None:
    async with serving(tmp_path, message_timeout_s=0.3) as served:
        client = await Client.connect(served.port)
        client.send(GREETING, opening(1), body(1, message(100)[:50], ends=False))
        frames = await client.rest()
        assert b"not whole after 0.3 s" in frames[-1][3]


@pytest.mark.parametrize(
    "sent",
    [
        GREETING[:10],
        GREETING,
        GREETING + frame(HEADERS, 0, 1, head()),
        GREETING + frame(SETTINGS, 1, 0),
    ],
)
async def test_who_asks_for_nothing_is_let_go_in_time(
    tmp_path: pathlib.Path, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.proxy.http2 import connections as http2

    monkeypatch.setattr(http2, "LOOK_AT_ALL", 1)
    async with serving(tmp_path, header_timeout_s=0.3, hello_timeout_s=0.3) as served:
        client = await Client.connect(served.port)
        client.send(sent)
        await client.rest()
        await comes(lambda: not served.edge.admission.present)


async def test_more_streams_than_one_connection_takes_do_not_keep_calls_over_http_waiting(
    served: Served,
) -> None:
    served.clusters.script = [pb.WatchClustersResponse(revision=1), *[None] * 60]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        streams = [
            client.get(f"{served.address}/v1/watch", headers={"Authorization": BOB})
            for _ in range(250)
        ]
        answers = await asyncio.gather(*streams)
        assert {answer.status for answer in answers} == {200}
        async with client.post(
            f"{served.address}{LIST}", json={}, headers={"Authorization": ALICE}
        ) as answer:
            assert answer.status == 200
        for answer in answers:
            answer.close()
