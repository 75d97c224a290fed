"""How an error looks on the wire: google.rpc.Status with one ErrorInfo and what else fits (AIP-193)."""

from __future__ import annotations

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from gateway.server.core.errors import ServiceError
from gateway.server.rpc.messages import duration
from gateway.wire import ERROR_DOMAIN

STATUS_DETAILS = "grpc-status-details-bin"
MAX_VIOLATIONS = 50
MAX_TEXT = 2000  # trailers travel in one header block of at most 8 KiB
MAX_VIOLATION_TEXT = 300


def code_of(error: ServiceError) -> grpc.StatusCode:
    """Return the gRPC code of an error."""
    return grpc.StatusCode[error.code]


def details_of(error: ServiceError) -> bytes:
    """Return the serialized google.rpc.Status of an error."""
    number: int = code_of(error).value[0]
    status = status_pb2.Status(code=number, message=text_of(error))
    metadata = {key: value[:MAX_VIOLATION_TEXT] for key, value in error.metadata.items()}
    _pack(status, error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=metadata))
    if error.violations:
        _pack(status, _bad_request(error))
    if error.retry_after_s is not None:
        _pack(status, error_details_pb2.RetryInfo(retry_delay=duration(error.retry_after_s)))
    packed: bytes = status.SerializeToString()
    return packed


def text_of(error: ServiceError) -> str:
    """Return the sentence that tells an error."""
    return str(error)[:MAX_TEXT]


def _bad_request(error: ServiceError) -> error_details_pb2.BadRequest:
    violations = error.violations
    budget = max(1, min(MAX_VIOLATIONS, len(violations)))
    each = min(MAX_VIOLATION_TEXT, 3000 // budget)
    shown = [
        error_details_pb2.BadRequest.FieldViolation(field=violation.field[:each], description=violation.description[:each])
        for violation in violations[:budget]
    ]
    return error_details_pb2.BadRequest(field_violations=shown)


def _pack(status: status_pb2.Status, detail: Message) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)
