"""When a cluster ends by itself: to the millisecond, in which words, and not while nobody can tell
of its use."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.server.core.lifetimes import ends, next_end, shortest
from gateway.server.core.model import Activity, Cluster, Lifecycle, Scheduler, Spec, State, StopWish

ALL = Lifecycle(idle_timeout_s=60.0, max_lifetime_s=7200.0, no_client_timeout_s=1.5)
CLUSTER = Cluster(
    "c" + "a" * 20,
    "alice",
    "etl",
    Spec("local", lifecycle=ALL),
    state=State.ACTIVE,
    created_at=1_000,
    activity=Activity(idle_since_at=5_000, no_client_since_at=70_000),
)
LIFETIME = StopWish(State.STOPPED, "MAX_LIFETIME", "it lived for 2 h", 7_201_000)
IDLE = StopWish(State.STOPPED, "IDLE_TIMEOUT", "it was idle for 1 min", 65_000)
ALONE = StopWish(State.STOPPED, "NO_CLIENT", "no client was connected for 1.5 s", 71_500)


def with_lifecycle(**lifecycle: float) -> Cluster:
    """Return the cluster with nothing but these ends."""
    return replace(CLUSTER, spec=replace(CLUSTER.spec, lifecycle=Lifecycle(**lifecycle)))  # type: ignore[arg-type]


def test_every_end_in_sight_is_told_with_its_instant_and_the_earliest_comes_first() -> None:
    assert list(ends(CLUSTER)) == [LIFETIME, IDLE, ALONE]
    assert next_end(CLUSTER) == IDLE
    assert (
        next_end(
            replace(CLUSTER, activity=Activity(idle_since_at=99_000, no_client_since_at=70_000))
        )
        == ALONE
    )


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        (with_lifecycle(), []),
        (with_lifecycle(max_lifetime_s=7200.0), [LIFETIME]),
        (with_lifecycle(idle_timeout_s=60.0), [IDLE]),
        (with_lifecycle(no_client_timeout_s=1.5), [ALONE]),
        (replace(CLUSTER, activity=Activity(idle_since_at=5_000)), [LIFETIME, IDLE]),
        (replace(CLUSTER, activity=Activity(no_client_since_at=70_000)), [LIFETIME, ALONE]),
        (replace(CLUSTER, activity=Activity()), [LIFETIME]),
        (replace(CLUSTER, scheduler=Scheduler(silent_since_at=1)), [LIFETIME]),
        (replace(CLUSTER, state=State.PENDING), [LIFETIME]),
        (replace(CLUSTER, state=State.CREATING), [LIFETIME]),
        (replace(CLUSTER, state=State.STOPPING, stop=IDLE), []),
        (replace(CLUSTER, stop=IDLE), []),
        (replace(CLUSTER, state=State.STOPPED), []),
        (replace(CLUSTER, state=State.FAILED), []),
    ],
)
def test_which_ends_are_in_sight(cluster: Cluster, expected: list[StopWish]) -> None:
    assert list(ends(cluster)) == expected
    assert next_end(cluster) == min(expected, key=lambda wish: wish.at, default=None)


def test_in_doubt_only_its_lifetime_ends_it() -> None:
    assert list(ends(CLUSTER, doubted=True)) == [LIFETIME]
    assert next_end(CLUSTER, doubted=True) == LIFETIME


KEPT = replace(with_lifecycle(keepalive_timeout_s=60.0), kept_alive_at=100_000)


@pytest.mark.parametrize(
    ("cluster", "at"),
    [
        (KEPT, 160_000),
        (replace(KEPT, kept_alive_at=0), 130_000),  # a minute after its client left
        (replace(KEPT, activity=Activity(no_client_since_at=1)), None),  # it computes
        (replace(KEPT, activity=Activity(idle_since_at=1)), None),  # a client is connected
        (replace(KEPT, scheduler=Scheduler(silent_since_at=1)), None),
        (replace(KEPT, state=State.PENDING), 160_000),
        (replace(KEPT, state=State.CREATING, kept_alive_at=0), 61_000),
        (replace(KEPT, stop=IDLE), None),
    ],
)
def test_a_cluster_that_nobody_keeps_alive_ends_unless_it_is_used(
    cluster: Cluster, at: int | None
) -> None:
    found = next_end(cluster)
    assert (found and found.at) == at
    assert found is None or found.reason == "NOT_KEPT_ALIVE"


def test_signs_of_life_count_only_while_they_can_be_heard() -> None:
    found = next_end(KEPT, listening_since_at=500_000)
    assert found is not None
    assert found.at == 560_000
    assert next_end(KEPT, doubted=True) is None
    assert next_end(replace(KEPT, state=State.CREATING), doubted=True) is not None


def test_without_a_task_it_ends_although_a_client_is_connected() -> None:
    cluster = replace(
        with_lifecycle(no_task_timeout_s=43_200.0), activity=Activity(clients=1, no_task_since_at=7)
    )
    assert next_end(cluster) == StopWish(
        State.STOPPED, "NO_TASK", "it had no task for 12 h", 43_200_007
    )
    assert next_end(replace(cluster, activity=Activity(clients=1))) is None


def test_an_endless_duration_of_an_older_record_is_only_very_long() -> None:
    found = next_end(with_lifecycle(max_lifetime_s=float("inf")))
    assert found is not None
    assert found.at == 1_000 + 10 * 365 * 86_400 * 1000


@pytest.mark.parametrize(
    ("asked", "default", "maximum", "holds"),
    [
        (None, None, None, None),
        (None, 5.0, None, 5.0),
        (None, None, 7.0, 7.0),
        (None, 5.0, 7.0, 5.0),
        (None, 9.0, 7.0, 7.0),
        (0.0, None, None, None),
        (0.0, 5.0, None, None),
        (0.0, 5.0, 7.0, 7.0),
        (3.0, 5.0, None, 3.0),
        (3.0, 5.0, 7.0, 3.0),
        (7.0, None, 7.0, 7.0),
        (8.0, None, 7.0, 7.0),
        (8.0, 5.0, None, 8.0),
    ],
)
def test_the_duration_that_holds(
    asked: float | None, default: float | None, maximum: float | None, holds: float | None
) -> None:
    assert shortest(asked, default, maximum) == holds


@given(st.none() | st.floats(0, 1e8), st.none() | st.floats(1, 1e8), st.floats(1, 1e8))
def test_nobody_exceeds_the_maximum(
    asked: float | None, default: float | None, maximum: float
) -> None:
    found = shortest(asked, default, maximum)
    assert found is not None
    assert 0 < found <= maximum
