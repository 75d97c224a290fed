"""Core → protobuf: how clusters, events, options and tokens look on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import credential_service_pb2 as credential_pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.backends.contract import Resources
from gateway.server.core import lifetimes, options
from gateway.server.core.admission import Offer
from gateway.server.core.model import Adaptive, Cluster, Condition, Event, GroupStatus, Lifecycle, Scope, State, Token
from gateway.server.usecases.services import Endpoint
from gateway.wire import DASHBOARD_PATH, SchedulerAddress

STATES: dict[State, Any] = {state: pb.ClusterState.Value(f"CLUSTER_STATE_{state.name}") for state in State}
SCOPES: dict[Scope, Any] = {scope: credential_pb.Scope.Value(f"SCOPE_{scope.name}") for scope in Scope}
# The tag of a cluster in a list: its field's number, and that a length follows.
LISTED = bytes([service_pb.ListClustersResponse.DESCRIPTOR.fields_by_name["clusters"].number << 3 | 2])
TOLD_CACHED = 200  # changes that watches are being told of, a few KiB each
CACHED = 20_000  # clusters whose last message is kept, a few KiB each


def timestamp(at: int) -> Timestamp | None:
    """Return an instant; None for 0, which means never."""
    return Timestamp(seconds=at // 1000, nanos=at % 1000 * 1_000_000) if at else None


def duration(seconds: float) -> Duration:
    """Return a duration."""
    whole = int(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))


def struct(values: Mapping[str, object]) -> Struct:
    """Return values by name."""
    plain: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    message = Struct()
    message.update(plain)
    return message


def serialized(message: Message | bytes) -> bytes:
    """Return what is sent of a message, which may be serialized already."""
    return message if isinstance(message, bytes) else message.SerializeToString()


def varint(number: int) -> bytes:
    """Return a number as protobuf writes lengths: seven bits a byte, the least first (protobuf.dev/programming-guides/encoding)."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


@dataclass(frozen=True, slots=True)
class _Kept:
    revision: int
    message: pb.Cluster
    encoded: bytes
    listed: bytes  # as an element of ListClustersResponse.clusters: tag, length, message


class ClusterMessages:
    """Makes messages of clusters and keeps the last of each, serialized: a list of a thousand costs a thousand look-ups."""

    def __init__(self, endpoint: Callable[[], Endpoint]) -> None:
        self._endpoint = endpoint
        self._kept: dict[str, _Kept] = {}
        self._told: dict[tuple[str, int, bool], bytes] = {}

    def of(self, cluster: Cluster) -> pb.Cluster:
        """Return the message of a cluster. It is shared: do not change it."""
        return self._of(cluster).message

    def encoded(self, cluster: Cluster) -> bytes:
        """Return a cluster as it is sent."""
        return self._of(cluster).encoded

    def size_bytes(self, cluster: Cluster) -> int:
        """Return what a cluster adds to a list."""
        return len(self._of(cluster).listed)

    def listed(self, clusters: Iterable[Cluster], rest: service_pb.ListClustersResponse) -> bytes:
        """Return a list as it is sent: protobuf's messages may be joined end to end."""
        return b"".join([*[self._of(cluster).listed for cluster in clusters], rest.SerializeToString()])

    def told(self, cluster: Cluster, added: bool) -> bytes:
        """Return what a watch is told of a cluster, as it is sent: thousands of watches may be told the same."""
        key = (cluster.uid, cluster.revision, added)
        told = self._told.get(key)
        if told is None:
            kind = service_pb.WATCH_EVENT_TYPE_ADDED if added else service_pb.WATCH_EVENT_TYPE_MODIFIED
            event = service_pb.WatchEvent(type=kind, cluster=self.of(cluster))
            told = service_pb.WatchClustersResponse(revision=cluster.revision, event=event).SerializeToString()
            while len(self._told) >= TOLD_CACHED:
                del self._told[next(iter(self._told))]
            self._told[key] = told
        return told

    def _of(self, cluster: Cluster) -> _Kept:
        kept = self._kept.get(cluster.uid)
        if kept is not None and kept.revision == cluster.revision and cluster.revision:
            return kept
        message = _cluster(cluster, self._endpoint())
        encoded = message.SerializeToString()
        kept = _Kept(cluster.revision, message, encoded, LISTED + varint(len(encoded)) + encoded)
        if cluster.revision:
            while len(self._kept) >= CACHED:
                del self._kept[next(iter(self._kept))]
            self._kept[cluster.uid] = kept
        return kept


def _cluster(cluster: Cluster, endpoint: Endpoint) -> pb.Cluster:
    return pb.Cluster(
        name=cluster.name,
        uid=cluster.uid,
        etag=cluster.etag,
        generation=cluster.generation,
        revision=cluster.revision,
        owner=cluster.owner,
        labels=dict(cluster.labels),
        spec=_spec(cluster),
        status=_status(cluster, endpoint),
        create_time=timestamp(cluster.created_at),
        start_time=timestamp(cluster.started_at),
        update_time=timestamp(cluster.updated_at),
        stop_time=timestamp(cluster.stopped_at),
        purge_time=timestamp(cluster.purge_at),
    )


def _spec(cluster: Cluster) -> pb.ClusterSpec:
    groups = {}
    for name, group in cluster.spec.groups.items():
        message = pb.WorkerGroup(options=struct(group.options)) if group.options else pb.WorkerGroup()
        if isinstance(group.size, Adaptive):
            message.adaptive.minimum, message.adaptive.maximum = group.size.minimum, group.size.maximum
        else:
            message.count = group.size.workers
        groups[name] = message
    return pb.ClusterSpec(
        backend=cluster.spec.backend,
        options=struct(cluster.spec.options),
        worker_groups=groups,
        lifecycle=lifecycle(cluster.spec.lifecycle),
    )


def lifecycle(value: Lifecycle) -> pb.Lifecycle:
    """Return a lifecycle with every duration set; 0 for never."""
    return pb.Lifecycle(
        idle_timeout=duration(value.idle_timeout_s or 0),
        max_lifetime=duration(value.max_lifetime_s or 0),
        no_client_timeout=duration(value.no_client_timeout_s or 0),
        ignore_clients=value.ignore_clients,
    )


def _status(cluster: Cluster, endpoint: Endpoint) -> pb.ClusterStatus:
    end = lifetimes.next_end(cluster)
    status = pb.ClusterStatus(
        state=STATES[cluster.state],
        reason=cluster.reason,
        message=cluster.message,
        state_time=timestamp(cluster.state_at),
        reconciling=reconciling(cluster),
        observed_generation=cluster.observed_generation,
        conditions=[_condition(condition) for condition in cluster.conditions],
        worker_groups={
            name: _group_status(group, cluster.spec.groups[name].resources)
            for name, group in cluster.groups.items()
            if name in cluster.spec.groups
        },
        versions=dict(cluster.scheduler.versions),
        clients=0 if cluster.state.finished else cluster.activity.clients,
        idle_time=None if cluster.state.finished else timestamp(cluster.activity.idle_since_at),
        expire_time=timestamp(end.at) if end is not None else None,
    )
    if cluster.state is State.ACTIVE:
        status.endpoints.scheduler = str(SchedulerAddress(endpoint.host, endpoint.port, cluster.uid, endpoint.prefix))
        if cluster.scheduler.dashboard_address:
            status.endpoints.dashboard = f"{endpoint.url}{DASHBOARD_PATH}{cluster.uid}/status"
    return status


def reconciling(cluster: Cluster) -> bool:
    """Whether what is observed is not yet what is wished."""
    if cluster.state.finished:
        return False
    settled = all(group.running == group.desired and not group.pending for group in cluster.groups.values())
    return cluster.state is not State.ACTIVE or cluster.observed_generation != cluster.generation or not settled


def _group_status(group: GroupStatus, each: Resources) -> pb.WorkerGroupStatus:
    return pb.WorkerGroupStatus(
        desired=group.desired,
        pending=group.pending,
        running=group.running,
        worker_cores=each.cores,
        worker_memory_bytes=each.memory_bytes,
    )


def _condition(condition: Condition) -> pb.Condition:
    holds = pb.CONDITION_STATUS_TRUE if condition.holds else pb.CONDITION_STATUS_FALSE
    return pb.Condition(
        type=condition.type,
        status=holds,
        reason=condition.reason,
        message=condition.message,
        transition_time=timestamp(condition.at),
    )


def event(value: Event) -> service_pb.Event:
    """Return an event."""
    return service_pb.Event(
        revision=value.revision, time=timestamp(value.at), reason=value.reason, message=value.message, instance=value.instance
    )


def token(value: Token) -> credential_pb.Token:
    """Return a token without its secret."""
    return credential_pb.Token(
        id=value.id,
        display_name=value.display_name,
        scopes=sorted(SCOPES[scope] for scope in value.scopes),
        create_time=timestamp(value.created_at),
        expire_time=timestamp(value.expires_at),
        parent=value.parent,
    )


def offer(value: Offer) -> service_pb.GetClusterOptionsResponse:
    """Return what a user may have."""
    limits = service_pb.Limits(workers=value.limits.workers, cores=value.limits.cores, memory_bytes=value.limits.memory_bytes)
    return service_pb.GetClusterOptionsResponse(
        fields=_fields(value.fields),
        backends=value.backends,
        limits=limits,
        default_lifecycle=lifecycle(value.lifecycle),
    )


def _fields(fields: Iterable[options.Field]) -> list[service_pb.OptionField]:
    return [_field(option) for option in fields]


def _field(option: options.Field) -> service_pb.OptionField:
    message = service_pb.OptionField(
        name=option.name, label=option.label or option.name, description=option.description, per_group=option.per_group
    )
    match option:
        case options.Text():
            message.string_field.CopyFrom(
                service_pb.StringField(default=option.default, max_length=option.max_length, pattern=option.pattern)
            )
        case options.Bool():
            message.bool_field.CopyFrom(service_pb.BoolField(default=option.default))
        case options.Integer():
            message.int_field.CopyFrom(service_pb.IntField(default=option.default, minimum=option.minimum, maximum=option.maximum))
        case options.Float():
            message.float_field.CopyFrom(service_pb.FloatField(default=option.default, minimum=option.minimum, maximum=option.maximum))
        case options.Select():
            message.select_field.CopyFrom(service_pb.SelectField(default=option.default, choices=option.choices))
        case options.Mapped():
            message.mapping_field.CopyFrom(service_pb.MappingField(default=dict(option.default), max_entries=option.max_entries))
    return message
