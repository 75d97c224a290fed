"""How clusters, users and groups are named, and how a name is read. Pure text; randomness is handed
in."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from gateway.server.core.errors import FieldInvalid, Violation
from gateway.wire import is_uid

UID_RANDOM_BYTES = 13
CLUSTER_ID_RANDOM_BYTES = 4

USER_NAME = "[a-z0-9_][a-z0-9_.@-]{0,62}"
_USER = re.compile(USER_NAME)
_CLUSTER_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_GROUP = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")
_REQUEST_ID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")

CALLER = "-"
EVERYBODY = "*"


@dataclass(frozen=True, slots=True)
class ClusterName:
    """Owner and id, or uid, out of a resource name."""

    user: str
    cluster: str


def new_uid(random: bytes) -> str:
    """Return a uid made of UID_RANDOM_BYTES random bytes: `c` and 20 characters of base32, safe in
    DNS and in paths."""
    return "c" + base64.b32encode(random).decode().lower().rstrip("=")[:20]


def new_cluster_id(random: bytes) -> str:
    """Return a readable id made of CLUSTER_ID_RANDOM_BYTES random bytes."""
    return "dask-" + base64.b32encode(random).decode().lower().rstrip("=")[:6]


def valid_user(user: str) -> bool:
    """Whether the text may be a user in resource names."""
    return _USER.fullmatch(user) is not None


def parse_cluster_name(text: str, caller: str, field: str = "name") -> ClusterName:
    """Return user and cluster of `users/{user}/clusters/{cluster}`; FieldInvalid names the
    field."""
    parts = text.split("/")
    if len(text) > 256 or len(parts) != 4 or parts[0] != "users" or parts[2] != "clusters":
        raise FieldInvalid([Violation(field, "must look like users/{user}/clusters/{cluster}")])
    user = caller if parts[1] == CALLER else parts[1]
    if not valid_user(user):
        raise FieldInvalid([Violation(field, f"the user must match {USER_NAME}")])
    if not _CLUSTER_ID.fullmatch(parts[3]):
        raise FieldInvalid([Violation(field, f"the cluster must match {_CLUSTER_ID.pattern}")])
    return ClusterName(user, parts[3])


def parse_parent(
    text: str, caller: str, field: str = "parent", *, everybody: bool = False
) -> str | None:
    """Return the user of `users/{user}`, None for everybody; FieldInvalid names the field."""
    if not text:
        return caller
    prefix, _, user = text.partition("/")
    if prefix == "users" and user == EVERYBODY and everybody:
        return None
    if prefix == "users" and user == CALLER:
        return caller
    if prefix != "users" or not valid_user(user):
        raise FieldInvalid(
            [
                Violation(
                    field, "must look like users/{user}" + (" or be users/*" if everybody else "")
                )
            ]
        )
    return user


def check_cluster_id(text: str, field: str = "cluster_id") -> list[Violation]:
    """Return what is wrong with an id that a user chose."""
    if not _CLUSTER_ID.fullmatch(text):
        return [Violation(field, f"must match {_CLUSTER_ID.pattern}")]
    if is_uid(text):
        return [Violation(field, "must not look like a uid (c and 20 letters or digits)")]
    return []


def check_group(text: str, field: str) -> list[Violation]:
    """Return what is wrong with the name of a worker group."""
    return (
        []
        if _GROUP.fullmatch(text)
        else [Violation(field, f"the group's name must match {_GROUP.pattern}")]
    )


def check_request_id(text: str, field: str = "request_id") -> list[Violation]:
    """Return what is wrong with a request id; an empty one is allowed."""
    return [] if not text or _REQUEST_ID.fullmatch(text) else [Violation(field, "must be a UUID")]


def worker_name(group: str, sequence: int) -> str:
    """Return the name of a group's next worker."""
    return f"{group}-{sequence}"
