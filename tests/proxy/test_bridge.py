"""The API over HTTP/1.1: unary calls in Connect's shape, streams as server-sent events, and the
client that speaks both."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import pathlib
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest
from daskgateway.v1 import cluster_pb2, credential_service_pb2, credential_service_pb2_grpc
from daskgateway.v1 import cluster_service_pb2 as pb
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

from gateway.client.calls import api, errors, http_calls
from gateway.client.calls.channel import Connection
from gateway.client.calls.settings import BasicAuth, Settings, load, normalized
from gateway.proxy.http import bridge, events, transcoding
from gateway.server.core.errors import CredentialsInvalid
from gateway.wire import SIGN_IN_OPTIONS, basic_credentials
from tests.proxy.served import ALICE, BOB, UID, Served, raw, serving
from tests.waiting import comes

PREFIX = "/services/daskgateway"
LIST = "/daskgateway.v1.ClusterService/ListClusters"
PACKED = {"Content-Type": "application/proto", "Content-Encoding": "gzip"}
JSON = {"Content-Type": "application/json"}


def nested_lists(depth: int) -> bytes:
    """Return a request whose options are lists in lists."""
    return b'{"cluster":{"spec":{"options":{"a":' + b"[" * depth + b"]" * depth + b"}}}}"


@pytest.fixture(params=["", PREFIX])
async def served(tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    """An edge whose server answers calls, below a prefix or not."""
    async with serving(tmp_path, prefix=request.param) as made:
        yield made


def changed(revision: int) -> pb.WatchClustersResponse:
    """Return a change."""
    event = pb.WatchEvent(
        type=pb.WATCH_EVENT_TYPE_MODIFIED,
        cluster=cluster_pb2.Cluster(name="users/alice/clusters/é\n"),
    )
    return pb.WatchClustersResponse(revision=revision, event=event)


def connection(served: Served, transport: str = "http") -> Connection:
    """Return a client's connection over HTTP."""
    return Connection(
        Settings(
            f"{served.address}{served.prefix}",
            BasicAuth("alice", "wonderland"),
            transport=transport,
            retry_s=0.0,
        )
    )


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


async def test_a_watch_is_events_that_resume_and_stay_alive(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "KEEPALIVE_S", 0.1)
    goodbye = pb.WatchClustersResponse(
        revision=9, goodbye=pb.Goodbye(reason="r", retry_delay=Duration(seconds=2))
    )
    bookmark = pb.WatchClustersResponse(
        revision=7, bookmark=pb.Bookmark(initial_state_complete=True)
    )
    served.clusters.script = [bookmark, None, changed(8), goodbye]
    async with aiohttp.ClientSession(headers={"Authorization": ALICE}) as caller:
        url = f"{served.address}{served.prefix}/v1/watch?parent=users/-&clusters=a&clusters=b&start_revision=1"  # noqa: E501
        async with caller.get(url, headers={"Last-Event-ID": "5"}) as answer:
            assert (answer.status, answer.content_type) == (200, "text/event-stream")
            text = (await answer.read()).decode()
    (asked,) = served.clusters.requests
    assert (asked.start_revision, asked.parent, list(asked.clusters)) == (5, "users/-", ["a", "b"])
    assert text.count(": still here\n\n") >= 2
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    assert [block.partition("data: ")[0] for block in blocks] == [
        "id: 7\nevent: bookmark\n",
        "id: 8\nevent: modified\n",
        "id: 9\nretry: 2000\nevent: goodbye\n",
    ]
    assert (
        json.loads(blocks[1].partition("data: ")[2])["event"]["cluster"]["name"]
        == "users/alice/clusters/é\n"
    )


async def test_a_stream_that_fails_says_so_by_status_or_by_event(served: Served) -> None:
    url = f"{served.address}{served.prefix}/v1/watch"
    async with aiohttp.ClientSession() as caller:
        served.clusters.script = [grpc.StatusCode.OUT_OF_RANGE]
        async with caller.get(url) as answer:
            assert (answer.status, (await answer.json())["code"]) == (400, "out_of_range")
        served.clusters.script = [changed(1), grpc.StatusCode.UNAVAILABLE]
        async with caller.get(url) as answer:
            last = (await answer.read()).decode().split("\n\n")[-2]
            assert last.startswith("event: error\ndata: ")
            assert json.loads(last.partition("data: ")[2])["code"] == "unavailable"
        for wrong in ("-1", "x", "1" * 19, "²"):
            async with caller.get(url, headers={"Last-Event-ID": wrong}) as answer:
                assert answer.status == 400
        for wrong in ("-1", "1" * 10, "²"):
            async with caller.get(
                f"{served.address}{served.prefix}/v1/logs", params={"tail_lines": wrong}
            ) as answer:
                assert answer.status == 400


@pytest.mark.parametrize("patience", ["²", "-1", "1" * 11])
async def test_a_patience_that_is_no_number_is_passed_over(served: Served, patience: str) -> None:
    async with aiohttp.ClientSession(
        headers={"Authorization": ALICE, "Connect-Timeout-Ms": patience}
    ) as caller:
        async with caller.post(f"{served.address}{served.prefix}{LIST}", json={}) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("path", ["/v1/watch", "/v1/logs?name=n", f"/tunnel/{UID}"])
async def test_streams_have_no_head(served: Served, path: str) -> None:
    """What follows the answer on a kept connection must be the next answer, not a body that HEAD
    cannot have."""
    served.clusters.script = [changed(1), changed(2)]
    again = f"GET {served.prefix}/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    upgrade = (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version:"
        " 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    head = (
        f"HEAD {served.prefix}{path} HTTP/1.1\r\nHost: x\r\nAuthorization:"
        f" {ALICE}\r\n{upgrade if 'tunnel' in path else ''}\r\n"
    )
    first, _, rest = (await raw(served.port, (head + again).encode())).partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 501 ")
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"data:" not in rest
    assert served.clusters.requests == []


async def test_the_client_watches_and_reads_logs_over_http(served: Served) -> None:
    served.clusters.script = [changed(1), changed(2), grpc.StatusCode.UNAVAILABLE]
    seen = []

    def watch() -> None:
        request = pb.WatchClustersRequest(start_revision=4, clusters=["a/é", "b&c"])
        with connection(served).stream(api.WATCH_CLUSTERS, request) as stream:
            for told in stream:
                seen.append(told)

    with pytest.raises(errors.Unavailable):
        await asyncio.to_thread(watch)
    assert seen == [changed(1), changed(2)]
    assert (
        served.clusters.requests[0].start_revision,
        list(served.clusters.requests[0].clusters),
    ) == (4, ["a/é", "b&c"])

    def logs() -> list[pb.StreamLogsResponse]:
        request = pb.StreamLogsRequest(name="n", instances=["i"], tail_lines=3, follow=True)
        with connection(served).stream(api.STREAM_LOGS, request) as stream:
            return list(stream)

    served.clusters.script = [pb.StreamLogsResponse(instance="scheduler", text="a\nb: c\r\n")]
    assert await asyncio.to_thread(logs) == served.clusters.script
    asked = served.clusters.requests[1]
    assert (asked.name, list(asked.instances), asked.tail_lines, asked.follow) == (
        "n",
        ["i"],
        3,
        True,
    )


async def test_a_stream_over_http_is_ended_from_another_thread(served: Served) -> None:
    served.clusters.script = [changed(1), *[None] * 1000]
    begun = threading.Event()

    def watch() -> None:
        request = pb.WatchClustersRequest()
        with connection(served).stream(api.WATCH_CLUSTERS, request) as stream:
            next(stream)
            threading.Thread(target=lambda: (begun.wait(), stream.close())).start()
            begun.set()
            with contextlib.suppress(errors.Unavailable):  # or the end of the stream, as it happens
                assert next(stream, None) is None

    await asyncio.to_thread(watch)


async def test_where_grpc_does_not_pass_calls_go_over_http(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP/2 is closed on here, as a proxy that knows only HTTP/1.1 would fail it."""
    from gateway.client.calls import channel

    monkeypatch.setattr(served.edge.http2, "begin", lambda session: session.transport.abort())
    channel._http_until.clear()
    asking = connection(served, "auto")
    request = pb.ListClustersRequest()
    found = await asyncio.to_thread(lambda: asking.call(api.LIST_CLUSTERS, request, timeout_s=5))
    assert found.next_page_token == "more"
    assert channel.uses_http(asking.settings)
    if not served.prefix:
        channel._http_until.clear()
        with pytest.raises(errors.Unavailable):
            await asyncio.to_thread(
                lambda: connection(served, "grpc").call(api.LIST_CLUSTERS, request, timeout_s=5)
            )


def test_events_are_parsed_as_they_come() -> None:
    text = (
        b": comment\n\nid: 5\nevent: added\ndata: a\ndata: b\r\nretry: 5\n\nevent:"
        b" nothing\n\ndata:c\n\nevent: cut\ndata: off\n"
    )
    assert list(http_calls.parsed(text.splitlines(keepends=True))) == [
        ("added", "a\nb"),
        ("message", "c"),
    ]


def test_addresses_may_have_a_prefix_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    import dask.config

    assert (
        normalized("https://hub.example.org/services/daskgateway/")
        == "https://hub.example.org:443/services/daskgateway"
    )
    assert normalized("hub:8000") == "http://hub:8000"
    assert normalized("dgw://hub:8000/anything") == "http://hub:8000"
    assert Settings(normalized("https://hub/a/b"), BasicAuth("a")).prefix == "/a/b"
    for wrong in ("https://hub/?a=1", "https://hub/#x", "ftp://hub"):
        with pytest.raises(ValueError, match="not a gateway's address"):
            normalized(wrong)
    with dask.config.set({"gateway.transport": "grpc"}):
        with pytest.raises(ValueError, match="gRPC knows no path"):
            load("https://hub/services/daskgateway")


async def test_what_no_path_names_is_told(served: Served) -> None:
    async with aiohttp.ClientSession() as caller:
        async with caller.get(f"{served.address}{served.prefix}/nothing") as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, "not_found")
        async with caller.get(f"{served.address}{served.prefix}/") as answer:
            assert answer.status == 200
        async with caller.get(f"{served.address}{served.prefix}/healthz") as answer:
            assert answer.status == 200
    assert b" 404 " in await raw(
        served.port, b"GET /services/other/healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )


async def test_by_what_one_may_sign_in_is_told_without_credentials_and_makes_none_right(
    served: Served,
) -> None:
    url = f"{served.address}{served.prefix}{SIGN_IN_OPTIONS}"
    wrong = basic_credentials("mallory", "guess")
    calls = served.edge._calls
    async with aiohttp.ClientSession() as caller:
        for headers in ({}, {"Authorization": wrong}):
            async with caller.post(url, json={}, headers=headers) as answer:
                assert answer.status == 200
                assert (await answer.json())["options"][0]["name"] == "password"
        async with caller.post(f"{url}x", json={}) as answer:
            assert answer.status == 501
    assert served.credentials.shown == [None, None]
    async with grpc.aio.insecure_channel(served.address.removeprefix("http://")) as channel:
        stub = credential_service_pb2_grpc.CredentialServiceStub(channel)
        await stub.GetSignInOptions(
            credential_service_pb2.GetSignInOptionsRequest(),
            metadata=(("authorization", wrong),),
            timeout=30,
        )
    assert calls.share(wrong, "192.0.2.1").stranger  # the answer is none to the credentials
