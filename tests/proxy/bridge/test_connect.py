"""The API over HTTP/1.1 as Connect's clients know it: streams in envelopes, trailers, errors that
programs and people read; and what is no request."""

from __future__ import annotations

import json

import aiohttp
import grpc
import pytest
from daskgateway.v1 import cluster_service_pb2 as pb
from google.protobuf import json_format

from gateway.proxy.http import envelopes as connect
from tests.proxy.bridge.calling import LIST, changed
from tests.proxy.served import ALICE, Served

WATCH = "/daskgateway.v1.ClusterService/WatchClusters"
JSON = {"Content-Type": "application/json"}


def envelopes(body: bytes) -> list[tuple[int, bytes]]:
    """Return the flags and contents of all envelopes."""
    found = []
    while body:
        flags, size = connect.HEAD.unpack_from(body)
        content, body = body[5 : 5 + size], body[5 + size :]
        found.append((flags, content))
    return found


@pytest.mark.parametrize("body", [b"", b" \n", b"[]", b'""', b"null", b"0", b"[{}]", b'"{}"'])
async def test_what_is_no_json_object_is_no_request(served: Served, body: bytes) -> None:
    """Each of them had made a cluster, as `{}` does."""
    url = f"{served.address}{served.prefix}{LIST}"
    async with aiohttp.ClientSession(headers={"Authorization": ALICE, **JSON}) as caller:
        async with caller.post(url, data=body) as answer:
            assert answer.status == 400
            told = await answer.json()
            assert told["message"] == "request: must be a JSON object, such as {}"
        assert served.clusters.requests == []
        async with caller.post(url, data=b" {} ") as answer:
            assert answer.status == 200


async def test_trailers_have_connects_prefix(served: Served) -> None:
    async with (
        aiohttp.ClientSession(headers={"Authorization": ALICE}) as caller,
        caller.post(f"{served.address}{served.prefix}{LIST}", json={}) as answer,
    ):
        assert answer.headers["trailer-x-correlation-id"] == "call-7"
        assert answer.headers["x-correlation-id"] == "call-7"


async def test_connects_clients_have_watches(served: Served) -> None:
    served.clusters.script = [changed(7), None, changed(8), grpc.StatusCode.UNAVAILABLE]
    request = pb.WatchClustersRequest(parent="users/-", start_revision=6)
    url = f"{served.address}{served.prefix}{WATCH}"
    async with aiohttp.ClientSession(headers={"Authorization": ALICE}) as caller:
        for kind, body in (
            (connect.BINARY, request.SerializeToString()),
            (connect.JSON, b'{"parent": "users/-", "startRevision": "6"}'),
        ):
            async with caller.post(
                url, data=connect.envelope(body), headers={"Content-Type": kind}
            ) as answer:
                assert (answer.status, answer.content_type) == (200, kind)
                found = envelopes(await answer.read())
            assert [flags for flags, _ in found] == [0, 0, connect.END]
            read = (
                pb.WatchClustersResponse.FromString
                if kind == connect.BINARY
                else lambda text: json_format.Parse(text, pb.WatchClustersResponse())
            )
            assert [read(content) for _, content in found[:2]] == [changed(7), changed(8)]
            assert json.loads(found[-1][1])["error"]["code"] == "unavailable"
        assert served.clusters.requests == [request, request]
        served.clusters.script = [changed(9)]
        async with caller.post(
            url,
            data=connect.envelope(b"{}"),
            headers={"Content-Type": connect.JSON},
        ) as answer:
            assert envelopes(await answer.read())[-1] == (connect.END, b"{}")


async def test_a_stream_ends_at_the_deadline_that_connects_client_names(served: Served) -> None:
    served.clusters.script = [changed(7), *[None] * 240]
    headers = {
        "Authorization": ALICE,
        "Content-Type": connect.JSON,
        "Connect-Timeout-Ms": "1500",
    }
    async with (
        aiohttp.ClientSession(headers=headers) as caller,
        caller.post(
            f"{served.address}{served.prefix}{WATCH}", data=connect.envelope(b"{}")
        ) as answer,
    ):
        found = envelopes(await answer.read())
    assert [flags for flags, _ in found] == [0, connect.END]
    assert json.loads(found[-1][1])["error"]["code"] == "deadline_exceeded"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "must be one message in an envelope"),
        (b"\0\0\0\0\x09{}", "must be one envelope of 9 bytes"),
        (b"\0\0\0\0\x02{}{}", "nothing behind it"),
        (b"\1\0\0\0\x02{}", "must not be compressed"),
        (connect.envelope(b"[]"), "must be a JSON object"),
        (connect.envelope(b'{"nothing": 1}'), "nothing"),
    ],
)
async def test_what_connects_envelopes_cannot_hold_is_told_in_the_last_one(
    served: Served, body: bytes, words: str
) -> None:
    headers = {"Authorization": ALICE, "Content-Type": connect.JSON}
    async with (
        aiohttp.ClientSession(headers=headers) as caller,
        caller.post(f"{served.address}{served.prefix}{WATCH}", data=body) as answer,
    ):
        assert answer.status == 200
        ((flags, last),) = envelopes(await answer.read())
        error = json.loads(last)["error"]
        assert (flags, error["code"]) == (connect.END, "invalid_argument")
        assert words in error["message"]
    assert served.clusters.requests == []


async def test_a_stream_without_credentials_is_answered_without_asking_the_server(
    served: Served,
) -> None:
    async with (
        aiohttp.ClientSession(headers={"Content-Type": connect.JSON}) as caller,
        caller.post(
            f"{served.address}{served.prefix}{WATCH}", data=connect.envelope(b"{}")
        ) as answer,
    ):
        ((_, last),) = envelopes(await answer.read())
        error = json.loads(last)["error"]
        assert error["code"] == "unauthenticated"
        assert error["details"][0]["debug"]["reason"] == "CREDENTIALS_INVALID"
    assert served.clusters.requests == []
