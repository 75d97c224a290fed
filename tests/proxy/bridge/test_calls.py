"""The API over HTTP/1.1: unary calls in Connect's shape."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from typing import Any

import aiohttp
import pytest
from daskgateway.v1 import cluster_pb2
from daskgateway.v1 import cluster_service_pb2 as pb
from google.protobuf import json_format

from gateway.client.calls import errors, http_calls
from gateway.proxy.http import bridge, transcoding
from gateway.server.core.errors import CredentialsInvalid
from tests.proxy.bridge.calling import LIST, changed
from tests.proxy.served import ALICE, BOB, Served
from tests.waiting import comes

PACKED = {"Content-Type": "application/proto", "Content-Encoding": "gzip"}
JSON = {"Content-Type": "application/json"}


def nested_lists(depth: int) -> bytes:
    """Return a request whose options are lists in lists."""
    return b'{"cluster":{"spec":{"options":{"a":' + b"[" * depth + b"]" * depth + b"}}}}"


async def test_unary_calls_are_json_or_binary_plain_or_packed(served: Served) -> None:
    url = f"{served.address}{served.prefix}{LIST}"
    body = pb.ListClustersRequest(page_size=7).SerializeToString()
    async with aiohttp.ClientSession(headers={"Authorization": ALICE}) as caller:
        async with caller.post(
            url, json={"pageSize": 7}, headers={"Connect-Protocol-Version": "1"}
        ) as answer:
            assert (answer.status, answer.content_type) == (200, "application/json")
            assert (await answer.json())["nextPageToken"] == "more"
        async with caller.post(
            url, data=body, headers={"Content-Type": "application/proto"}
        ) as answer:
            assert (answer.status, answer.content_type) == (200, "application/proto")
            assert pb.ListClustersResponse.FromString(await answer.read()).next_page_token == "more"
        packed = {"Content-Type": "application/proto", "Content-Encoding": "gzip"}
        async with caller.post(url, data=gzip.compress(body), headers=packed) as answer:
            assert answer.status == 200
    assert [request.page_size for request in served.clusters.requests] == [7, 7, 7]


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({"Content-Type": "application/json"}, b'{"pageSize": "x"}', 400, "invalid_argument"),
        ({"Content-Type": "application/json"}, b"\xff", 400, "invalid_argument"),
        ({"Content-Type": "application/json"}, b'{"a":' * 1000, 400, "invalid_argument"),
        ({"Content-Type": "application/proto"}, b"\xff\xff", 400, "invalid_argument"),
        ({"Content-Type": "image/png"}, b"", 415, "invalid_argument"),
        (
            {"Content-Type": "application/proto", "Content-Encoding": "br"},
            b"x",
            415,
            "unimplemented",
        ),
        (
            {"Content-Type": "application/proto", "Content-Encoding": "gzip"},
            b"x",
            400,
            "invalid_argument",
        ),
        (PACKED, gzip.compress(b"\0" * 9_000_000, mtime=0), 413, "resource_exhausted"),
        (PACKED, gzip.compress(b"abcdef", mtime=0)[:-5], 400, "invalid_argument"),
        (
            {"Content-Type": "application/json", "Connect-Protocol-Version": "2"},
            b"{}",
            400,
            "invalid_argument",
        ),
        (JSON, nested_lists(5_000), 400, "invalid_argument"),
        (JSON, b"{}" + b" " * bridge.MAX_JSON_BYTES, 413, "resource_exhausted"),
        (
            {**JSON, "Content-Encoding": "gzip"},
            gzip.compress(b" " * 65_537, mtime=0),
            413,
            "resource_exhausted",
        ),
        ({"Content-Type": "text/plain"}, b" " * 1_000_000, 413, "resource_exhausted"),
    ],
)
async def test_what_cannot_be_read_is_told_in_connects_shape(
    served: Served, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    async with aiohttp.ClientSession(
        auto_decompress=False, headers={"Authorization": ALICE}
    ) as caller:
        async with caller.post(
            f"{served.address}{served.prefix}{LIST}", data=body, headers=headers
        ) as answer:
            assert answer.status == status
            told = await answer.json()
            assert told["code"] == code
            assert told["message"]
    assert served.clusters.requests == []


async def test_a_large_body_is_json_up_to_its_limit_and_more_in_binary(served: Served) -> None:
    url = f"{served.address}{served.prefix}{LIST}"
    async with aiohttp.ClientSession(headers={"Authorization": ALICE}) as caller:
        whole = b'{"pageSize": 7}'
        async with caller.post(
            url, data=whole + b" " * (bridge.MAX_JSON_BYTES - len(whole)), headers=JSON
        ) as answer:
            assert answer.status == 200
        large = pb.ListClustersRequest(page_size=7, parent="x" * 500_000).SerializeToString()
        async with caller.post(
            url, data=large, headers={"Content-Type": "application/proto"}
        ) as answer:
            assert answer.status == 200
    assert [request.page_size for request in served.clusters.requests] == [7, 7]


@pytest.mark.parametrize(
    "authorization", ["", "Authorization: \r\n", f"Authorization: Bearer {'x' * 7000}é\r\n"]
)
async def test_who_shows_no_credentials_is_answered_as_by_the_server_before_the_body(
    served: Served, authorization: str
) -> None:
    head = (
        f"POST {served.prefix}{LIST} HTTP/1.1\r\nHost: x\r\nContent-Type:"
        f" application/json\r\nContent-Length: 60000\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(f"{head}{authorization}\r\n".encode())
    async with asyncio.timeout(5):
        told = (await reader.readuntil(b"\r\n\r\n")).decode()
        body = await reader.readexactly(
            int(told.lower().partition("content-length: ")[2].partition("\r\n")[0])
        )
    writer.close()
    assert told.startswith("HTTP/1.1 401 ")
    assert 'WWW-Authenticate: Bearer realm="daskgateway"' in told
    error = http_calls.failure(401, body)
    assert isinstance(error, errors.AuthenticationFailed)
    assert str(error) == " ".join((CredentialsInvalid.__doc__ or "").split())
    assert error.reason == CredentialsInvalid.reason
    assert served.clusters.requests == []


async def test_large_json_is_read_beside_the_event_loop_and_little_at_a_time(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, here, where = json_format.Parse, threading.get_ident(), []
    now, most, lock = 0, 0, threading.Lock()

    def parse(text: str, *rest: Any, **named: Any) -> Any:
        nonlocal now, most
        where.append((len(text) > transcoding.SMALL_BYTES, threading.get_ident() == here))
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05 if len(text) > transcoding.SMALL_BYTES else 0.0)
        with lock:
            now -= 1
        return real(text, *rest, **named)

    monkeypatch.setattr(json_format, "Parse", parse)
    url = f"{served.address}{served.prefix}{LIST}"
    async with aiohttp.ClientSession(headers={"Authorization": ALICE, **JSON}) as caller:

        async def ask(body: bytes) -> int:
            async with caller.post(url, data=body) as answer:
                return answer.status

        assert (
            await asyncio.gather(
                *(ask(b"{}" + b" " * (10_000 if large else 10)) for large in (True, False) * 6)
            )
            == [200] * 12
        )
    assert sorted(where) == [(False, True)] * 6 + [(True, False)] * 6
    assert most <= transcoding.MOST_PARSED + 1  # and a small one


async def test_large_answers_are_written_beside_the_event_loop_and_small_ones_on_it(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, here, where = json_format.MessageToJson, threading.get_ident(), []

    def write(message: Any, **named: Any) -> str:
        where.append(threading.get_ident() == here)
        return real(message, **named)

    monkeypatch.setattr(json_format, "MessageToJson", write)
    async with aiohttp.ClientSession(headers={"Authorization": ALICE}) as caller:
        for count in (1, 100):
            served.clusters.clusters = [
                cluster_pb2.Cluster(name="users/alice/clusters/" + "x" * 200)
            ] * count
            async with caller.post(f"{served.address}{served.prefix}{LIST}", json={}) as answer:
                assert len((await answer.json())["clusters"]) == count
        large = cluster_pb2.Cluster(name="x" * 20_000)
        served.clusters.script = [
            changed(1),
            pb.WatchClustersResponse(revision=2, event=pb.WatchEvent(cluster=large)),
        ]
        async with caller.get(f"{served.address}{served.prefix}/v1/watch") as answer:
            told = await answer.read()
    assert told.count(b"id: ") == 2
    assert b"x" * 20_000 in told
    assert where == [True, False, True, False]


@pytest.mark.parametrize("written", [False, True])
async def test_who_would_wait_behind_too_many_is_told_to_come_again(
    served: Served, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    go_on = threading.Event()
    name, most = "MessageToJson" if written else "Parse", 1  # of one caller
    real = getattr(json_format, name)

    def held(*words: Any, **named: Any) -> Any:
        go_on.wait(30)
        return real(*words, **named)

    monkeypatch.setattr(json_format, name, held)
    monkeypatch.setattr(transcoding, "MOST_WAITING", 3)
    served.clusters.clusters = [cluster_pb2.Cluster(name="x" * 20_000)] * written
    body = b"{}" + b" " * (0 if written else 10_000)
    async with aiohttp.ClientSession(headers={"Authorization": ALICE, **JSON}) as caller:

        async def ask() -> tuple[int, Any, str]:
            async with caller.post(f"{served.address}{served.prefix}{LIST}", data=body) as answer:
                return (
                    answer.status,
                    (await answer.json()).get("code"),
                    answer.headers.get("Retry-After", ""),
                )

        asking = {asyncio.ensure_future(ask()) for _ in range(most + 3 + 2)}
        refused: set[Any] = set()
        try:
            async with asyncio.timeout(10):
                while len(refused) < 2:
                    done, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
                    refused |= done
        finally:
            go_on.set()
        assert [await one for one in refused] == [(503, "unavailable", "1")] * 2
        assert await asyncio.gather(*asking) == [(200, None, "")] * (most + 3)
        assert (await ask())[0] == 200  # there is room again


async def test_who_has_much_json_read_keeps_nobody_else_waiting(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    real = json_format.Parse

    def held(text: str, *words: Any, **named: Any) -> Any:
        if "slow" in text:
            go_on.wait(30)
        return real(text, *words, **named)

    monkeypatch.setattr(json_format, "Parse", held)
    url = f"{served.address}{served.prefix}{LIST}"
    async with aiohttp.ClientSession(headers=JSON) as caller:
        async with caller.post(url, data=b"{}", headers={"Authorization": ALICE}) as answer:
            assert answer.status == 200  # from now on she is known

        async def slow() -> int:
            body = b'{"pageToken": "slow"}' + b" " * 10_000
            async with caller.post(url, data=body, headers={"Authorization": ALICE}) as answer:
                return answer.status

        greedy = [asyncio.ensure_future(slow()) for _ in range(20)]
        try:
            await comes(lambda: served.edge.admission.present >= 20)
            async with asyncio.timeout(10):
                async with caller.post(
                    url, data=b"{}" + b" " * 10_000, headers={"Authorization": BOB}
                ) as answer:
                    assert answer.status == 200
        finally:
            go_on.set()
        await asyncio.gather(*greedy)
