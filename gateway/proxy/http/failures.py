"""What goes wrong with a call over HTTP, as its caller can read it: in Connect's JSON, in the last
envelope of Connect's streams, or as gRPC's trailers. Each carries an ErrorInfo, whoever found out.

Connect's clients read an HTTP status where there is no JSON of theirs, gRPC's where there are no
trailers; so neither may be answered in the other's shape.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import grpc
from aiohttp import web
from google.protobuf import duration_pb2, json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from gateway.proxy.http import envelopes
from gateway.wire import AUTHENTICATE, CONNECT_CODES, CORRELATION_ID, ERROR_DOMAIN, REPLAYED

BUSY_RETRY_S = 1
# The server's own words. Told without asking it: a body costs time to read.
NO_CREDENTIALS = (
    "Credentials are missing, malformed, wrong, expired or revoked. Send"
    " `authorization: Bearer <token>` or `Basic`."
)
PASSED = (CORRELATION_ID, REPLAYED, AUTHENTICATE)  # trailers
GRPC = "application/grpc"
STATUS_DETAILS = "grpc-status-details-bin"
MAX_SHOWN = 200  # characters of what was sent
# Where nobody has said more than a code: gRPC itself, between edge and server.
REASONS = {
    "UNAVAILABLE": "SERVER_UNAVAILABLE",
    "DEADLINE_EXCEEDED": "DEADLINE_EXCEEDED",
    "UNIMPLEMENTED": "METHOD_UNKNOWN",
    "RESOURCE_EXHAUSTED": "REQUEST_TOO_LARGE",
}


class Failure(web.Response):
    """An answer that tells an error."""

    def __init__(
        self,
        code: str,
        message: str,
        details: Sequence[Message] = (),
        headers: Mapping[str, str] | None = None,
        status: int = 0,
    ) -> None:
        """`code` is gRPC's; `status` stands where HTTP has a word of its own. An ErrorInfo is
        added where there is none."""
        self.code, self.told = code, message
        self.details = [_packed(detail) for detail in details]
        if not any(detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR) for detail in self.details):
            self.details.insert(0, _packed(reason(REASONS.get(code, "INTERNAL"))))
        super().__init__(
            text=json.dumps(as_json(code, message, self.details)),
            content_type="application/json",
            status=status or CONNECT_CODES[code][1],
            headers=headers,
        )
        # Basic is taken too, but a browser that is asked for it keeps it for the whole origin,
        # dashboards' code included
        if self.status == 401:
            # beside what the server asks for, such as Negotiate
            self.headers.add("WWW-Authenticate", 'Bearer realm="daskgateway"')

    def as_asked(self, kind: str) -> web.Response:
        """Return it in the shape of calls of this content type."""
        if kind in envelopes.KINDS:
            return self._reshaped(
                web.Response(body=self.in_envelope(), headers=stream_headers(kind))
            )
        if kind.startswith(GRPC):
            return self._reshaped(web.Response(headers={"Content-Type": kind, **self._trailers()}))
        return self

    def in_envelope(self) -> bytes:
        """Return the last envelope of a stream; trailers are metadata there."""
        told: dict[str, Any] = {"error": as_json(self.code, self.told, self.details)}
        metadata = {
            name.lower().removeprefix("trailer-"): [value]
            for name, value in self.headers.items()
            if name.lower().startswith("trailer-")
        }
        if metadata:
            told["metadata"] = metadata
        return envelopes.envelope(json.dumps(told).encode(), envelopes.END)

    def _trailers(self) -> dict[str, str]:
        """Return gRPC's trailers, which are headers where no message comes before them."""
        number: int = grpc.StatusCode[self.code].value[0]
        status = status_pb2.Status(code=number, message=self.told, details=self.details)
        return {
            "grpc-status": str(number),
            "grpc-message": quote(self.told, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"),
            STATUS_DETAILS: base64.b64encode(status.SerializeToString()).rstrip(b"=").decode(),
        }

    def _reshaped(self, answer: web.Response) -> web.Response:
        if self.keep_alive is False:
            answer.force_close()
        return answer


def stream_headers(kind: str) -> dict[str, str]:
    """Return the headers of a stream of Connect's."""
    return {"Content-Type": kind, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def as_json(code: str, message: str, details: Sequence[AnyMessage] = ()) -> dict[str, Any]:
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


def _packed(detail: Message) -> AnyMessage:
    if isinstance(detail, AnyMessage):
        return detail
    packed = AnyMessage()
    packed.Pack(detail)
    return packed


def reason(word: str, **metadata: str) -> error_details_pb2.ErrorInfo:
    """Return a reason as a detail."""
    shown = {name: value[:MAX_SHOWN] for name, value in metadata.items()}
    return error_details_pb2.ErrorInfo(reason=word, domain=ERROR_DOMAIN, metadata=shown)


def wrong(
    code: str, field: str, description: str, status: int = 0, word: str = "FIELD_INVALID"
) -> Failure:
    """Return what is wrong with how a call was made; `status` where HTTP has its own word."""
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
    request = error_details_pb2.BadRequest(field_violations=[violation])
    return Failure(code, f"{field}: {description}", [reason(word), request], status=status)


def invalid(description: str, field: str = "request") -> Failure:
    """Return that the request could not be read."""
    return wrong("INVALID_ARGUMENT", field, description)


def no_method(path: str) -> Failure:
    """Return that there is no such call."""
    words = f"There is no method {path[:MAX_SHOWN]}."
    return Failure("UNIMPLEMENTED", words, [reason("METHOD_UNKNOWN", method=path)])


def no_path(path: str) -> Failure:
    """Return that nothing is served there."""
    words = f"Nothing is served at {path[:MAX_SHOWN]}."
    return Failure("NOT_FOUND", words, [reason("PATH_UNKNOWN", path=path)])


def must_be(methods: str) -> Failure:
    """Return that HTTP's method is wrong; `methods`: the right ones, with commas between."""
    answer = wrong("UNIMPLEMENTED", "method", f"must be {methods.replace(',', ', ')}", 405)
    answer.headers["Allow"] = methods
    return answer


def crowded() -> Failure:
    """Return that too many calls of the caller's wait."""
    return _again("RESOURCE_EXHAUSTED", "too many calls of yours wait here; try again later")


def busy() -> Failure:
    """Return that too much JSON of the caller's waits."""
    return _again("UNAVAILABLE", "too much JSON is waiting here; try again")


def _again(code: str, words: str) -> Failure:
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=BUSY_RETRY_S))
    return Failure(code, words, [reason("OVERLOADED"), retry], {"Retry-After": str(BUSY_RETRY_S)})


def unauthenticated() -> Failure:
    """Return what the server says to who shows no credentials."""
    return Failure("UNAUTHENTICATED", NO_CREDENTIALS, [reason("CREDENTIALS_INVALID")])


def fault(correlation_id: str) -> Failure:
    """Return that the edge itself failed."""
    words = f"the edge failed; its log says why under {correlation_id}"
    return Failure("INTERNAL", words, [reason("INTERNAL", correlation_id=correlation_id)])


def of_body(words: str, status: int) -> Failure:
    """Return why a body cannot be had. The connection ends: the body's rest may still come."""
    code = {413: "RESOURCE_EXHAUSTED", 408: "DEADLINE_EXCEEDED", 415: "UNIMPLEMENTED"}.get(
        status, "INVALID_ARGUMENT"
    )
    word = {413: "REQUEST_TOO_LARGE", 408: "DEADLINE_EXCEEDED"}.get(status, "FIELD_INVALID")
    answer = wrong(code, "request", words, status, word)
    answer.force_close()
    return answer


def of_rpc(error: grpc.aio.AioRpcError) -> Failure:
    """Return what the server said went wrong, or gRPC on the way to it."""
    status = status_of(error)
    trailers: Any = error.trailing_metadata() or ()
    headers = _retry_after(status) | passed(trailers)
    return Failure(error.code().name, error.details() or "", list(status.details), headers)


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """Return the server's status with its details; an empty one if it sent none."""
    trailers: Any = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == STATUS_DETAILS and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return status_pb2.Status()


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return the server's word for what went wrong, empty if it has none."""
    info = error_details_pb2.ErrorInfo()
    return next((info.reason for one in status_of(error).details if one.Unpack(info)), "")


def passed(trailers: Any) -> dict[str, str]:
    """Return a call's trailers as headers: by Connect's prefix, and as they are."""
    found = {key: str(value) for key, value in trailers if key in PASSED}
    return found | {f"trailer-{key}": value for key, value in found.items()}


def _retry_after(status: status_pb2.Status) -> dict[str, str]:
    """Return RetryInfo as HTTP tells it, in whole seconds."""
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(retry):
            delay = retry.retry_delay
            return {"Retry-After": str(delay.seconds + (1 if delay.nanos else 0))}
    return {}
