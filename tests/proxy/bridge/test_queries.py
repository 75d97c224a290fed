"""What stands behind the `?` of an address: reads as Connect's GET, parameters of events, and those
that nobody knows."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from daskgateway.v1 import cluster_service_pb2 as pb

from gateway.proxy.http import bridge
from tests.proxy.bridge.calling import LIST
from tests.proxy.served import ALICE, Served

MESSAGE = pb.ListClustersRequest(page_size=7, parent="users/-")
PROTO = MESSAGE.SerializeToString()
TEXT = b'{"pageSize": 7, "parent": "users/-"}'


def safe(content: bytes, *, padded: bool = False) -> str:
    """Return base64 as it travels in addresses."""
    text = base64.urlsafe_b64encode(content).decode()
    return text if padded else text.rstrip("=")


PACKED = safe(gzip.compress(TEXT, mtime=0))


async def get(served: Served, path: str, parameters: Any, **headers: str) -> tuple[int, bytes, str]:
    """Return status, body and content type."""
    url = f"{served.address}{served.prefix}{path}?{urlencode(parameters)}"
    async with (
        aiohttp.ClientSession(headers={"Authorization": ALICE, **headers}) as caller,
        caller.get(url) as answer,
    ):
        assert answer.status != 200 or answer.headers["Cache-Control"] == "no-store"
        return answer.status, await answer.read(), answer.content_type


@pytest.mark.parametrize(
    "parameters",
    [
        {"connect": "v1", "encoding": "json", "message": TEXT},
        {"encoding": "json", "message": TEXT, "base64": "0"},
        {"encoding": "json", "message": safe(TEXT), "base64": "1"},
        {"encoding": "json", "message": safe(TEXT, padded=True), "base64": "1"},
        {
            "encoding": "json",
            "message": safe(gzip.compress(TEXT, mtime=0)),
            "base64": "1",
            "compression": "gzip",
        },
        {"encoding": "proto", "message": safe(PROTO), "base64": "1"},
        {"encoding": "proto", "message": PROTO, "compression": "identity"},
    ],
)
async def test_a_read_is_answered_to_get(served: Served, parameters: dict[str, Any]) -> None:
    status, body, kind = await get(served, LIST, parameters)
    assert status == 200
    assert kind == f"application/{parameters['encoding']}"
    token = (
        json.loads(body)["nextPageToken"]
        if kind == "application/json"
        else pb.ListClustersResponse.FromString(body).next_page_token
    )
    assert token == "more"
    assert served.clusters.requests == [MESSAGE]


@pytest.mark.parametrize(
    ("path", "parameters", "field"),
    [
        (LIST, {"message": "{}"}, "encoding"),
        (LIST, {"encoding": "yaml", "message": "{}"}, "encoding"),
        (LIST, {"encoding": "json"}, "message"),
        (LIST, {"encoding": "json", "message": "[]"}, "request"),
        (LIST, {"encoding": "json", "message": "{}", "connect": "v2"}, "connect"),
        (LIST, {"encoding": "json", "message": "{}", "base64": "yes"}, "base64"),
        (LIST, {"encoding": "json", "message": "%", "base64": "1"}, "message"),
        (LIST, {"encoding": "json", "message": "{}", "compression": "br"}, "compression"),
        (LIST, {"encoding": "json", "message": "{}", "compression": "gzip"}, "message"),
        (LIST, {"encoding": "json", "message": "{}", "pageSize": "7"}, "pageSize"),
        (LIST, [("encoding", "json"), ("encoding", "json"), ("message", "{}")], "encoding"),
        (LIST, {"encoding": "proto", "message": safe(b"\xff\xff"), "base64": "1"}, "request"),
        ("/v1/watch", {"start": "7"}, "start"),
        ("/v1/watch", {"start_revison": "7"}, "start_revison"),
        ("/v1/watch", {"start_revision": "x"}, "start_revision"),
        ("/v1/watch", {"bookmark_interval": "soon"}, "bookmark_interval"),
        ("/v1/watch", [("parent", "users/-"), ("parent", "users/-")], "parent"),
        ("/v1/logs", {"name": "a", "lines": "7"}, "lines"),
        ("/v1/logs", {"name": "a", "follow": "maybe"}, "follow"),
        ("/v1/logs", {"name": "a", "tail_lines": "-1"}, "tail_lines"),
        ("/v1/logs", {"name": "a", "x" * 500: ""}, "x" * 64),
    ],
)
async def test_what_is_wrong_with_a_parameter_is_told_by_its_name(
    served: Served, path: str, parameters: Any, field: str
) -> None:
    status, body, _ = await get(served, path, parameters)
    assert status == 400
    _, request = json.loads(body)["details"]
    (violation,) = request["debug"]["fieldViolations"]
    assert violation["field"] == field
    assert served.clusters.requests == []


async def test_a_near_miss_is_told_the_right_name(served: Served) -> None:
    _, body, _ = await get(served, "/v1/watch", {"start_revison": "7"})
    assert "did you mean start_revision?" in json.loads(body)["message"]
    _, body, _ = await get(served, "/v1/logs", {"nothing": "7"})
    assert "known are name, instances, tail_lines, follow" in json.loads(body)["message"]


async def test_what_unpacks_to_more_than_it_may_is_not_unpacked(served: Served) -> None:
    packed = safe(gzip.compress(b" " * 5_000_000))
    parameters = {"encoding": "json", "message": packed, "base64": "1", "compression": "gzip"}
    status, body, _ = await get(served, LIST, parameters)
    assert status == 400
    assert f"at most {bridge.MAX_JSON_BYTES} bytes" in json.loads(body)["message"]


async def test_events_take_all_that_is_documented(served: Served) -> None:
    parameters = [("bookmark_interval", "1.5s"), ("clusters", "a"), ("clusters", "b")]
    async with aiohttp.ClientSession(headers={"Authorization": ALICE}) as caller:
        url = f"{served.address}{served.prefix}/v1/watch?{urlencode(parameters)}"
        async with caller.get(url) as answer:
            assert answer.status == 200
        url = f"{served.address}{served.prefix}/v1/logs?name=n&follow=false&tail_lines=3"
        async with caller.get(url) as answer:
            assert answer.status == 200
    watch, logs = served.clusters.requests
    assert watch.bookmark_interval.ToMilliseconds() == 1500
    assert list(watch.clusters) == ["a", "b"]
    assert (logs.name, logs.follow, logs.tail_lines) == ("n", False, 3)
