"""The API over HTTP/1.1: streams as server-sent events, and the client that speaks both."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading

import aiohttp
import grpc
import pytest
from daskgateway.v1 import cluster_service_pb2 as pb
from daskgateway.v1 import credential_service_pb2, credential_service_pb2_grpc
from google.protobuf.duration_pb2 import Duration

from gateway.client.calls import api, errors, http_calls
from gateway.client.calls.channel import Connection
from gateway.client.calls.settings import BasicAuth, Settings, load, normalized
from gateway.proxy.http import events
from gateway.wire import SIGN_IN_OPTIONS, basic_credentials
from tests.proxy.bridge.calling import LIST, changed
from tests.proxy.served import ALICE, UID, Served, raw


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
    assert first.startswith(b"HTTP/1.1 501 " if "tunnel" in path else b"HTTP/1.1 405 ")
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
