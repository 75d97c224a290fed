"""What can go wrong, as a caller is told it: one class an error, its docstring the message. Knows
no gRPC.

`code` is the name of a gRPC status code, `reason` a value of ErrorReason. `{}` fields in a
docstring are filled from `metadata`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.printable import brief


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that is wrong, with what would be right."""

    field: str
    description: str


MAX_KEY = 128  # characters of a key in a path
MAX_TOLD = 400  # characters of each value in an error's words; programs have it whole
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


def key(name: str) -> str:
    """Return a map's key as a step of a field's path: in backticks, unless it is plain."""
    name = brief(name, MAX_KEY)
    return name if _PLAIN.fullmatch(name) else "`" + name.replace("`", "``") + "`"


class ServiceError(Exception):
    """The call failed."""

    code = "INTERNAL"
    reason = "INTERNAL"

    def __init__(
        self,
        *,
        violations: Sequence[Violation] = (),
        quotas: Sequence[Violation] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.violations = tuple(violations)
        self.quotas = tuple(quotas)  # whose quota, in place of a field
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s
        told = {name: brief(value, MAX_TOLD) for name, value in self.metadata.items()}
        super().__init__(" ".join((self.__doc__ or "").split()).format(**told))


class CredentialsInvalid(ServiceError):
    """Credentials are missing, malformed, wrong, expired or revoked. Send `authorization: Bearer
    <token>` or `Basic`."""

    code = "UNAUTHENTICATED"
    reason = "CREDENTIALS_INVALID"
    challenge = ""  # by what one may sign in, as in WWW-Authenticate


class UserNameRefused(ServiceError):
    """Your credentials are right, but {name} can be no user here: {why}."""

    code = "UNAUTHENTICATED"
    reason = "USER_NAME_REFUSED"


class NoSession(ServiceError):
    """There is no session for who calls by {way}: {why}."""

    code = "FAILED_PRECONDITION"
    reason = "NO_SESSION"


class NotPermitted(ServiceError):
    """You may not do this, or there is nothing here that you may see."""

    code = "PERMISSION_DENIED"
    reason = "NOT_PERMITTED"


class OfAnother(NotPermitted):
    """You may not do this, or there is nothing here that you may see: it is of the user {owner},
    and you are {user}. The name of a cluster of your own needs no user before it."""


class ScopeMissing(NotPermitted):
    """Your credentials lack the scope {scope}; use some that have it."""


class RightsChanged(ServiceError):
    """Your rights have changed since this call began; call again."""

    code = "UNAVAILABLE"
    reason = "RIGHTS_CHANGED"


class ClusterNotFound(ServiceError):
    """You have no cluster {name}."""

    code = "NOT_FOUND"
    reason = "CLUSTER_NOT_FOUND"


class TokenNotFound(ServiceError):
    """You have no token {id}."""

    code = "NOT_FOUND"
    reason = "TOKEN_NOT_FOUND"


class FieldInvalid(ServiceError):
    """The request is not valid."""

    code = "INVALID_ARGUMENT"
    reason = "FIELD_INVALID"

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__(violations=violations)
        self.args = (
            "; ".join(f"{violation.field}: {violation.description}" for violation in violations),
        )


class RequestTooLarge(FieldInvalid):
    """The request has too many bytes."""

    code = "RESOURCE_EXHAUSTED"
    reason = "REQUEST_TOO_LARGE"


class OptionsAtFault(ServiceError):
    """The gateway's own rules for options ({setting}) do not work; its administrator finds why in
    the server's log, and must mend them."""

    code = "INTERNAL"
    reason = "INTERNAL"


class RequestIdReused(ServiceError):
    """This request_id was used before with a different request; choose a new one for each logical
    call."""

    code = "INVALID_ARGUMENT"
    reason = "REQUEST_ID_REUSED"


class ClusterExists(ServiceError):
    """You already have a cluster {cluster_id}; connect to it, stop it first, or choose another
    id."""

    code = "ALREADY_EXISTS"
    reason = "CLUSTER_EXISTS"


class TokenExists(ServiceError):
    """A token was made by this request_id before; its secret is shown only once. Use a new
    request_id."""

    code = "ALREADY_EXISTS"
    reason = "TOKEN_EXISTS"


class ClusterFinished(ServiceError):
    """Cluster {cluster_id} is {state}; it can no longer be changed."""

    code = "FAILED_PRECONDITION"
    reason = "CLUSTER_FINISHED"


class ClusterNotActive(ServiceError):
    """Cluster {cluster_id} is {state}; wait until it is ACTIVE."""

    code = "FAILED_PRECONDITION"
    reason = "CLUSTER_NOT_ACTIVE"


class EtagMismatch(ServiceError):
    """The cluster has changed since you read it; its etag now is {etag}."""

    code = "ABORTED"
    reason = "ETAG_MISMATCH"


class RevisionCompacted(ServiceError):
    """Changes up to revision {compacted_revision} are forgotten; list again and watch from
    there."""

    code = "OUT_OF_RANGE"
    reason = "REVISION_COMPACTED"


class Overloaded(ServiceError):
    """{what}; try again later."""

    code = "RESOURCE_EXHAUSTED"
    reason = "OVERLOADED"


class SignInsSlowed(ServiceError):
    """Too many sign-ins from {address} have failed or wait; try again later."""

    code = "RESOURCE_EXHAUSTED"
    reason = "SIGN_INS_SLOWED"


class QuotaExceeded(ServiceError):
    """{what}."""

    code = "RESOURCE_EXHAUSTED"
    reason = "OVERLOADED"

    def __init__(self, user: str, what: str, retry_after_s: float | None = None) -> None:
        super().__init__(
            quotas=[Violation(f"users/{user}", what)],
            metadata={"what": what},
            retry_after_s=retry_after_s,
        )


class Draining(ServiceError):
    """The server is about to exit; try again."""

    code = "UNAVAILABLE"
    reason = "DRAINING"


class StoreUnavailable(ServiceError):
    """The database does not answer; try again."""

    code = "UNAVAILABLE"
    reason = "STORE_UNAVAILABLE"


class IdentityUnavailable(ServiceError):
    """Nobody can sign in by {provider} now, which does not answer; try again."""

    code = "UNAVAILABLE"
    reason = "IDENTITY_UNAVAILABLE"

    def __init__(
        self, *, metadata: Mapping[str, str] | None = None, retry_after_s: float | None = None
    ) -> None:
        """`provider` of the metadata is the name of the source, where it is known."""
        told = {"provider": "the identity source", **(metadata or {})}
        super().__init__(metadata=told, retry_after_s=retry_after_s)


class MethodUnknown(ServiceError):
    """There is no method {method}."""

    code = "UNIMPLEMENTED"
    reason = "METHOD_UNKNOWN"


class PathUnknown(ServiceError):
    """Nothing is served at {path}. (The edge says so.)"""

    code = "NOT_FOUND"
    reason = "PATH_UNKNOWN"


class ServerUnavailable(ServiceError):
    """The server does not answer; try again. (The edge says so.)"""

    code = "UNAVAILABLE"
    reason = "SERVER_UNAVAILABLE"


class DeadlineExceeded(ServiceError):
    """The time that you gave this call has passed. (The edge says so.)"""

    code = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


class MachineRoomUnavailable(ServiceError):
    """The machine room that the cluster runs in does not answer; try again."""

    code = "UNAVAILABLE"
    reason = "BACKEND_UNAVAILABLE"
