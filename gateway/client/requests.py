"""What the client asks, as messages: pure, and shared by Gateway, GatewayCluster and the command line."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from daskgateway.v1 import cluster_pb2, cluster_service_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from gateway.client import errors
from gateway.client.options import Options
from gateway.wire import UNREACHABLE

DEFAULT_GROUP = "default"
# Wishes beside options.
NAMED = ("backend", "workers", "worker_groups", "labels", "idle_timeout_s", "max_lifetime_s", "no_client_timeout_s")
STATES = {value: name.removeprefix("CLUSTER_STATE_") for name, value in cluster_pb2.ClusterState.items()}
FINISHED = (cluster_pb2.CLUSTER_STATE_STOPPED, cluster_pb2.CLUSTER_STATE_FAILED)
ENDING = (cluster_pb2.CLUSTER_STATE_STOPPING, *FINISHED)


def full_name(name: str) -> str:
    """Return a resource name out of `etl`, `alice/etl` or a resource name."""
    parts = name.split("/")
    if len(parts) == 1:
        return f"users/-/clusters/{name}"
    if len(parts) == 2:
        return f"users/{parts[0]}/clusters/{parts[1]}"
    return name


def state(cluster: cluster_pb2.Cluster) -> str:
    """Return where a cluster stands, as a word."""
    return STATES.get(cluster.status.state, str(cluster.status.state))


def create(
    cluster_id: str = "",
    *,
    options: Mapping[str, Any] | None = None,
    backend: str = "",
    workers: int | tuple[int, int] | None = None,
    worker_groups: Mapping[str, Mapping[str, Any]] | None = None,
    labels: Mapping[str, str] | None = None,
    idle_timeout_s: float | None = None,
    max_lifetime_s: float | None = None,
    no_client_timeout_s: float | None = None,
) -> cluster_service_pb2.CreateClusterRequest:
    """Return the request for a new cluster.

    `workers` is a count or (minimum, maximum). `worker_groups` are further groups by name, each with `n_workers` and options of its
    own. Durations of 0 are never, None takes the gateway's default.
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
    ):
        if seconds is not None:
            fraction, whole = math.modf(seconds)
            field.seconds, field.nanos = int(whole), int(fraction * 1e9)
            field.SetInParent()
    return cluster_service_pb2.CreateClusterRequest(
        cluster_id=cluster_id, cluster=cluster_pb2.Cluster(spec=spec, labels=dict(labels or {})), request_id=str(uuid.uuid4())
    )


def wishes(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return keywords of `create`: named ones as they are, all others as options."""
    named = {name: kwargs[name] for name in NAMED if name in kwargs}
    options = kwargs.get("options") or {}
    chosen = options.chosen() if isinstance(options, Options) else dict(options)
    rest = {name: value for name, value in kwargs.items() if name not in (*NAMED, "options")}
    return {**named, "options": {**chosen, **rest}}


def scale(name: str, workers: int | tuple[int, int], group: str = DEFAULT_GROUP) -> cluster_service_pb2.UpdateClusterRequest:
    """Return the request for another size of a worker group."""
    cluster = cluster_pb2.Cluster(name=full_name(name))
    cluster.spec.worker_groups[group].CopyFrom(_group(workers))
    mask = FieldMask(paths=[f"spec.worker_groups.{group}"])
    return cluster_service_pb2.UpdateClusterRequest(cluster=cluster, update_mask=mask, request_id=str(uuid.uuid4()))


def _group(workers: int | Sequence[int]) -> cluster_pb2.WorkerGroup:
    if not isinstance(workers, int):
        return cluster_pb2.WorkerGroup(adaptive=cluster_pb2.Adaptive(minimum=workers[0], maximum=workers[1]))
    return cluster_pb2.WorkerGroup(count=workers)


def stop(name: str) -> cluster_service_pb2.StopClusterRequest:
    """Return the request to stop."""
    return cluster_service_pb2.StopClusterRequest(name=full_name(name), request_id=str(uuid.uuid4()))


def queued(cluster: cluster_pb2.Cluster) -> bool:
    """Whether a cluster waits in a batch system's queue: for how long is not in the gateway's hands."""
    return cluster.status.state == cluster_pb2.CLUSTER_STATE_CREATING and cluster.status.reason == "SCHEDULER_QUEUED"


def unreachable(cluster: cluster_pb2.Cluster) -> str:
    """Return why nobody will reach the scheduler of a cluster that is ACTIVE, as the server tells; empty if it knows of nothing."""
    told = (condition for condition in cluster.status.conditions if condition.reason == UNREACHABLE)
    return next((condition.message for condition in told if condition.status == cluster_pb2.CONDITION_STATUS_FALSE), "")


def explanation(cluster: cluster_pb2.Cluster) -> str:
    """Return why a cluster is not (yet) what was asked for, in one or two sentences."""
    said = [cluster.status.message] if cluster.status.message else []
    for condition in cluster.status.conditions:
        if condition.status == cluster_pb2.CONDITION_STATUS_FALSE and condition.message and condition.message not in said:
            said.append(condition.message)
    return "; ".join(said) or "the server gave no reason"


def check_granted(wanted: int, cluster: cluster_pb2.Cluster) -> None:
    """Raise ClusterFailed or LimitReached, with the server's words, if so many workers will never be there."""
    if cluster.status.state in ENDING:
        raise errors.ClusterFailed(f"cluster {cluster.name} is {state(cluster)}: {explanation(cluster)}", reason=cluster.status.reason)
    if any(group.HasField("adaptive") for group in cluster.spec.worker_groups.values()):
        return
    if sum(group.desired for group in cluster.status.worker_groups.values()) >= wanted:
        return
    for condition in cluster.status.conditions:
        if condition.type == "WithinLimits" and condition.status == cluster_pb2.CONDITION_STATUS_FALSE:
            raise errors.LimitReached(f"{wanted} workers will not come: {condition.message}", code="FAILED_PRECONDITION")
