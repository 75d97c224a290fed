"""How an error looks on the wire: google.rpc.Status with one ErrorInfo and what else fits
(AIP-193)."""

from __future__ import annotations

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from gateway.server.core.errors import ServiceError
from gateway.server.rpc.messages import duration
from gateway.wire import ERROR_DOMAIN

STATUS_DETAILS = "grpc-status-details-bin"
# Trailers travel in one header block. Clients of gRPC begin to refuse one at 8 KiB, at random, and
# then lose the whole error.
MAX_TEXT_BYTES = 1200
MAX_FIELD_BYTES = 200  # of a field's path, a description, a metadata value
MAX_VIOLATIONS_BYTES = 4000
MAX_QUOTAS = 4


def code_of(error: ServiceError) -> grpc.StatusCode:
    """Return the gRPC code of an error."""
    return grpc.StatusCode[error.code]


def details_of(error: ServiceError) -> bytes:
    """Return the serialized google.rpc.Status of an error."""
    number: int = code_of(error).value[0]
    status = status_pb2.Status(code=number, message=text_of(error))
    metadata = {key: _bounded(value, MAX_FIELD_BYTES) for key, value in error.metadata.items()}
    _pack(
        status,
        error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=metadata),
    )
    if error.violations:
        _pack(status, _bad_request(error))
    if error.quotas:
        told = [
            error_details_pb2.QuotaFailure.Violation(
                subject=_bounded(quota.field, MAX_FIELD_BYTES),
                description=_bounded(quota.description, MAX_FIELD_BYTES),
            )
            for quota in error.quotas[:MAX_QUOTAS]
        ]
        _pack(status, error_details_pb2.QuotaFailure(violations=told))
    if error.retry_after_s is not None:
        _pack(status, error_details_pb2.RetryInfo(retry_delay=duration(error.retry_after_s)))
    packed: bytes = status.SerializeToString()
    return packed


def text_of(error: ServiceError) -> str:
    """Return the sentence that tells an error."""
    return _bounded(str(error), MAX_TEXT_BYTES)


def _bounded(text: str, limit: int) -> str:
    """Return a text cut to so many bytes as they travel: gRPC writes all but printable ASCII as
    `%XX`."""
    raw = text.encode(errors="replace")
    used = 0
    for position, byte in enumerate(raw):
        used += 1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3
        if used > limit:
            return raw[:position].decode(errors="ignore") + "…"
    return text


def _bad_request(error: ServiceError) -> error_details_pb2.BadRequest:
    """Return as many violations as there is room for; the last says how many were left out."""
    told = error_details_pb2.BadRequest()
    for number, violation in enumerate(error.violations):
        told.field_violations.add(
            field=_bounded(violation.field, MAX_FIELD_BYTES),
            description=_bounded(violation.description, MAX_FIELD_BYTES),
        )
        if told.ByteSize() > MAX_VIOLATIONS_BYTES:
            told.field_violations[-1].field = "request"
            told.field_violations[-1].description = f"and {len(error.violations) - number} more"
            break
    return told


def _pack(status: status_pb2.Status, detail: Message) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)
