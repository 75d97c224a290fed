"""Whether a cluster is still being worked on, and whether anybody is led to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.server.core.model import Cluster, GroupStatus, Scheduler, State
from gateway.server.core.standing import reconciling, routed
from tests.unit.known import ACTIVE

SETTLED = replace(
    ACTIVE,
    generation=3,
    observed_generation=3,
    groups={"default": GroupStatus(desired=2, running=2), "gpu": GroupStatus()},
)


def with_group(**counts: Any) -> Cluster:
    """Return it with another group beside."""
    return replace(SETTLED, groups={**SETTLED.groups, "gpu": GroupStatus(**counts)})


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        (SETTLED, False),
        (replace(SETTLED, observed_generation=2), True),
        (with_group(desired=1), True),
        (with_group(running=1), True),
        (with_group(desired=1, running=1), False),
        (with_group(desired=1, running=1, pending=1), True),
        (with_group(pending=1), True),
        (replace(SETTLED, state=State.PENDING), True),
        (replace(SETTLED, state=State.CREATING), True),
        (replace(SETTLED, state=State.STOPPING), True),
        (replace(with_group(desired=1), state=State.STOPPED), False),
        (replace(with_group(desired=1), state=State.FAILED), False),
    ],
)
def test_it_is_worked_on_until_what_is_observed_is_what_is_wished(
    cluster: Cluster, expected: bool
) -> None:
    assert reconciling(cluster) is expected


@pytest.mark.parametrize("state", State)
def test_people_are_led_to_an_active_cluster_whose_address_is_known(state: State) -> None:
    assert routed(replace(SETTLED, state=state)) is (state is State.ACTIVE)
    nowhere = replace(SETTLED, state=state, scheduler=Scheduler())
    assert routed(nowhere) is False
