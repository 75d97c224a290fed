"""What a cluster's record alone tells of where it stands: whether it is still being worked on, and
whether anybody may be led to it."""

from __future__ import annotations

from gateway.server.core.model import Cluster, State


def reconciling(cluster: Cluster) -> bool:
    """Whether what is observed is not yet what is wished."""
    if cluster.state.finished:
        return False
    settled = all(
        group.running == group.desired and not group.pending for group in cluster.groups.values()
    )
    return (
        cluster.state is not State.ACTIVE
        or cluster.observed_generation != cluster.generation
        or not settled
    )


def routed(cluster: Cluster) -> bool:
    """Whether the edge may connect to a cluster's scheduler."""
    return cluster.state is State.ACTIVE and bool(cluster.scheduler.address)
