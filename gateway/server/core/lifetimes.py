"""When the server ends a cluster by itself."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.server.core.model import Cluster, State, StopWish
from gateway.server.core.quantities import MAX_DURATION_S, format_duration
from gateway.server.core.reasons import Reason


def ends(
    cluster: Cluster, *, doubted: bool = False, listening_since_at: int = 0
) -> Iterator[StopWish]:
    """Yield every end that is in sight if nothing changes, each with its instant; if `doubted`,
    without those that hang on use. `listening_since_at`: since when signs of life can be heard."""
    lifecycle, activity = cluster.spec.lifecycle, cluster.activity
    if cluster.state.finished or cluster.stop is not None:
        return
    yield from _not_kept_alive(cluster, doubted, listening_since_at)
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
    if lifecycle.no_task_timeout_s is not None and activity.no_task_since_at:
        at = activity.no_task_since_at + _ms(lifecycle.no_task_timeout_s)
        yield StopWish(
            State.STOPPED,
            Reason.NO_TASK,
            f"it had no task for {format_duration(lifecycle.no_task_timeout_s)}",
            at,
        )


def _not_kept_alive(cluster: Cluster, doubted: bool, listening_since_at: int) -> Iterator[StopWish]:
    """Yield the end of a cluster whose process gives no more signs of life: not while it has a
    task or a client, and for as long again after it had one."""
    timeout_s, activity = cluster.spec.lifecycle.keepalive_timeout_s, cluster.activity
    if timeout_s is None:
        return
    since = max(cluster.created_at, cluster.kept_alive_at, listening_since_at)
    if cluster.state is State.ACTIVE:
        unused = activity.idle_since_at and activity.no_client_since_at
        if doubted or cluster.scheduler.silent_since_at or not unused:
            return
        since = max(since, activity.idle_since_at, activity.no_client_since_at)
    yield StopWish(
        State.STOPPED,
        Reason.NOT_KEPT_ALIVE,
        "the process that made it, and was to stop it, gave no sign of life for"
        f" {format_duration(timeout_s)}",
        since + _ms(timeout_s),
    )


def keeps_alive(cluster: Cluster, now: int) -> bool:
    """Whether a sign of life now is worth storing: each tenth of what a cluster lives without."""
    timeout_s = cluster.spec.lifecycle.keepalive_timeout_s
    return timeout_s is not None and now - cluster.kept_alive_at >= _ms(timeout_s) // 10


def _ms(duration_s: float) -> int:
    """Return milliseconds; what an older version took for endless is only very long."""
    return int(min(duration_s, MAX_DURATION_S) * 1000)


def next_end(
    cluster: Cluster, *, doubted: bool = False, listening_since_at: int = 0
) -> StopWish | None:
    """Return the earliest end in sight."""
    found = ends(cluster, doubted=doubted, listening_since_at=listening_since_at)
    return min(found, key=lambda wish: wish.at, default=None)


def told_end(cluster: Cluster) -> StopWish | None:
    """Return the earliest end in sight that is worth telling. That of a cluster which is not kept
    alive is put off again and again; its last sign of life is told in its place."""
    found = (wish for wish in ends(cluster) if wish.reason != Reason.NOT_KEPT_ALIVE)
    return min(found, key=lambda wish: wish.at, default=None)


def shortest(
    asked_s: float | None, default_s: float | None, maximum_s: float | None
) -> float | None:
    """Return the duration that holds: what was asked (0 is never), else the default, never more
    than the maximum."""
    wish = default_s if asked_s is None else (asked_s or None)
    if maximum_s is None:
        return wish
    return maximum_s if wish is None else min(wish, maximum_s)
