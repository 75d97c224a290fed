"""How much a request may hold, counted before anything is made of it: entries, lengths, depth. The
one table of these bounds.

Counting costs next to nothing, and what is made of a message costs a hundred times what reading it
did. A field that can be repeated and has no bound here may hold nothing; a test compares the table
with the messages there are.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.server.core import errors
from gateway.server.core.errors import Violation
from gateway.wire import MAX_REQUEST_BYTES

PUBLIC, INTERNAL, WELL_KNOWN = "daskgateway.v1.", "daskgateway.internal.v1.", "google.protobuf."

# Bytes of a request. To read a megabyte of nothing but empty entries takes 10 to 60 ms, during
# which nobody else is served.
MAX_BYTES = MAX_REQUEST_BYTES
BYTES: Mapping[str, int] = {
    f"{INTERNAL}AgentReport": 512 * 1024,
    f"{INTERNAL}CheckAccessRequest": 512 * 1024,
}

# Entries of each field that can be repeated, by its full name. Use cases say what is right, and
# permit less.
COUNTS: Mapping[str, int] = {
    f"{PUBLIC}Cluster.labels": 256,
    f"{PUBLIC}ClusterSpec.worker_groups": 256,
    f"{PUBLIC}ClusterStatus.conditions": 64,
    f"{PUBLIC}ClusterStatus.worker_groups": 256,
    f"{PUBLIC}ClusterStatus.versions": 256,
    f"{PUBLIC}ClusterStatus.environment": 1024,
    f"{PUBLIC}WorkerGroupStatus.environment": 1024,
    f"{PUBLIC}WorkerGroupStatus.worker_resources": 256,
    f"{PUBLIC}KeepAliveRequest.names": 1000,
    f"{PUBLIC}UpdateClusterRequest.worker_groups": 256,
    f"{PUBLIC}ListClustersRequest.states": 64,
    f"{PUBLIC}WaitClusterRequest.states": 64,
    f"{PUBLIC}WatchClustersRequest.clusters": 256,
    f"{PUBLIC}StreamLogsRequest.instances": 10_000,
    f"{PUBLIC}CreateTokenRequest.scopes": 64,
    f"{WELL_KNOWN}FieldMask.paths": 256,
    f"{WELL_KNOWN}Struct.fields": 256,
    f"{WELL_KNOWN}ListValue.values": 256,
    f"{INTERNAL}AgentReport.versions": 256,
    f"{INTERNAL}AgentReport.workers": 20_000,
    f"{INTERNAL}AgentReport.left": 20_000,
    f"{INTERNAL}AgentReport.retired": 20_000,
    f"{INTERNAL}AgentReport.targets": 256,
    f"{INTERNAL}CheckAccessRequest.accesses": 1000,
    f"{INTERNAL}FinishLoginRequest.answer": 16,
}
# Characters of texts and bytes, by the field's full name; of all others MAX_LENGTH.
MAX_LENGTH = 4096
LENGTHS: Mapping[str, int] = {
    f"{PUBLIC}GenerateClientCertificateRequest.public_key": 32 * 1024,
    f"{WELL_KNOWN}Value.string_value": 64 * 1024,
}
MAX_KEY = 1024  # characters of a map's key
# Entries of all fields of one request together.
MAX_ENTRIES = 4096
ENTRIES: Mapping[str, int] = {
    f"{PUBLIC}StreamLogsRequest": 10_100,
    f"{INTERNAL}AgentReport": 61_000,
}
MAX_DEPTH = 24  # messages in messages; a mapping or a list in options is two of them

# Wrappers that people do not write: `spec.options.x`, not `spec.options.fields.x.string_value`.
_UNNAMED = (
    f"{WELL_KNOWN}Struct",
    f"{WELL_KNOWN}Value",
    f"{WELL_KNOWN}ListValue",
    f"{WELL_KNOWN}FieldMask",
)
_TEXT, _MESSAGE = FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_MESSAGE
MAX_SHOWN = 64  # characters of a key in the name of a field


class _Kind(Enum):
    NUMBER = 0
    TEXT = 1
    MESSAGE = 2


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one field is looked at."""

    name: str  # in what a caller is told; empty where people do not write it
    kind: _Kind  # of its value, or of the values of its entries
    most: int  # characters of a text
    repeated: bool
    mapped: bool
    entries: int


class _Beyond(Exception):
    """Something is too much; ends the look at once."""

    def __init__(self, path: str, words: str) -> None:
        self.violation = Violation(path or "request", words)


def most_bytes(kind: Any) -> int:
    """Return how many bytes a request of a kind may have."""
    return BYTES.get(kind.full_name, MAX_BYTES)


def excess(message: Message) -> Violation | None:
    """Return the first thing of a request that is beyond its bound, None if all is within."""
    kind = message.DESCRIPTOR
    try:
        _look(message, "", 0, [ENTRIES.get(kind.full_name, MAX_ENTRIES)])
    except _Beyond as beyond:
        return beyond.violation
    return None


def _look(message: Message, path: str, depth: int, room: list[int]) -> None:
    if depth > MAX_DEPTH:
        raise _Beyond(path, f"must not be nested more than {MAX_DEPTH} messages deep")
    plans = _plans(message.DESCRIPTOR)
    for field, value in message.ListFields():
        plan = plans[field.number]
        if plan.repeated:
            _look_at_entries(plan, value, _joined(path, plan.name), depth, room)
        elif plan.kind is _Kind.MESSAGE:
            _look(value, _joined(path, plan.name), depth + 1, room)
        elif plan.kind is _Kind.TEXT and len(value) > plan.most:
            raise _Beyond(
                _joined(path, plan.name),
                f"must have at most {plan.most} characters; it has {len(value)}",
            )


def _look_at_entries(plan: _Plan, value: Any, path: str, depth: int, room: list[int]) -> None:
    count = len(value)
    if count > plan.entries:
        raise _Beyond(path, f"must have at most {plan.entries} entries; it has {count}")
    room[0] -= count
    if room[0] < 0:
        raise _Beyond(
            path, "must have fewer entries: all that the request holds together are too many"
        )
    if plan.mapped:
        for key in value:
            if isinstance(key, str) and len(key) > MAX_KEY:
                raise _Beyond(
                    path, f"keys must have at most {MAX_KEY} characters; one has {len(key)}"
                )
    if plan.kind is _Kind.TEXT:
        longest = max(map(len, value.values() if plan.mapped else value), default=0)
        if longest > plan.most:
            raise _Beyond(path, f"must have at most {plan.most} characters each; one has {longest}")
    elif plan.kind is _Kind.MESSAGE and plan.mapped:
        for key in value:
            step = errors.key(str(key)[:MAX_SHOWN])
            _look(value[key], _joined(path, step), depth + 1, room)
    elif plan.kind is _Kind.MESSAGE:
        for item in value:
            _look(item, path, depth + 1, room)


@functools.cache
def _plans(kind: Descriptor) -> Mapping[int, _Plan]:
    """Return how the fields of a message are looked at, by their numbers. As many as there are
    kinds of messages."""
    return {field.number: _plan(kind, field) for field in kind.fields}


def _plan(kind: Descriptor, field: FieldDescriptor) -> _Plan:
    entry = field.message_type
    mapped = entry is not None and entry.GetOptions().map_entry
    valued = entry.fields_by_name["value"] if entry is not None and mapped else field
    found = {_TEXT: _Kind.TEXT, _MESSAGE: _Kind.MESSAGE}.get(valued.cpp_type, _Kind.NUMBER)
    return _Plan(
        "" if kind.full_name in _UNNAMED else field.name,
        found,
        LENGTHS.get(field.full_name, MAX_LENGTH),
        field.is_repeated,
        mapped,
        COUNTS.get(field.full_name, 0),
    )


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name
