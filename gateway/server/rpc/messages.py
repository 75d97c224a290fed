"""Core → protobuf: how clusters, events, options and tokens look on the wire. ValueError where they
cannot be told, in JSON either."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import credential_service_pb2 as credential_pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from gateway import __version__, daskconfig
from gateway.server.core import lifetimes, limits, options
from gateway.server.core.admission import Offer
from gateway.server.core.model import (
    Adaptive,
    Cluster,
    Condition,
    Event,
    GroupStatus,
    Lifecycle,
    Scope,
    State,
    Token,
    WorkerGroup,
)
from gateway.server.core.standing import reconciling
from gateway.server.usecases.services import Endpoint
from gateway.variables import in_force, of_workers
from gateway.wire import DASHBOARD_PATH, SchedulerAddress

STATES: dict[State, Any] = {
    state: pb.ClusterState.Value(f"CLUSTER_STATE_{state.name}") for state in State
}
SCOPES: dict[Scope, Any] = {
    scope: credential_pb.Scope.Value(f"SCOPE_{scope.name}") for scope in Scope
}
# ms: the years 1 to 9999, which are all that JSON of protobuf tells
FIRST_AT, LAST_AT = -62_135_596_800_000, 253_402_300_799_999
MAX_DURATION_S = 315_576_000_000  # of protobuf's Duration


def timestamp(at: int) -> Timestamp | None:
    """Return an instant; None for 0, which means never."""
    if not FIRST_AT <= at <= LAST_AT:
        raise ValueError(f"{at} ms after 1970 is in none of the years 1 to 9999")
    return Timestamp(seconds=at // 1000, nanos=at % 1000 * 1_000_000) if at else None


def duration(seconds: float) -> Duration:
    """Return a duration."""
    if not abs(seconds) <= MAX_DURATION_S:
        raise ValueError(f"{seconds} s is longer than a duration may be")
    whole = int(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))


def struct(values: Mapping[str, object]) -> Struct:
    """Return values by name."""
    plain: dict[str, Any] = {
        key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()
    }
    if not _is_plain(plain):
        raise ValueError(
            "options are texts, truth values, finite numbers, lists and mappings of these"
        )
    message = Struct()
    message.update(plain)
    return message


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return isinstance(value, str | bool | None) or (
        isinstance(value, int | float) and math.isfinite(value)
    )


def serialized(message: Message | bytes) -> bytes:
    """Return what is sent of a message, which may be serialized already."""
    return message if isinstance(message, bytes) else message.SerializeToString()


def cluster_of(cluster: Cluster, endpoint: Endpoint) -> pb.Cluster:
    """Return a cluster."""
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
    return pb.ClusterSpec(
        backend=cluster.spec.backend,
        options=struct(cluster.spec.options),
        worker_groups=worker_groups(cluster),
        lifecycle=lifecycle(cluster.spec.lifecycle),
    )


def worker_groups(cluster: Cluster) -> dict[str, pb.WorkerGroup]:
    """Return worker groups as wished."""
    groups = {}
    for name, group in cluster.spec.groups.items():
        message = (
            pb.WorkerGroup(options=struct(group.options)) if group.options else pb.WorkerGroup()
        )
        if isinstance(group.size, Adaptive):
            message.adaptive.CopyFrom(_adaptive(group.size))
        else:
            message.count = group.size.workers
        groups[name] = message
    return groups


def _adaptive(size: Adaptive) -> pb.Adaptive:
    message = pb.Adaptive(minimum=size.minimum, maximum=size.maximum, wait_count=size.wait_count)
    if size.interval_s is not None:
        message.interval.CopyFrom(duration(size.interval_s))
    if size.target_duration_s is not None:
        message.target_duration.CopyFrom(duration(size.target_duration_s))
    return message


def lifecycle(value: Lifecycle) -> pb.Lifecycle:
    """Return a lifecycle with every duration set; 0 for never."""
    return pb.Lifecycle(
        idle_timeout=duration(value.idle_timeout_s or 0),
        max_lifetime=duration(value.max_lifetime_s or 0),
        no_client_timeout=duration(value.no_client_timeout_s or 0),
        ignore_clients=value.ignore_clients,
        no_task_timeout=duration(value.no_task_timeout_s or 0),
        keepalive_timeout=duration(value.keepalive_timeout_s or 0),
    )


def _status(cluster: Cluster, endpoint: Endpoint) -> pb.ClusterStatus:
    end = lifetimes.told_end(cluster)
    status = pb.ClusterStatus(
        state=STATES[cluster.state],
        reason=cluster.reason,
        message=cluster.message,
        state_time=timestamp(cluster.state_at),
        reconciling=reconciling(cluster),
        observed_generation=cluster.observed_generation,
        conditions=[_condition(condition) for condition in cluster.conditions],
        worker_groups=group_statuses(cluster),
        versions=dict(cluster.scheduler.versions),
        clients=0 if cluster.state.finished else cluster.activity.clients,
        idle_time=None if cluster.state.finished else timestamp(cluster.activity.idle_since_at),
        expire_time=expire_time(cluster),
        expire_reason=end.reason if end is not None else "",
        keepalive_time=_keepalive_time(cluster),
        environment=in_force(cluster.spec.settings),
        dask_config=_dask_config(cluster),
    )
    if cluster.state is State.ACTIVE:
        status.endpoints.scheduler = str(
            SchedulerAddress(endpoint.host, endpoint.port, cluster.uid, endpoint.prefix)
        )
        if cluster.scheduler.dashboard_address:
            status.endpoints.dashboard = f"{endpoint.url}{DASHBOARD_PATH}{cluster.uid}/status"
    return status


def group_statuses(cluster: Cluster) -> dict[str, pb.WorkerGroupStatus]:
    """Return how many workers each group has."""
    granted = limits.grant(cluster.spec, cluster.groups)
    return {
        name: _group_status(cluster, name, status, granted)
        for name, status in cluster.groups.items()
        if name in cluster.spec.groups
    }


def expire_time(cluster: Cluster) -> Timestamp | None:
    """Return when a cluster will be stopped if nothing changes, None if no end is in sight."""
    end = lifetimes.told_end(cluster)
    return timestamp(end.at) if end is not None else None


def _keepalive_time(cluster: Cluster) -> Timestamp | None:
    asked = cluster.spec.lifecycle.keepalive_timeout_s is not None
    if not asked or cluster.state.finished:
        return None
    return timestamp(max(cluster.created_at, cluster.kept_alive_at))


def _dask_config(cluster: Cluster) -> Struct | None:
    config = cluster.spec.settings.get("dask_config")
    whole = daskconfig.without_own(config) if isinstance(config, Mapping) else {}
    return struct(whole) if whole else None


def _group_status(
    cluster: Cluster, name: str, status: GroupStatus, granted: limits.Grant
) -> pb.WorkerGroupStatus:
    group, room = cluster.spec.groups[name], granted.room[name]
    ended = cluster.stop is not None or cluster.state.finished
    return pb.WorkerGroupStatus(
        desired=status.desired,
        pending=status.pending,
        running=status.running,
        worker_cores=group.resources.cores,
        worker_memory_bytes=group.resources.memory_bytes,
        wished=0 if ended else limits.wished(group.size, status),
        limit=room if room < limits.UNBOUNDED else None,
        environment=_own_environment(cluster, group),
        worker_gpus=group.resources.gpus,
        worker_resources=dict(group.resources.named),
    )


def _own_environment(cluster: Cluster, group: WorkerGroup) -> dict[str, str]:
    """Return the variables of a group's workers that its scheduler has not."""
    if not group.settings:  # it has ended
        return {}
    common = in_force(cluster.spec.settings)
    return {
        name: value
        for name, value in of_workers(group.settings).items()
        if common.get(name) != value
    }


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
        revision=value.revision,
        time=timestamp(value.at),
        reason=value.reason,
        message=value.message,
        instance=value.instance,
    )


def token(value: Token) -> credential_pb.Token:
    """Return a token without its secret."""
    return credential_pb.Token(
        id=value.id,
        display_name=value.display_name,
        scopes=sorted(SCOPES[scope] for scope in value.scopes),
        create_time=timestamp(value.created_at),
        expire_time=timestamp(value.good_until),
        parent=value.parent,
        way=value.session.way if value.session is not None else "",
    )


def session(value: Token, now: int) -> credential_pb.Session:
    """Return the session that a token is of."""
    return credential_pb.Session(
        id=value.id,
        user=value.user,
        way=value.session.way if value.session is not None else "",
        expire_time=timestamp(value.good_until),
        lasts=duration(max(0.0, (value.good_until - now) / 1000)),
        end_time=timestamp(value.expires_at),
    )


def offer(value: Offer) -> service_pb.GetClusterOptionsResponse:
    """Return what a user may have."""
    limits = service_pb.Limits(
        workers=value.limits.workers,
        cores=value.limits.cores,
        memory_bytes=value.limits.memory_bytes,
        gpus=value.limits.gpus,
        resources=dict(value.limits.named),
    )
    return service_pb.GetClusterOptionsResponse(
        fields=_fields(value.fields),
        backends=value.backends,
        limits=limits,
        default_lifecycle=lifecycle(value.lifecycle),
        server_version=__version__,
    )


def _fields(fields: Iterable[options.Field]) -> list[service_pb.OptionField]:
    return [_field(option) for option in fields]


def _field(option: options.Field) -> service_pb.OptionField:
    message = service_pb.OptionField(
        name=option.name,
        label=option.label or option.name,
        description=option.description,
        per_group=option.per_group,
    )
    match option:
        case options.Text():
            message.string_field.CopyFrom(
                service_pb.StringField(
                    default=option.default, max_length=option.max_length, pattern=option.pattern
                )
            )
        case options.Bool():
            message.bool_field.CopyFrom(service_pb.BoolField(default=option.default))
        case options.Integer():
            message.int_field.CopyFrom(
                service_pb.IntField(
                    default=option.default, minimum=option.minimum, maximum=option.maximum
                )
            )
        case options.Float():
            message.float_field.CopyFrom(
                service_pb.FloatField(
                    default=option.default, minimum=option.minimum, maximum=option.maximum
                )
            )
        case options.Select():
            message.select_field.CopyFrom(
                service_pb.SelectField(default=option.default, choices=option.choices)
            )
        case options.Mapped():
            message.mapping_field.CopyFrom(
                service_pb.MappingField(
                    default={key: str(text) for key, text in option.default.items()},
                    max_entries=option.max_entries,
                    structured=option.structured,
                )
            )
    return message
