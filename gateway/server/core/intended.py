"""Whether a process that runs is intended, left over, or unknown to the database.

Nothing is ever started that was not stored before, and what was stored leaves a trace: a purged
cluster a tombstone, a worker that is gone a number that is never used again. So what has left no
trace was stored in another database than this one, which lacks it: an older one, or an empty one.
It is somebody's cluster, and not a leftover.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

from gateway.backends.contract import Instance, Role
from gateway.server.core.model import Cluster, GroupStatus


class Standing(Enum):
    """How a process that runs stands to the database."""

    INTENDED = "intended"
    LEFT_OVER = "left over"
    UNKNOWN = "unknown"


def standing(
    instance: Instance, cluster: Cluster | None, workers: Collection[str], *, purged: bool
) -> Standing:
    """Return it. `cluster` is that of the instance's uid, None if there is none; `workers` are the
    names of its workers."""
    if cluster is None:
        return Standing.LEFT_OVER if purged else Standing.UNKNOWN
    if cluster.state.finished:
        return Standing.LEFT_OVER
    if instance.role is Role.SCHEDULER:
        if cluster.scheduler.launching is not None:
            return Standing.INTENDED
        return Standing.LEFT_OVER if cluster.stop is not None else Standing.UNKNOWN
    if instance.name in workers:
        return Standing.INTENDED
    group, _, sequence = instance.name.rpartition("-")
    numbered = sequence.isascii() and sequence.isdigit() and len(sequence) < 10
    known = numbered and int(sequence) < cluster.groups.get(group, GroupStatus()).next_sequence
    return Standing.LEFT_OVER if known else Standing.UNKNOWN
