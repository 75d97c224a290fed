"""Every error of the edge carries its reason, to programs and to people, in the shape that the
call's own protocol has: Connect's JSON, the last envelope of Connect's streams, gRPC's trailers."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import aiohttp
import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from gateway.proxy.http import bridge, envelopes, failures
from gateway.proxy.http.failures import Failure
from gateway.wire import CONNECT_CODES
from tests.proxy.bridge.calling import LIST
from tests.proxy.bridge.test_connect import envelopes as envelopes_of
from tests.proxy.served import ALICE, Served

SERVICE = "/daskgateway.v1.ClusterService"
WATCH, STOP = f"{SERVICE}/WatchClusters", f"{SERVICE}/StopCluster"
JSON = {"Content-Type": "application/json"}
STREAM = {"Content-Type": envelopes.JSON}
GRPC = {"Content-Type": "application/grpc+proto"}
LARGE = b" " * (bridge.MAX_JSON_BYTES + 1)


@dataclass(frozen=True)
class Case:
    """A call, and what is wrong with it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    code: str
    reason: str
    named: str = ""  # the field, or what the metadata names
    shown: dict[str, str] = field(default_factory=lambda: {"Authorization": ALICE})


CASES = {
    "unknown method": Case(
        "POST", f"{SERVICE}/Nothing", JSON, b"{}", 501, "unimplemented", "METHOD_UNKNOWN", SERVICE
    ),
    "unknown service": Case(
        "POST", "/a.v9.B/List", JSON, b"{}", 501, "unimplemented", "METHOD_UNKNOWN", "/a.v9.B/List"
    ),
    "unknown path": Case("GET", "/nothing", {}, b"", 404, "not_found", "PATH_UNKNOWN", "/nothing"),
    "deep path": Case("POST", "/v1/a/b", JSON, b"", 404, "not_found", "PATH_UNKNOWN", "/v1/a/b"),
    "method of a call": Case("GET", STOP, {}, b"", 405, "unimplemented", "FIELD_INVALID", "method"),
    "method of a read": Case(
        "PUT", LIST, JSON, b"{}", 405, "unimplemented", "FIELD_INVALID", "method"
    ),
    "method of a page": Case(
        "POST", "/v1/watch", JSON, b"{}", 405, "unimplemented", "FIELD_INVALID", "method"
    ),
    "too large": Case(
        "POST", LIST, JSON, LARGE, 413, "resource_exhausted", "REQUEST_TOO_LARGE", "request"
    ),
    "content type": Case(
        "POST",
        LIST,
        {"Content-Type": "image/png"},
        b"{}",
        415,
        "invalid_argument",
        "FIELD_INVALID",
        "content-type",
    ),
    "content type of a stream": Case(
        "POST", WATCH, JSON, b"{}", 415, "invalid_argument", "FIELD_INVALID", "content-type"
    ),
    "coding": Case(
        "POST",
        LIST,
        {**JSON, "Content-Encoding": "br"},
        b"{}",
        415,
        "unimplemented",
        "FIELD_INVALID",
        "request",
    ),
    "version": Case(
        "POST",
        LIST,
        {**JSON, "Connect-Protocol-Version": "2"},
        b"{}",
        400,
        "invalid_argument",
        "FIELD_INVALID",
        "connect-protocol-version",
    ),
    "no JSON": Case("POST", LIST, JSON, b"[]", 400, "invalid_argument", "FIELD_INVALID", "request"),
    "parameter": Case(
        "POST",
        f"{LIST}?pageSize=3",
        JSON,
        b"{}",
        400,
        "invalid_argument",
        "FIELD_INVALID",
        "pageSize",
    ),
    "nobody": Case(
        "POST", LIST, JSON, b"{}", 401, "unauthenticated", "CREDENTIALS_INVALID", shown={}
    ),
    "stream, unknown": Case(
        "POST", f"{SERVICE}/Nothing", STREAM, b"", 200, "unimplemented", "METHOD_UNKNOWN", SERVICE
    ),
    "stream, unknown path": Case(
        "POST", "/v1/a/b", STREAM, b"", 200, "not_found", "PATH_UNKNOWN", "/v1/a/b"
    ),
    "stream, too large": Case(
        "POST",
        WATCH,
        STREAM,
        envelopes.envelope(LARGE),
        200,
        "resource_exhausted",
        "REQUEST_TOO_LARGE",
        "request",
    ),
    "stream, nobody": Case(
        "POST", WATCH, STREAM, b"", 200, "unauthenticated", "CREDENTIALS_INVALID", shown={}
    ),
    "stream, one answer": Case(
        "POST", LIST, STREAM, b"", 200, "invalid_argument", "FIELD_INVALID", "content-type"
    ),
    "gRPC, a method": Case(
        "POST", LIST, GRPC, b"", 200, "invalid_argument", "FIELD_INVALID", "content-type"
    ),
    "gRPC, unknown": Case(
        "POST", "/a.v9.B/List", GRPC, b"", 200, "unimplemented", "METHOD_UNKNOWN", "/a.v9.B/List"
    ),
    "gRPC, nobody": Case(
        "POST", WATCH, GRPC, b"", 200, "invalid_argument", "FIELD_INVALID", "content-type", shown={}
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_every_error_carries_its_reason_in_the_shape_of_its_call(
    served: Served, case: Case
) -> None:
    url = f"{served.address}{served.prefix}{case.path}"
    async with (
        aiohttp.ClientSession(headers=case.shown) as caller,
        caller.request(case.method, url, data=case.body, headers=case.headers) as answer,
    ):
        assert answer.status == case.status
        if case.status == 405:
            assert answer.headers["Allow"]
        body = await answer.read()
    if case.headers == GRPC:
        assert body == b""
        code, message, details = of_trailers(answer.headers)
    else:
        error = json.loads(body) if case.headers != STREAM else of_stream(body)
        code, message = error["code"], error["message"]
        details = [of_json(detail) for detail in error["details"]]
    assert code == case.code
    assert message
    info = error_details_pb2.ErrorInfo()
    infos = [detail for detail in details if detail.Unpack(info)]
    assert len(infos) == 1
    assert (info.reason, info.domain) == (case.reason, "daskgateway")
    request = error_details_pb2.BadRequest()
    found = [v for one in details if one.Unpack(request) for v in request.field_violations]
    if info.reason in ("FIELD_INVALID", "REQUEST_TOO_LARGE"):
        assert [violation.field for violation in found] == [case.named]
        assert found[0].description
    elif case.named:
        assert next(iter(info.metadata.values())).endswith(case.path)
    assert served.clusters.requests == []


def of_stream(body: bytes) -> Any:
    """Return the error in the one and last envelope."""
    ((flags, last),) = envelopes_of(body)
    assert flags == envelopes.END
    return json.loads(last)["error"]


def of_json(detail: dict[str, Any]) -> AnyMessage:
    """Return a detail of Connect's JSON; what people read of it says the same."""
    padded = detail["value"] + "=" * (-len(detail["value"]) % 4)
    packed = AnyMessage(
        type_url=f"type.googleapis.com/{detail['type']}", value=base64.b64decode(padded)
    )
    assert detail["debug"]
    return packed


def of_trailers(headers: Any) -> tuple[str, str, list[AnyMessage]]:
    """Return what gRPC's trailers tell, the code by Connect's name."""
    assert headers["Content-Type"].startswith("application/grpc")
    raw = headers["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(raw + "=" * (-len(raw) % 4)))
    number = int(headers["grpc-status"])
    assert status.code == number
    assert unquote(headers["grpc-message"]) == status.message
    name = next(one.name for one in grpc.StatusCode if one.value[0] == number)
    return CONNECT_CODES[name][0], status.message, list(status.details)


@pytest.mark.parametrize("served", [""], indirect=True)
async def test_a_fault_of_the_edge_is_told_by_a_number_that_its_log_explains(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(path: str) -> Failure:
        raise RuntimeError("secret")

    monkeypatch.setattr(failures, "no_method", broken)
    async with (
        aiohttp.ClientSession(headers={"Authorization": ALICE}) as caller,
        caller.post(f"{served.address}/a.B/C", json={}) as answer,
    ):
        assert answer.status == 500
        text = await answer.text()
    told = json.loads(text)
    assert "secret" not in text
    (info,) = told["details"]
    assert info["debug"]["reason"] == "INTERNAL"
    number = info["debug"]["metadata"]["correlation_id"]
    assert number in told["message"]
    assert number in caplog.text
    assert "secret" in caplog.text


@pytest.mark.parametrize("served", [""], indirect=True)
async def test_a_server_that_is_away_is_told_as_such(served: Served) -> None:
    served.clusters.script = [grpc.StatusCode.UNAVAILABLE]
    async with aiohttp.ClientSession(headers={"Authorization": ALICE}) as caller:
        async with caller.get(f"{served.address}/v1/watch") as answer:
            assert answer.status == 503
            assert reason_of(await answer.json()) == "SERVER_UNAVAILABLE"
        async with caller.post(f"{served.address}{SERVICE}/GetCluster", json={}) as answer:
            assert answer.status == 501
            assert reason_of(await answer.json()) == "METHOD_UNKNOWN"


def reason_of(error: Any) -> str:
    """Return the reason in Connect's JSON."""
    return str(error["details"][0]["debug"]["reason"])


@pytest.mark.parametrize("code", sorted(CONNECT_CODES))
def test_an_error_without_details_is_given_a_reason(code: str) -> None:
    failed = Failure(code, "why")
    told = json.loads(failed.text or "")
    assert told["code"] == CONNECT_CODES[code][0]
    assert told["details"][0]["debug"]["domain"] == "daskgateway"
    assert told["details"][0]["debug"]["reason"] == failures.REASONS.get(code, "INTERNAL")
    nothing = grpc.aio.Metadata()
    error = grpc.aio.AioRpcError(grpc.StatusCode[code], nothing, nothing, "why", None)
    assert failures.of_rpc(error).text == failed.text
    json.loads(failed.in_envelope()[5:])
