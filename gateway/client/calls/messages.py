"""What the client asks, as messages: pure, and shared by Gateway, GatewayCluster and the command
line."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, TypeAlias

from daskgateway.v1 import cluster_pb2, cluster_service_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from gateway.client.calls import reading

MAX_WAIT_COUNT = 100_000  # as the server has it
DEFAULT_MAXIMUM = 100  # workers, where nobody names a bound; the gateway's own limits hold besides
DEFAULT_GROUP = "default"

Amount: TypeAlias = int | float | str  # of memory or cores
Span: TypeAlias = float | str | timedelta  # a duration: seconds, or such as "1 hour"
# a count, or (minimum, maximum) for an adaptive group
Workers: TypeAlias = "int | tuple[int, int] | Bounds"
# further worker groups by name: `n_workers`, and options of their own
Groups: TypeAlias = Mapping[str, Mapping[str, Any]]


class Bounds(NamedTuple):
    """An adaptive group: its bounds, and how it is adapted where that is not left to the
    gateway."""

    minimum: int
    maximum: int
    interval_s: float | None = None
    wait_count: int | None = None
    target_duration_s: float | None = None


def bounds(
    minimum: int | None,
    maximum: int | None,
    interval: Span | None = None,
    wait_count: int | None = None,
    target_duration: Span | None = None,
) -> Bounds:
    """Return bounds out of what people write; ValueError or TypeError says which word is wrong."""
    if wait_count is not None:
        if isinstance(wait_count, bool) or not hasattr(wait_count, "__index__"):
            raise TypeError(
                f"wait_count must be a whole number of looks, not {reading.shown(wait_count)}"
            )
        if not 0 <= wait_count <= MAX_WAIT_COUNT:
            bound = f", {MAX_WAIT_COUNT} at most" if wait_count > 0 else ""
            told = reading.shown(wait_count)
            raise ValueError(f"wait_count must be 0 or more looks{bound}, not {told}")
        wait_count = max(1, int(wait_count))  # Dask counts the first look as well
    low = reading.count(0 if minimum is None else minimum, "minimum")
    most = max(DEFAULT_MAXIMUM, low) if maximum is None else reading.count(maximum, "maximum")
    if most < max(1, low):
        right = f"the minimum, {low}" if low else "1"
        raise ValueError(f"maximum must be at least {right}, not {most}")
    return Bounds(
        low,
        most,
        _pace("interval", interval),
        wait_count,
        _pace("target_duration", target_duration),
    )


def _pace(word: str, span: Span | None) -> float | None:
    if span is None:
        return None
    seconds = reading.seconds(span, word)
    if not seconds:
        raise ValueError(
            f'{word} must be a duration greater than 0, such as "5 s", not {reading.shown(span)}'
        )
    return seconds


class HasName(Protocol):
    """What has the name of a cluster: a `Cluster`, as `Gateway.submit` returns it, or a cluster
    object."""

    @property
    def name(self) -> str: ...


# a cluster: by its name, or as what has one
Named: TypeAlias = str | HasName


def name_of(given: Named) -> str:
    """Return a cluster's name as it was given, or of what was given; ValueError if that is none."""
    if not isinstance(given, str | os.PathLike) and isinstance(getattr(given, "name", None), str):
        given = given.name
    return reading.text(given, "the name of a cluster")


def full_name(given: Named) -> str:
    """Return a resource name out of `etl`, `alice/etl`, a resource name, or what has one;
    ValueError says what would be right."""
    user, cluster = reading.cluster(name_of(given))
    return f"users/{user}/clusters/{cluster}"


def asked_name(name: str) -> str:
    """Return the resource name of a cluster that may not be there yet: what is wrong with its id
    the gateway says, where the caller's words are known."""
    return full_name(name) if "/" in name else f"users/-/clusters/{name}"


def create(
    cluster_id: str = "",
    *,
    options: Mapping[str, Any] | None = None,
    backend: str = "",
    workers: Workers | None = None,
    worker_groups: Groups | None = None,
    labels: Mapping[str, str] | None = None,
    idle_timeout_s: float | None = None,
    max_lifetime_s: float | None = None,
    no_client_timeout_s: float | None = None,
    no_task_timeout_s: float | None = None,
    keepalive_timeout_s: float | None = None,
) -> cluster_service_pb2.CreateClusterRequest:
    """Return the request for a new cluster.

    `workers` is a count or (minimum, maximum). `worker_groups` are further groups by name, each
    with `n_workers` and options of its own. Durations of 0 are never, None takes the gateway's
    default.
    """
    spec = cluster_pb2.ClusterSpec(backend=backend)
    spec.options.update(dict(options or {}))
    if workers is not None:
        spec.worker_groups[DEFAULT_GROUP].CopyFrom(_group(workers))
    for name, wish in (worker_groups or {}).items():
        group = spec.worker_groups[name]
        group.CopyFrom(_group(wish.get("n_workers", 0)))
        group.options.update({key: value for key, value in wish.items() if key != "n_workers"})
    for field, seconds in (
        (spec.lifecycle.idle_timeout, idle_timeout_s),
        (spec.lifecycle.max_lifetime, max_lifetime_s),
        (spec.lifecycle.no_client_timeout, no_client_timeout_s),
        (spec.lifecycle.no_task_timeout, no_task_timeout_s),
        (spec.lifecycle.keepalive_timeout, keepalive_timeout_s),
    ):
        if seconds is not None:
            _put_seconds(field, seconds)
    return cluster_service_pb2.CreateClusterRequest(
        cluster_id=cluster_id,
        cluster=cluster_pb2.Cluster(spec=spec, labels=dict(labels or {})),
        request_id=str(uuid.uuid4()),
    )


def _put_seconds(field: Duration, seconds: float) -> None:
    fraction, whole = math.modf(seconds)
    field.seconds, field.nanos = int(whole), int(fraction * 1e9)
    field.SetInParent()


def lifecycle(
    name: Named, spans: Mapping[str, Span | None]
) -> cluster_service_pb2.UpdateClusterRequest:
    """Return the request for other lifetimes of a cluster, by the fields of its lifecycle; None
    leaves one as it is.

    ValueError if a duration is none, or if nothing is to be changed.
    """
    cluster = cluster_pb2.Cluster(name=full_name(name))
    given = {field: span for field, span in spans.items() if span is not None}
    if not given:
        raise ValueError(f"name at least one of {', '.join(spans)}")
    for field, span in given.items():
        _put_seconds(getattr(cluster.spec.lifecycle, field), reading.seconds(span, field))
    mask = FieldMask(paths=[f"spec.lifecycle.{field}" for field in given])
    return cluster_service_pb2.UpdateClusterRequest(
        cluster=cluster, update_mask=mask, request_id=str(uuid.uuid4())
    )


def scale(
    name: Named, workers: Workers, group: str = DEFAULT_GROUP
) -> cluster_service_pb2.UpdateClusterRequest:
    """Return the request for another size of a worker group, of one that there is.

    ValueError if that is no number of workers, nor two bounds.
    """
    group = reading.text(group, "group")
    wished: Workers
    if isinstance(workers, Bounds):
        wished = workers._replace(
            minimum=reading.count(workers.minimum, "minimum"),
            maximum=reading.count(workers.maximum, "maximum"),
        )
    else:
        wished = reading.sizing(workers, "the number of workers")
    cluster = cluster_pb2.Cluster(name=full_name(name))
    cluster.spec.worker_groups[group].CopyFrom(_group(wished))
    mask = FieldMask(paths=[f"spec.worker_groups.{group}"])
    return cluster_service_pb2.UpdateClusterRequest(
        cluster=cluster, update_mask=mask, request_id=str(uuid.uuid4())
    )


def _group(workers: Workers) -> cluster_pb2.WorkerGroup:
    if not isinstance(workers, int):
        adaptive = cluster_pb2.Adaptive(minimum=workers[0], maximum=workers[1])
        if isinstance(workers, Bounds):
            adaptive.wait_count = workers.wait_count or 0
            if workers.interval_s is not None:
                _put_seconds(adaptive.interval, workers.interval_s)
            if workers.target_duration_s is not None:
                _put_seconds(adaptive.target_duration, workers.target_duration_s)
        return cluster_pb2.WorkerGroup(adaptive=adaptive)
    return cluster_pb2.WorkerGroup(count=workers)


def stop_made_by(create_request_id: str) -> cluster_service_pb2.StopClusterRequest:
    """Return the request to stop what a request for a new cluster has made, or may make yet."""
    return cluster_service_pb2.StopClusterRequest(
        create_request_id=create_request_id, request_id=str(uuid.uuid4())
    )


def stop(name: Named) -> cluster_service_pb2.StopClusterRequest:
    """Return the request to stop."""
    return cluster_service_pb2.StopClusterRequest(
        name=full_name(name), request_id=str(uuid.uuid4())
    )
