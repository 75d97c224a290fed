"""How long a client waits for a cluster: asked for again and again, until it stands where it is
wanted or has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from daskgateway.v1 import cluster_service_pb2 as pb
from google.protobuf.duration_pb2 import Duration

from gateway.client.calls import api, errors, reading
from gateway.client.calls import messages as requests
from gateway.client.calls.channel import Connection
from gateway.client.model.cluster import Cluster
from gateway.client.model.status import ClusterState

POLL_S = 30.0  # of one question
PREFIX = "CLUSTER_STATE_"  # of states in the protocol
LATE_S = 10.0  # how much later than asked for an answer may come


def states_of(states: Sequence[ClusterState | str] | ClusterState | str) -> list[ClusterState]:
    """Return states out of one or several words; ValueError if one is none that can be waited
    for."""
    found = [ClusterState.known(state) for state in reading.names(states, "states")]
    if ClusterState.UNKNOWN in found:
        raise ValueError("UNKNOWN is no state to wait for")
    return found


# what other gateways call some of them
OTHERS = {"RUNNING": ("ACTIVE",), "PENDING": ("PENDING", "CREATING")}


def listed_states(status: Sequence[ClusterState | str] | ClusterState | str | None) -> list[str]:
    """Return the states that a list is to show; none for all that are not finished. "running" and
    "pending" are taken as dask-gateway means them; ValueError if a word is none."""
    if status is None:
        return []
    found: list[str] = []
    for word in reading.names(status, "status"):
        text = str(word).strip().upper().removeprefix(PREFIX)
        mine = isinstance(word, ClusterState)
        there = [*(state.lower() for state in ClusterState if state != "UNKNOWN"), "running"]
        if not mine and text.lower() not in there:
            hint = reading.meant(text, there) or f"; there are {', '.join(there)}"
            raise ValueError(f"status: {reading.shown(word)} is no state of a cluster{hint}")
        found += (text,) if mine else OTHERS.get(text) or states_of(text)
    return found


def wait(
    connection: Connection,
    name: requests.Named,
    states: Sequence[ClusterState],
    timeout_s: float,
    told: Callable[[Cluster], None] | None = None,
    after_revision: int = 0,
) -> Cluster:
    """Return a cluster once it is in one of the states, or finished; `told` hears of it whenever it
    has changed since `after_revision`, and at once where that is 0.

    DeadlineExceeded after the timeout, in which the time that its scheduler waits in a batch
    system's queue does not count.
    """
    request = pb.WaitClusterRequest(
        name=requests.full_name(name),
        states=[f"CLUSTER_STATE_{state}" for state in states],
        after_revision=after_revision,
    )
    deadline = time.monotonic() + timeout_s
    while True:
        asked_at = time.monotonic()
        # who does not know how it stands is told at once: the next change may be hours away
        left_s = min(POLL_S, max(0.0, deadline - asked_at)) if request.after_revision else 0.0
        request.timeout.CopyFrom(Duration(seconds=int(left_s), nanos=int(left_s % 1 * 1e9) or 1))
        cluster = Cluster.from_proto(
            connection.call(api.WAIT_CLUSTER, request, timeout_s=left_s + LATE_S)
        )
        if told is not None:
            told(cluster)
        if cluster.state in states or cluster.state.finished:
            return cluster
        if cluster.queued:
            # waiting in a batch system's queue is not starting
            deadline += time.monotonic() - asked_at
        if time.monotonic() >= deadline:
            raise errors.DeadlineExceeded(
                f"cluster {cluster.name} is {cluster.state} after {timeout_s:g} s:"
                f" {cluster.explanation}",
                code="DEADLINE_EXCEEDED",
            )
        request.after_revision = cluster.revision
