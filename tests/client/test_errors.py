"""What the gateway says went wrong is told as a class of its own, with everything that it said."""

from __future__ import annotations

import pickle

from daskgateway.v1 import error_reason_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from gateway.client.calls import errors
from gateway.server.core import errors as told
from gateway.server.core.errors import Violation
from gateway.server.rpc.status import details_of
from gateway.wire import ERROR_DOMAIN


def packed(*messages: Message) -> list[AnyMessage]:
    """Return messages as details of an error."""
    found = []
    for message in messages:
        found.append(AnyMessage())
        found[-1].Pack(message)
    return found


def received(error: told.ServiceError) -> errors.GatewayError:
    """Return an error of the server as the client tells it."""
    from google.rpc import status_pb2

    status = status_pb2.Status.FromString(details_of(error))
    return errors.make(error.code, status.message, status.details)


def test_every_reason_of_the_protocol_has_a_class() -> None:
    reasons = {
        name.removeprefix("ERROR_REASON_") for name in list(error_reason_pb2.ErrorReason.keys())
    } - {"UNSPECIFIED"}
    assert set(errors.BY_REASON) == reasons


def test_everything_that_the_server_says_arrives() -> None:
    wrong = received(
        told.FieldInvalid([Violation("spec.options.worker_cores", "must be at most 64")])
    )
    assert isinstance(wrong, errors.InvalidRequest | ValueError)
    assert wrong.violations == (
        errors.FieldViolation("spec.options.worker_cores", "must be at most 64"),
    )
    quota = received(
        told.QuotaExceeded(
            "alice", "alice has 100 clusters, and no more are granted", retry_after_s=1.5
        )
    )
    assert isinstance(quota, errors.QuotaExceeded)
    assert isinstance(quota, errors.Overloaded)
    assert (quota.code, quota.reason, quota.retry_after_s) == (
        "RESOURCE_EXHAUSTED",
        "OVERLOADED",
        1.5,
    )
    assert quota.quotas == (
        errors.QuotaViolation("users/alice", "alice has 100 clusters, and no more are granted"),
    )
    assert type(received(told.Overloaded(metadata={"what": "too much"}))) is errors.Overloaded
    assert type(received(told.TokenNotFound(metadata={"id": "x"}))) is errors.TokenNotFound


def test_a_fault_of_the_server_has_the_id_that_its_log_explains() -> None:
    info = error_details_pb2.ErrorInfo(
        domain=ERROR_DOMAIN, reason="INTERNAL", metadata={"correlation_id": "abc"}
    )
    error = errors.make("INTERNAL", "the server failed", packed(info))
    assert isinstance(error, errors.ServerFailed)
    assert error.metadata["correlation_id"] == "abc"


def test_what_is_not_known_is_a_plain_error_by_its_code() -> None:
    info = error_details_pb2.ErrorInfo(domain=ERROR_DOMAIN, reason="OF_A_NEWER_SERVER")
    foreign = error_details_pb2.ErrorInfo(domain="example.org", reason="CLUSTER_NOT_FOUND")
    assert type(errors.make("UNAVAILABLE", "x", packed(info))) is errors.Unavailable
    assert type(errors.make("NOT_FOUND", "x", packed(foreign))) is errors.GatewayError
    assert errors.make("NOT_FOUND", "x", packed(foreign)).reason == ""


def test_an_error_can_be_sent_elsewhere() -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2))
    error = errors.make("RESOURCE_EXHAUSTED", "later", packed(retry))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.code, again.retry_after_s) == (
        errors.Overloaded,
        "later",
        "RESOURCE_EXHAUSTED",
        2.0,
    )
