"""What a change has led to, looked at for a moment: an answer to a change shows the wish, and the
status from before it was taken up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from daskgateway.v1 import cluster_service_pb2 as pb
from google.protobuf.duration_pb2 import Duration

from gateway.client.calls import api, errors
from gateway.client.calls.channel import Connection
from gateway.client.model import Cluster, ConditionStatus, reasons

SETTLE_S = 1.0  # a server takes up a change within milliseconds, unless it has much to do
LATE_S = 2.0  # how much later than asked for an answer may come


def settle(
    connection: Connection, cluster: Cluster, done: Callable[[Cluster], bool] | None = None
) -> Cluster:
    """Return a changed cluster once the gateway has taken the change up (`done`), or as it is after
    a second. An outage is no error here: the change itself was answered."""
    done = done or taken_up
    once = Connection(replace(connection.settings, retry_s=0.0))
    deadline = time.monotonic() + SETTLE_S
    while not done(cluster) and (left_s := deadline - time.monotonic()) > 0:
        request = pb.WaitClusterRequest(
            name=f"users/{cluster.owner}/clusters/{cluster.uid}",
            after_revision=cluster.revision,
            timeout=Duration(nanos=int(left_s % 1 * 1e9) or 1),
        )
        try:
            answer = once.call(api.WAIT_CLUSTER, request, timeout_s=left_s + LATE_S)
        except errors.GatewayError:
            return cluster
        cluster = Cluster.from_proto(answer)
    return cluster


def taken_up(cluster: Cluster) -> bool:
    """Whether a cluster's status was computed from its present wish, or it ends."""
    return not cluster.stale or cluster.state.ending


def ends(cluster: Cluster) -> bool:
    """Whether a stop is taken up."""
    return cluster.state.ending


def clamped(cluster: Cluster) -> str:
    """Return what limits have made of the wish for workers, in the gateway's words; empty where
    they grant all of it."""
    if not taken_up(cluster):
        return ""
    for condition in cluster.status.conditions:
        if condition.type == reasons.WITHIN_LIMITS and condition.status is ConditionStatus.FALSE:
            return f"cluster {cluster.id}: {condition.message}"
    return ""


def warn_of_limits(cluster: Cluster) -> Cluster:
    """Warn (GatewayWarning) if limits grant less than is wished; return the cluster."""
    if words := clamped(cluster):
        errors.warn(words)
    return cluster
