"""What an answer of the API means that is no success. Pure.

Many refusals have the same status and reason (403 Forbidden): only their message tells a quota from
a right that is lacking.
"""

from __future__ import annotations

import json
import re
from enum import Enum


class Kind(str, Enum):
    """What a refusal means."""

    EXISTS = "exists"  #: an object of that name is there
    DELETING = "deleting"  #: and is on its way out
    CONFLICT = "conflict"  #: it is another one than was meant, or was changed meanwhile
    ABSENT = "absent"  #: there is no such object
    QUOTA = "quota"  #: there is no room for it now
    WRONG = "wrong"  #: it will never be taken as it is
    RIGHTS = "rights"  #: the gateway may not do that
    EXPIRED = "expired"  #: a watch from too long ago
    BUSY = "busy"  #: to be asked again later
    FAILED = "failed"  #: the API has failed


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, kind: Kind, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message
        self.retry_after_s = retry_after_s  # as the API wishes; 0: it has not said


_RIGHTS = re.compile(
    r"^\S+ (\"[^\"]*\" )?is forbidden: User \"[^\"]*\" cannot |cannot \S+ resource "
)
_QUOTA = re.compile(r"exceeded quota|quota exceeded", re.IGNORECASE)
MAX_RETRY_AFTER_S = 60.0


def refusal(status: int, body: bytes, retry_after: str = "") -> Refusal:
    """Return what an answer means; a body that is no Status of Kubernetes, as a proxy's, is told by
    its beginning."""
    reason, message = _told(body)
    message = message or f"the API answered {status}"
    try:
        wait_s = min(MAX_RETRY_AFTER_S, max(0.0, float(retry_after)))
    except ValueError:
        wait_s = 0.0
    return Refusal(status, _kind(status, reason, message), message, wait_s)


def _kind(status: int, reason: str, message: str) -> Kind:
    if status == 409:
        if "is being deleted" in message:
            return Kind.DELETING
        return Kind.EXISTS if reason in ("AlreadyExists", "") else Kind.CONFLICT
    if status == 404:
        return Kind.ABSENT
    if status == 410:
        return Kind.EXPIRED
    if status == 401:
        return Kind.RIGHTS
    if status == 403:
        if _QUOTA.search(message):
            return Kind.QUOTA
        return Kind.RIGHTS if _RIGHTS.search(message) else Kind.WRONG
    if status == 429 or reason in ("TooManyRequests", "ServerTimeout"):
        return Kind.BUSY
    return Kind.WRONG if status in (400, 413, 422) else Kind.FAILED


def _told(body: bytes) -> tuple[str, str]:
    try:
        status = json.loads(body)
    except ValueError:
        return "", " ".join(body[:300].decode(errors="replace").split())
    if not isinstance(status, dict) or status.get("kind") != "Status":
        return "", ""
    return str(status.get("reason") or ""), str(status.get("message") or "")[:2000]


def words(found: Refusal, what: str) -> str:
    """Return a refusal in words for users: what was asked for, and what stands against it."""
    if found.kind is Kind.QUOTA:
        return f"{what} is refused, for a quota of its namespace is reached: {found.message}"
    if found.kind is Kind.RIGHTS:
        return (
            "the gateway lacks a right in Kubernetes, which its administrator must give:"
            f" {found.message}"
        )
    if found.kind is Kind.DELETING:
        return f"{what}: an earlier one of its name is still being deleted"
    return f"{what} is refused: {found.message}"
