"""What a wish alone makes of a cluster, before anything is done about it: so the answer to a wish
tells it, and nobody takes what was so before for what comes of it."""

from __future__ import annotations

from dataclasses import replace

from gateway.server.core.conditions import limits_condition
from gateway.server.core.limits import grant
from gateway.server.core.model import Cluster, GroupStatus
from gateway.server.core.transitions import Trigger, after


def told(cluster: Cluster, now: int) -> Cluster:
    """Return a cluster whose wish is new: how many workers of each group are desired within the
    limits, whether a limit holds some back, and that it stops if its end is wished."""
    granted = grant(cluster.spec, cluster.groups)
    ending = cluster.stop is not None
    groups = {
        name: replace(status, desired=0 if ending else granted.desired.get(name, 0))
        for name, status in cluster.groups.items()
    }
    for name, desired in granted.desired.items():
        groups.setdefault(name, GroupStatus(desired=0 if ending else desired))
    within = limits_condition(cluster, granted, now)
    there = any(one.type == within.type for one in cluster.conditions)
    conditions = tuple(within if one.type == within.type else one for one in cluster.conditions)
    cluster = replace(
        cluster, groups=groups, conditions=conditions if there else (*conditions, within)
    )
    return _stopping(cluster, now) if ending else cluster


def _stopping(cluster: Cluster, now: int) -> Cluster:
    state = after(cluster.state, Trigger.STOP)
    if cluster.stop is None or state is cluster.state:
        return cluster
    return replace(
        cluster,
        state=state,
        state_at=now,
        reason=cluster.stop.reason,
        message=cluster.stop.message,
    )
