"""Protobuf → core: what a caller asks, read strictly. Every field that cannot be read is one
violation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import credential_service_pb2 as credential_pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value

from gateway.server.core.admission import GroupWish, LifecycleWish, Wish
from gateway.server.core.errors import FieldInvalid, RequestTooLarge, Violation, key
from gateway.server.core.model import Adaptive, Count, Scope, State
from gateway.server.rpc import bounds
from gateway.server.usecases.clusters import Update
from gateway.server.usecases.mutation import Call

MAX_PATHS = 64
MAX_DURATION_S = 315_576_000_000  # of protobuf's Duration: ten thousand years

STATES = {pb.ClusterState.Value(f"CLUSTER_STATE_{state.name}"): state for state in State}
SCOPES = {credential_pb.Scope.Value(f"SCOPE_{scope.name}"): scope for scope in Scope}
GROUP_PREFIX = "spec.worker_groups."
LIFECYCLE_FIELDS = {  # names of the model, by path of an update mask
    f"spec.lifecycle.{field.name}": field.name + ("_s" if field.message_type is not None else "")
    for field in pb.Lifecycle.DESCRIPTOR.fields
}


class Malformed:
    """Stands for a message that could not be read, or holds more than it may."""

    def __init__(
        self, description: str, field: str = "request", *, too_large: bool = False
    ) -> None:
        self._violation = Violation(field, description)
        self._kind = RequestTooLarge if too_large else FieldInvalid

    def error(self) -> FieldInvalid:
        """Return what its caller is told."""
        return self._kind([self._violation])


def reader(message_type: type[Message]) -> Any:
    """Return a deserializer that never raises: what cannot be read, or is too much, becomes
    Malformed.

    It is looked at here, as gRPC keeps what it is given: a refused report would stay with the end
    of its call, and take memory many times its size, until the collector comes by.
    """

    most = bounds.most_bytes(message_type.DESCRIPTOR)

    def read(raw: bytes) -> Message | Malformed:
        if len(raw) > most:
            words = f"must have at most {most} bytes; it has {len(raw)}"
            return Malformed(words, too_large=True)
        try:
            message = message_type.FromString(raw)
        except Exception:  # protobuf's runtimes raise different types here
            return Malformed(
                f"must be a {message_type.DESCRIPTOR.full_name} in protobuf's encoding"
            )
        violation = bounds.excess(message)
        return message if violation is None else Malformed(violation.description, violation.field)

    return read


def call(method: str, request: Message) -> Call:
    """Return what makes a mutation repeatable."""
    request_id: str = request.request_id  # type: ignore[attr-defined]
    if not request_id:
        return Call(method)
    rest = type(request)()
    rest.CopyFrom(request)
    rest.ClearField("request_id")
    return Call(
        method,
        request_id.lower(),
        hashlib.sha256(rest.SerializeToString(deterministic=True)).digest(),
    )


def seconds(value: Duration, field: str, violations: list[Violation]) -> float:
    """Return a duration; one out of protobuf's bounds is a violation."""
    far = abs(value.seconds) > MAX_DURATION_S or abs(value.nanos) > 999_999_999
    if far or value.seconds * value.nanos < 0:
        violations.append(Violation(field, "is not a valid duration"))
        return 0.0
    return value.seconds + value.nanos / 1e9


def optional_seconds(
    message: Message, name: str, field: str, violations: list[Violation]
) -> float | None:
    """Return a duration, None if it is not set."""
    return seconds(getattr(message, name), field, violations) if message.HasField(name) else None


def wish(cluster: pb.Cluster) -> Wish:
    """Return what a new cluster is wished to be."""
    violations: list[Violation] = []
    wished = Wish(
        backend=cluster.spec.backend,
        options=values(cluster.spec.options),
        groups=groups(cluster.spec.worker_groups),
        lifecycle=lifecycle(cluster.spec.lifecycle, violations),
        labels=dict(cluster.labels),
    )
    if violations:
        raise FieldInvalid(violations)
    return wished


def values(struct: Struct) -> dict[str, object]:
    """Return a Struct as plain values. Whether they are right, NaN and infinity included, is for
    their fields to say."""
    return {name: _value(value) for name, value in struct.fields.items()}


def _value(value: Value) -> object:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return value.number_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return values(value.struct_value)
        case "list_value":
            return [_value(item) for item in value.list_value.values]
    return None


def groups(messages: Mapping[str, pb.WorkerGroup]) -> dict[str, GroupWish]:
    """Return worker groups as wished."""
    return {name: _group(message) for name, message in messages.items()}


def _group(message: pb.WorkerGroup) -> GroupWish:
    size: Count | Adaptive | None = None
    if message.WhichOneof("size") == "count":
        size = Count(message.count)
    elif message.WhichOneof("size") == "adaptive":
        size = _adaptive(message.adaptive)
    return GroupWish(values(message.options), size)


def _adaptive(message: pb.Adaptive) -> Adaptive:
    """Return bounds and pace; what is out of protobuf's own bounds is out of ours too."""

    def plain(name: str) -> float | None:
        told: Duration = getattr(message, name)
        return told.seconds + told.nanos / 1e9 if message.HasField(name) else None

    return Adaptive(
        message.minimum,
        message.maximum,
        plain("interval"),
        message.wait_count,
        plain("target_duration"),
    )


def lifecycle(message: pb.Lifecycle, violations: list[Violation]) -> LifecycleWish:
    """Return a lifecycle as wished."""
    return LifecycleWish(
        optional_seconds(message, "idle_timeout", "spec.lifecycle.idle_timeout", violations),
        optional_seconds(message, "max_lifetime", "spec.lifecycle.max_lifetime", violations),
        optional_seconds(
            message, "no_client_timeout", "spec.lifecycle.no_client_timeout", violations
        ),
        message.ignore_clients,
        optional_seconds(message, "no_task_timeout", "spec.lifecycle.no_task_timeout", violations),
        optional_seconds(
            message, "keepalive_timeout", "spec.lifecycle.keepalive_timeout", violations
        ),
    )


def made_by(request: service_pb.StopClusterRequest) -> str:
    """Return the request_id whose cluster is to be stopped, empty if a name says which one."""
    if request.create_request_id and (request.name or request.etag):
        raise FieldInvalid(
            [Violation("create_request_id", "must stand alone, with neither name nor etag")]
        )
    return request.create_request_id


def update(request: service_pb.UpdateClusterRequest) -> Update:
    """Return what an update changes, by its mask."""
    paths = [*map(_plain, request.update_mask.paths)]
    paths += [GROUP_PREFIX + name for name in request.worker_groups]
    spec, violations = request.cluster.spec, _wrong_paths(paths, request.cluster.spec)
    labels = dict(request.cluster.labels) if "labels" in paths else None
    lives = [LIFECYCLE_FIELDS[path] for path in paths if path in LIFECYCLE_FIELDS]
    if "spec.lifecycle" in paths:
        lives = []
    life = lifecycle(spec.lifecycle, violations) if lives or "spec.lifecycle" in paths else None
    if violations:
        raise FieldInvalid(violations)
    if "spec.worker_groups" in paths:
        return Update(labels, life, lives, groups(spec.worker_groups), all_groups=True)
    named = [path.removeprefix(GROUP_PREFIX) for path in paths if path.startswith(GROUP_PREFIX)]
    wished = {name: _group(spec.worker_groups[name]) for name in named}
    return Update(labels, life, lives, wished or None)


def _plain(path: str) -> str:
    """Return a mask's path without backticks around a group's name (AIP-161)."""
    name = path.removeprefix(GROUP_PREFIX)
    quoted = name != path and len(name) > 2 and name[0] == name[-1] == "`"
    return GROUP_PREFIX + name[1:-1] if quoted else path


def _wrong_paths(paths: list[str], spec: pb.ClusterSpec) -> list[Violation]:
    right = (
        "labels, spec.lifecycle, spec.lifecycle.{field}, spec.worker_groups or"
        " spec.worker_groups.{group}"
    )
    if not paths or len(paths) > MAX_PATHS:
        words = f"must name 1 to {MAX_PATHS} of {right}, together with worker_groups"
        return [Violation("update_mask", words)]
    wrong = []
    for path in paths:
        group = path.removeprefix(GROUP_PREFIX)
        if path in ("labels", "spec.lifecycle", "spec.worker_groups") or path in LIFECYCLE_FIELDS:
            continue
        if group == path or "." in group:
            wrong.append(
                Violation("update_mask", f"{path[:100]!r} cannot be updated; it must be {right}")
            )
        elif group not in spec.worker_groups:
            wrong.append(
                Violation(
                    f"cluster.spec.worker_groups.{key(group[:64])}",
                    "the mask names it but the request has no such group",
                )
            )
    return wrong


def states(numbers: Iterable[int]) -> set[State]:
    """Return states; an unknown one is a violation."""
    unknown = [number for number in numbers if number not in STATES]
    if unknown:
        raise FieldInvalid([Violation("states", f"{unknown[0]} is no state of a cluster")])
    return {STATES[number] for number in numbers}


def scopes(numbers: Iterable[int]) -> set[Scope]:
    """Return scopes; an unknown one is a violation."""
    unknown = [number for number in numbers if number not in SCOPES]
    if unknown:
        raise FieldInvalid([Violation("scopes", f"{unknown[0]} is no scope")])
    return {SCOPES[number] for number in numbers}
