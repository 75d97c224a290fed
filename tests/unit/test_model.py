"""What a record says of itself, and that of what has just begun nothing is said that has not
happened yet."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from gateway.backends.contract import Instance, Role
from gateway.server.core.facts import AgentNews, Facts
from gateway.server.core.model import (
    Activity,
    Adaptive,
    Cluster,
    Count,
    Event,
    GroupStatus,
    Lifecycle,
    Principal,
    Scheduler,
    Spec,
    State,
    StopWish,
    Token,
    Worker,
    WorkerGroup,
)
from gateway.server.core.quotas import Quotas

UID = "c" + "a" * 20
CLUSTER = Cluster(UID, "alice", "etl", Spec("local"))


def test_names() -> None:
    assert CLUSTER.name == "users/alice/clusters/etl"
    assert CLUSTER.scheduler_instance == Instance(UID, Role.SCHEDULER, "scheduler")
    assert Worker(UID, "gpu-3", "gpu").instance == Instance(UID, Role.WORKER, "gpu-3")


def test_an_etag_changes_with_each_wish_and_from_cluster_to_cluster() -> None:
    wishes = [
        dataclasses.replace(CLUSTER, uid=uid, generation=number)
        for uid in (UID, "c" + "b" * 20)
        for number in (1, 2, 11)
    ]
    assert len({wish.etag for wish in wishes}) == len(wishes)
    assert (
        dataclasses.replace(CLUSTER, state=State.ACTIVE, revision=9, updated_at=9).etag
        == CLUSTER.etag
    )
    assert CLUSTER.etag[0] == CLUSTER.etag[-1] == '"'  # as HTTP has it


@pytest.mark.parametrize("state", State)
def test_what_is_stopped_or_failed_has_finished(state: State) -> None:
    assert state.finished is (state.value in ("STOPPED", "FAILED"))


BEGUN = [
    CLUSTER,
    Count(),
    Lifecycle(),
    Scheduler(),
    Worker(UID, "gpu-3", "gpu"),
    GroupStatus(),
    Activity(),
    Event(UID, 1, "R", "m"),
    Principal("alice"),
    Token("id", "alice", b"hash"),
    AgentNews(),
    Facts(),
    Quotas(),
]


@pytest.mark.parametrize("record", BEGUN, ids=lambda record: type(record).__name__)
def test_of_what_has_just_begun_nothing_has_happened(record: Any) -> None:
    """Neither a count nor an instant nor a fact; what somebody forgets to say grants nothing and
    bounds nothing."""
    said = {
        field.name: getattr(record, field.name)
        for field in dataclasses.fields(record)
        if field.default is not dataclasses.MISSING
    }
    assert {name for name, value in said.items() if isinstance(value, int | float) and value} <= {
        "generation"
    }


def test_the_first_wish_is_the_first_and_nobody_has_seen_to_it() -> None:
    assert (CLUSTER.generation, CLUSTER.observed_generation) == (1, 0)
    assert CLUSTER.spec.groups == {"default": WorkerGroup(Count(0))}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("told", [False, True])
def test_a_cluster_holds_its_name_until_it_is_told_to_stop_or_has_ended(
    state: State, told: bool
) -> None:
    stop = StopWish(State.STOPPED, "", "", 1) if told else None
    of = dataclasses.replace(CLUSTER, state=state, stop=stop)
    assert of.holds_name is (not told and state not in (State.STOPPED, State.FAILED))


def test_an_adaptive_size_without_a_pace_leaves_it_to_the_agent() -> None:
    size = Adaptive(0, 1)
    assert (size.interval_s, size.wait_count, size.target_duration_s) == (None, 0, None)
