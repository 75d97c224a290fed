"""What a caller of the client catches: one class a kind of failure, made from what the server sent.
Knows no transport."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2

from gateway.printable import printable
from gateway.wire import ERROR_DOMAIN


class GatewayWarning(UserWarning):
    """What was asked for is done in part, or otherwise than asked for; the text says how."""


def warn(words: str) -> None:
    """Warn whoever called this package, at the line where they did."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("gateway."):
        frame, level = frame.f_back, level + 1
    warnings.warn(printable(words, keep=""), GatewayWarning, stacklevel=level)


@dataclass(frozen=True)
class FieldViolation:
    """One field that is wrong, with what would be right."""

    field: str
    """Its path in the request, such as `cluster.spec.options.worker_cores`."""
    description: str
    """What would be right."""


@dataclass(frozen=True)
class QuotaViolation:
    """A quota that is used up, and whose it is."""

    subject: str
    """Whose: `users/{user}`."""
    description: str
    """Which quota, as a sentence."""


class GatewayError(Exception):
    """A call to the gateway failed. Its text says why."""

    code: str
    """Name of a gRPC status code, such as `NOT_FOUND`."""
    reason: str
    """A value of ErrorReason, such as `CLUSTER_NOT_FOUND`; empty if the gateway gave none."""
    violations: tuple[FieldViolation, ...]
    """Every field of the request that is wrong."""
    quotas: tuple[QuotaViolation, ...]
    """Every quota that is used up."""
    retry_after_s: float | None
    """In how many seconds it may be worth to try again; None if the gateway does not say."""
    metadata: dict[str, str]
    """What the gateway tells besides, such as `correlation_id`, by which its log explains a
    fault."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "UNKNOWN",
        reason: str = "",
        violations: Sequence[FieldViolation] = (),
        quotas: Sequence[QuotaViolation] = (),
        retry_after_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(printable(message))  # it ends on a terminal, sooner or later
        self.code, self.reason = code, reason
        self.violations, self.quotas = tuple(violations), tuple(quotas)
        self.retry_after_s = retry_after_s
        self.metadata = dict(metadata or {})


class AuthenticationFailed(GatewayError):
    """The credentials were missing or not accepted."""


class UserNameRefused(AuthenticationFailed):
    """The credentials were right, and the name in them can be no user's; the text says why."""


class NotSignedIn(GatewayError):
    """Signing in could not even be tried, such as for want of a Kerberos ticket; the text says what
    helps."""


class NotProved(GatewayError):
    """The gateway did not prove that it is the one that was asked for."""


class NoSession(GatewayError):
    """Credentials such as these are exchanged for no session, or the call shows none."""


class InsecureAddress(GatewayError, ValueError):
    """Credentials were not sent, as anybody on the way could have read them."""


class PermissionDenied(GatewayError):
    """The caller may not do that."""


class ClusterNotFound(GatewayError):
    """The caller has no such cluster."""


class TokenNotFound(GatewayError):
    """The caller has no such token."""


class TokenExists(GatewayError):
    """The token was made before by the same request, whose secret is told only once."""


class ClusterExists(GatewayError):
    """The name is taken by a living cluster."""


class InvalidRequest(GatewayError, ValueError):
    """The request was wrong; `violations` names every field."""


class UnknownKeyword(InvalidRequest, TypeError):
    """A keyword is neither one of the called function nor an option of the gateway."""


class RequestIdReused(InvalidRequest):
    """The request_id was used before with a different request."""


class ClusterNotActive(GatewayError):
    """The cluster's scheduler does not answer yet."""


class ClusterFinished(GatewayError):
    """The cluster is stopping or stopped."""


class Conflict(GatewayError):
    """The cluster has changed meanwhile."""


class Overloaded(GatewayError):
    """Too much at once; try again later."""


class SignInsSlowed(Overloaded):
    """Many sign-ins with this name or from this address have failed; `retry_after_s` says when to
    try again."""


class QuotaExceeded(Overloaded):
    """A quota is used up; `quotas` says which, and `retry_after_s` when it may be worth to try
    again."""


class Unavailable(GatewayError):
    """The gateway does not answer."""


class Unreachable(Unavailable):
    """The gateway is not reached, and will not be by waiting: its text says what is wrong, with
    which setting, and what would be right."""


class NoGateway(Unreachable):
    """Something answers at the gateway's address, and it is no gateway; or none below that path."""


class ServerFailed(GatewayError):
    """A fault of the gateway; `metadata["correlation_id"]` is what its log explains it by."""


class ProcessEnds(Unavailable, ConnectionError):
    """This process is ending, or has no room for threads; an OSError, as Dask's loops that connect
    again know no other."""


class DeadlineExceeded(GatewayError, TimeoutError):
    """The gateway did not answer in time."""


class RevisionCompacted(GatewayError):
    """The revision to resume a watch from is forgotten."""


class ClusterFailed(GatewayError):
    """The cluster ended before it could be used, or failed."""


class WorkersLate(GatewayError, TimeoutError):
    """Workers did not come in time; the text ends with what the gateway says of it."""


class LimitReached(GatewayError, ValueError):
    """More workers were waited for than the gateway's limits grant."""


BY_REASON: dict[str, type[GatewayError]] = {
    "CREDENTIALS_INVALID": AuthenticationFailed,
    "NOT_PERMITTED": PermissionDenied,
    "CLUSTER_NOT_FOUND": ClusterNotFound,
    "TOKEN_NOT_FOUND": TokenNotFound,
    "FIELD_INVALID": InvalidRequest,
    "REQUEST_ID_REUSED": RequestIdReused,
    "CLUSTER_EXISTS": ClusterExists,
    "CLUSTER_FINISHED": ClusterFinished,
    "CLUSTER_NOT_ACTIVE": ClusterNotActive,
    "ETAG_MISMATCH": Conflict,
    "REVISION_COMPACTED": RevisionCompacted,
    "OVERLOADED": Overloaded,
    "DRAINING": Unavailable,
    "STORE_UNAVAILABLE": Unavailable,
    "INTERNAL": ServerFailed,
    "TOKEN_EXISTS": TokenExists,
    "IDENTITY_UNAVAILABLE": Unavailable,
    "BACKEND_UNAVAILABLE": Unavailable,
    "RIGHTS_CHANGED": Unavailable,
    "SIGN_INS_SLOWED": SignInsSlowed,
    "USER_NAME_REFUSED": UserNameRefused,
    "METHOD_UNKNOWN": GatewayError,
    "REQUEST_TOO_LARGE": InvalidRequest,
    "PATH_UNKNOWN": GatewayError,
    "SERVER_UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "NO_SESSION": NoSession,
}
BY_CODE: dict[str, type[GatewayError]] = {
    "UNAUTHENTICATED": AuthenticationFailed,
    "PERMISSION_DENIED": PermissionDenied,
    "INVALID_ARGUMENT": InvalidRequest,
    "UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "RESOURCE_EXHAUSTED": Overloaded,
}


def make(code: str, message: str, details: Sequence[AnyMessage] = ()) -> GatewayError:
    """Return the error that a code, a message and google.rpc details tell."""
    reason, metadata, retry_after_s = "", dict[str, str](), None
    violations, quotas = list[FieldViolation](), list[QuotaViolation]()
    told = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.QuotaFailure(),
        error_details_pb2.RetryInfo(),
    )
    info, request, quota, retry = told
    for packed in details:
        if packed.Unpack(info) and info.domain == ERROR_DOMAIN:
            reason, metadata = info.reason, dict(info.metadata)
        elif packed.Unpack(request):
            violations += [
                FieldViolation(one.field, one.description) for one in request.field_violations
            ]
        elif packed.Unpack(quota):
            quotas += [QuotaViolation(one.subject, one.description) for one in quota.violations]
        elif packed.Unpack(retry):
            retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    kind = BY_REASON.get(reason) or BY_CODE.get(code) or GatewayError
    if quotas and issubclass(kind, Overloaded):
        kind = QuotaExceeded
    return kind(
        message or code,
        code=code,
        reason=reason,
        violations=violations,
        quotas=quotas,
        retry_after_s=retry_after_s,
        metadata=metadata,
    )
