"""What a wish alone makes of a cluster, before anything is done about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.server.core import wished
from gateway.server.core.admission import GroupWish, asking
from gateway.server.core.model import (
    Cluster,
    Count,
    GroupStatus,
    Limits,
    Spec,
    State,
    StopWish,
    WorkerGroup,
)
from gateway.server.core.reasons import ConditionType
from tests.unit.wishes import OFFER

SPEC = Spec("local", groups={"default": WorkerGroup(Count(20))}, limits=Limits(workers=6))
ACTIVE = Cluster("c" + "a" * 20, "alice", "etl", SPEC, state=State.ACTIVE)


def within(cluster: Cluster) -> bool:
    """Whether all that is wished is within the limits, as the cluster's one condition tells."""
    (one,) = (one for one in cluster.conditions if one.type == ConditionType.WITHIN_LIMITS)
    return one.holds


def test_what_a_limit_holds_back_is_told_at_once() -> None:
    told = wished.told(ACTIVE, 1)
    assert told.groups["default"].desired == 6
    assert not within(told)
    fewer = replace(told, spec=replace(SPEC, groups={"default": WorkerGroup(Count(4))}))
    again = wished.told(fewer, 2)
    assert again.groups["default"].desired == 4
    assert within(again)
    assert len(again.conditions) == len(told.conditions)


@pytest.mark.parametrize(
    ("state", "then"),
    [
        (State.PENDING, State.STOPPING),
        (State.ACTIVE, State.STOPPING),
        (State.STOPPING, State.STOPPING),
        (State.STOPPED, State.STOPPED),
    ],
)
def test_an_end_that_is_wished_leaves_no_workers_wished(state: State, then: State) -> None:
    ending = replace(
        ACTIVE,
        state=state,
        stop=StopWish(State.STOPPED, "STOP_REQUESTED", "alice asked for its end", 1),
        groups={"default": GroupStatus(desired=6)},
    )
    told = wished.told(ending, 2)
    assert told.groups["default"].desired == 0
    assert told.state is then


def test_settings_are_asked_for_of_what_is_new_and_right() -> None:
    own = GroupWish({"worker_memory": "8 GiB"})
    both = asking(OFFER, {"worker_cores": 2}, {"gpu": own, "plain": GroupWish()})
    assert [values.get("worker_memory") for values in both] == ["2 GiB", "8 GiB"]
    assert all(values["worker_cores"] == 2 for values in both)
    # wrong values are refused later, in their own words
    assert asking(OFFER, {"worker_cores": "many"}, {}) == []
    present = {"gpu": WorkerGroup(options={"worker_memory": "8 GiB"})}
    assert asking(OFFER, {}, {"gpu": own}, present) == []
    assert asking(OFFER, {}, {"gpu": GroupWish({"worker_memory": "1 GiB"})}, present) != []
    assert asking(OFFER, {"worker_cores": 2}, {}, present) == []
