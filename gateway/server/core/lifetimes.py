"""When the server ends a cluster by itself."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.server.core.model import Cluster, State, StopWish
from gateway.server.core.quantities import MAX_DURATION_S, format_duration
from gateway.server.core.reasons import Reason


def ends(cluster: Cluster, *, doubted: bool = False) -> Iterator[StopWish]:
    """Yield every end that is in sight if nothing changes, each with its instant; if `doubted`,
    without those that hang on use."""
    lifecycle, activity = cluster.spec.lifecycle, cluster.activity
    if cluster.state.finished or cluster.stop is not None:
        return
    if lifecycle.max_lifetime_s is not None:
        at = cluster.created_at + _ms(lifecycle.max_lifetime_s)
        yield StopWish(
            State.STOPPED,
            Reason.MAX_LIFETIME,
            f"it lived for {format_duration(lifecycle.max_lifetime_s)}",
            at,
        )
    # What an agent told before it fell silent, or before the clock jumped, says nothing of now.
    if doubted or cluster.state is not State.ACTIVE or cluster.scheduler.silent_since_at:
        return
    if lifecycle.idle_timeout_s is not None and activity.idle_since_at:
        at = activity.idle_since_at + _ms(lifecycle.idle_timeout_s)
        yield StopWish(
            State.STOPPED,
            Reason.IDLE_TIMEOUT,
            f"it was idle for {format_duration(lifecycle.idle_timeout_s)}",
            at,
        )
    if lifecycle.no_client_timeout_s is not None and activity.no_client_since_at:
        at = activity.no_client_since_at + _ms(lifecycle.no_client_timeout_s)
        yield StopWish(
            State.STOPPED,
            Reason.NO_CLIENT,
            f"no client was connected for {format_duration(lifecycle.no_client_timeout_s)}",
            at,
        )


def _ms(duration_s: float) -> int:
    """Return milliseconds; what an older version took for endless is only very long."""
    return int(min(duration_s, MAX_DURATION_S) * 1000)


def next_end(cluster: Cluster, *, doubted: bool = False) -> StopWish | None:
    """Return the earliest end in sight."""
    return min(ends(cluster, doubted=doubted), key=lambda wish: wish.at, default=None)


def shortest(
    asked_s: float | None, default_s: float | None, maximum_s: float | None
) -> float | None:
    """Return the duration that holds: what was asked (0 is never), else the default, never more
    than the maximum."""
    wish = default_s if asked_s is None else (asked_s or None)
    if maximum_s is None:
        return wish
    return maximum_s if wish is None else min(wish, maximum_s)
