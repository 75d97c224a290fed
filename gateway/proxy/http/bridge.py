"""Every unary RPC over HTTP/1.1, as JSON or protobuf, in the shape of Connect's unary protocol
(connectrpc.com/docs/protocol).

The edge only transcodes: it is a client of the API like any other, and passes the caller's own
credentials on.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from aiohttp import web
from daskgateway.v1 import cluster_service_pb2, credential_service_pb2
from google.protobuf import duration_pb2, json_format, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from gateway.proxy.http.front import Front
from gateway.proxy.http.http_server import BodyRefused, read_body
from gateway.proxy.http.transcoding import Busy, Transcoder
from gateway.proxy.upstream.channels import Channels
from gateway.proxy.upstream.turns import Share
from gateway.turns import Crowded
from gateway.wire import (
    AUTHORIZATION,
    CONNECT_CODES,
    CORRELATION_ID,
    ERROR_DOMAIN,
    MAX_REQUEST_BYTES,
    REPLAYED,
    SIGN_IN_OPTIONS,
    decimal,
)

# Where the caller says nothing: longer than the server lets anybody wait (60 s, WaitCluster), or
# every such call would end in 504.
DEFAULT_TIMEOUT_S = 75.0
MAX_TIMEOUT_S = 300.0
MAX_AUTHORIZATION = 16 * 1024
MAX_JSON_BYTES = 64 * 1024  # protobuf reads JSON in Python, at 1.6 s for 1 MiB
BUSY_RETRY_S = 1
BINARY = ("application/proto", "application/x-protobuf")
JSON = (
    "application/json",
    "application/x-www-form-urlencoded",
    "application/octet-stream",
    "text/plain",
)
# The server's own words. Told without asking it: a body costs time to read.
NO_CREDENTIALS = (
    "Credentials are missing, malformed, wrong, expired or revoked. Send"
    " `authorization: Bearer <token>` or `Basic`."
)
PASSED = (CORRELATION_ID, REPLAYED)


@dataclass(frozen=True, slots=True)
class Method:
    """A unary RPC."""

    path: str
    request: type[Message]
    response: type[Message]


def unary_methods() -> dict[str, Method]:
    """Return every unary RPC of the public services by its path."""
    found = {}
    for file in (cluster_service_pb2, credential_service_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                if not method.server_streaming and not method.client_streaming:
                    path = f"/{service.full_name}/{method.name}"
                    request = message_factory.GetMessageClass(method.input_type)
                    found[path] = Method(
                        path, request, message_factory.GetMessageClass(method.output_type)
                    )
    return found


def failure(
    code: str,
    message: str,
    details: list[AnyMessage] | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return an error in Connect's shape."""
    status = CONNECT_CODES[code][1]
    answer = web.json_response(told(code, message, details), status=status, headers=headers)
    # Basic is taken too, but a browser that is asked for it keeps it for the whole origin,
    # dashboards' code included
    if status == 401:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="daskgateway"'
    return answer


def told(code: str, message: str, details: Sequence[AnyMessage] | None = None) -> dict[str, Any]:
    """Return an error as Connect's JSON tells it. `debug` is what people read of a detail: the
    value is for programs."""
    body: dict[str, Any] = {"code": CONNECT_CODES[code][0], "message": message}
    if details:
        body["details"] = [
            {
                "type": detail.type_url.rpartition("/")[2],
                "value": base64.b64encode(detail.value).rstrip(b"=").decode(),
                **_readable(detail),
            }
            for detail in details
        ]
    return body


def _readable(detail: AnyMessage) -> dict[str, Any]:
    try:
        shown = json_format.MessageToDict(detail)
    except (TypeError, DecodeError, json_format.Error):  # of a kind that is not known here
        return {}
    return {"debug": {name: value for name, value in shown.items() if name != "@type"}}


def wrong(code: str, field: str, description: str, status: int = 0) -> web.Response:
    """Return what is wrong with how a call was made; `status` where HTTP has its own word."""
    info, request = AnyMessage(), AnyMessage()
    info.Pack(error_details_pb2.ErrorInfo(reason="FIELD_INVALID", domain=ERROR_DOMAIN))
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
    request.Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    answer = failure(code, f"{field}: {description}", [info, request])
    if status:
        answer.set_status(status)
    return answer


def invalid(description: str, field: str = "request") -> web.Response:
    """Return that the request could not be read."""
    return wrong("INVALID_ARGUMENT", field, description)


def crowded() -> web.Response:
    """Return that too many calls of the caller's wait."""
    info, retry = AnyMessage(), AnyMessage()
    info.Pack(error_details_pb2.ErrorInfo(reason="OVERLOADED", domain=ERROR_DOMAIN))
    retry.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=BUSY_RETRY_S)))
    words = "too many calls of yours wait here; try again later"
    return failure("RESOURCE_EXHAUSTED", words, [info, retry], {"Retry-After": str(BUSY_RETRY_S)})


def unauthenticated() -> web.Response:
    """Return what the server says to who shows no credentials."""
    info = AnyMessage()
    info.Pack(error_details_pb2.ErrorInfo(reason="CREDENTIALS_INVALID", domain=ERROR_DOMAIN))
    return failure("UNAUTHENTICATED", NO_CREDENTIALS, [info])


def rpc_failure(error: grpc.aio.AioRpcError) -> web.Response:
    """Return what the server said went wrong."""
    status = status_pb2.Status()
    headers: dict[str, str] = {}
    trailers: Any = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            status = status_pb2.Status.FromString(value)
            headers |= _retry_after(status)
    headers |= passed(trailers)
    return failure(error.code().name, error.details() or "", list(status.details), headers)


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return the server's word for what went wrong, empty if it has none."""
    info = error_details_pb2.ErrorInfo()
    trailers: Any = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info):
                    return str(info.reason)
    return ""


def passed(trailers: Any) -> dict[str, str]:
    """Return a call's trailers as headers: by Connect's prefix, and as they are."""
    found = {key: str(value) for key, value in trailers if key in PASSED}
    return found | {f"trailer-{key}": value for key, value in found.items()}


def _retry_after(status: status_pb2.Status) -> dict[str, str]:
    """Return RetryInfo as HTTP tells it, in whole seconds."""
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(retry):
            return {
                "Retry-After": str(
                    retry.retry_delay.seconds + (1 if retry.retry_delay.nanos else 0)
                )
            }
    return {}


def credentials(request: web.Request) -> list[tuple[str, str]]:
    """Return the caller's credentials as gRPC metadata; none if there are none, or if no header
    could hold them."""
    header = request.headers.get("Authorization", "")
    return (
        [(AUTHORIZATION, header)]
        if header and header.isascii() and len(header) <= MAX_AUTHORIZATION
        else []
    )


def _shown(path: str, request: web.Request) -> list[tuple[str, str]]:
    """Return the credentials that go with a call. An answer to a call that needs none would not
    mean that they are right."""
    return [] if path == SIGN_IN_OPTIONS else credentials(request)


def timeout_s(request: web.Request) -> float:
    """Return how long the caller is patient."""
    told_ms = decimal(request.headers.get("connect-timeout-ms", ""), 10)
    return DEFAULT_TIMEOUT_S if told_ms is None else min(MAX_TIMEOUT_S, told_ms / 1000)


class Bridge:
    """Answers POST /{service}/{method}."""

    def __init__(
        self, channels: Channels, front: Front, body_timeout_s: float, transcoder: Transcoder
    ) -> None:
        self._channels, self._front, self._body_timeout_s, self._transcoder = (
            channels,
            front,
            body_timeout_s,
            transcoder,
        )
        self._methods = unary_methods()

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one call."""
        path = f"/{request.match_info['service']}/{request.match_info['method']}"
        method = self._methods.get(path)
        if method is None:
            return wrong("UNIMPLEMENTED", "path", f"there is no call {path[:200]}")
        if request.method != "POST":
            answer = wrong("UNIMPLEMENTED", "method", "must be POST", 405)
            answer.headers["Allow"] = "POST"
            return answer
        if request.headers.get("Connect-Protocol-Version", "1") != "1":
            return invalid("Connect-Protocol-Version must be 1")
        # health and reflection, which need none either, are not served here
        if path != SIGN_IN_OPTIONS and not credentials(request):
            return unauthenticated()
        kind = request.content_type
        if kind not in BINARY and kind not in JSON:
            words = "must be application/json or application/proto"
            return wrong("INVALID_ARGUMENT", "content-type", words, 415)
        try:
            body = await read_body(
                request,
                self._body_timeout_s,
                decode=True,
                most=None if kind in BINARY else MAX_JSON_BYTES,
            )
        except BodyRefused as refused:
            return refused_body(refused)
        try:
            return await (self._proto if kind in BINARY else self._json)(method, body, request)
        except Busy:
            return failure(
                "UNAVAILABLE",
                "too much JSON is waiting here; try again",
                headers={"Retry-After": str(BUSY_RETRY_S)},
            )

    async def _proto(self, method: Method, body: bytes, request: web.Request) -> web.Response:
        try:
            # more the server refuses by its size, and to read it takes time
            if len(body) <= MAX_REQUEST_BYTES:
                method.request.FromString(body)
        except DecodeError:
            return invalid(f"is no {method.request.DESCRIPTOR.full_name} in protobuf")
        return await self._answer(
            method.path, body, request, (None, None), "application/proto", _as_it_is
        )

    async def _json(self, method: Method, body: bytes, request: web.Request) -> web.Response:
        if body.lstrip()[:1] != b"{":  # protobuf takes [], "" and nothing at all for {}
            return invalid("must be a JSON object, such as {}")
        try:
            message = await self._transcoder.parsed(self._whose(request), method.request, body)
        except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
            return invalid(" ".join(str(error).split())[:500] or "is no JSON")
        made = (method.request.SerializeToString, method.response.FromString)

        async def written(answer: Message) -> bytes:
            return await self._transcoder.written(self._whose(request), answer)

        return await self._answer(method.path, message, request, made, "application/json", written)

    def _whose(self, request: web.Request) -> Share:
        return self._channels.whose(credentials(request), self._front.seen(request).address)

    async def _answer(
        self,
        path: str,
        asked: Any,
        request: web.Request,
        made: Any,
        kind: str,
        written: Callable[[Any], Awaitable[bytes]],
    ) -> web.Response:
        caller = self._front.seen(request).address
        try:
            answer, trailers = await self._channels.unary(
                path, asked, caller, _shown(path, request), timeout_s(request), made=made
            )
        except grpc.aio.AioRpcError as error:
            return rpc_failure(error)
        except Crowded:
            return crowded()
        body = await written(answer)
        return web.Response(body=body, content_type=kind, headers=passed(trailers))


async def _as_it_is(answer: bytes) -> bytes:
    return answer


def refused_body(refused: BodyRefused) -> web.Response:
    """Return in Connect's shape why a body cannot be had. The connection ends: the body's rest may
    still come."""
    words, status = str(refused.answer.text).strip(), refused.answer.status
    code = {413: "RESOURCE_EXHAUSTED", 408: "DEADLINE_EXCEEDED", 415: "UNIMPLEMENTED"}.get(
        status, "INVALID_ARGUMENT"
    )
    answer = wrong(code, "request", words, status)
    answer.force_close()
    return answer
