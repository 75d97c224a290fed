"""What runs and is not intended is told from what another database intended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.backends.contract import SCHEDULER_NAME, Instance, Role
from gateway.server.core.intended import Standing, standing
from gateway.server.core.model import (
    Cluster,
    GroupStatus,
    Launching,
    Scheduler,
    Spec,
    State,
    StopWish,
)

UID = "c" + "a" * 20
ACTIVE = Cluster(
    UID,
    "alice",
    "etl",
    Spec("local"),
    state=State.ACTIVE,
    scheduler=Scheduler(Launching.RUNNING),
    groups={"default": GroupStatus(next_sequence=5)},
)
MANY = replace(ACTIVE, groups={"default": GroupStatus(next_sequence=10**10)})
NEVER_BEGUN = Cluster(UID, "alice", "etl", Spec("local"))
ENDING = Cluster(
    UID,
    "alice",
    "etl",
    Spec("local"),
    state=State.STOPPING,
    stop=StopWish(State.STOPPED, "R", "m", 1),
)
ENDED = Cluster(UID, "alice", "etl", Spec("local"), state=State.FAILED)
SCHEDULER = Instance(UID, Role.SCHEDULER, SCHEDULER_NAME)


def worker(name: str) -> Instance:
    """Return a worker's identity."""
    return Instance(UID, Role.WORKER, name)


@pytest.mark.parametrize(
    ("instance", "cluster", "purged", "expected"),
    [
        (SCHEDULER, None, False, Standing.UNKNOWN),
        (worker("default-1"), None, False, Standing.UNKNOWN),
        (SCHEDULER, None, True, Standing.LEFT_OVER),
        (SCHEDULER, ACTIVE, False, Standing.INTENDED),
        (worker("default-3"), ACTIVE, False, Standing.INTENDED),
        # there was one, and its row is gone
        (worker("default-4"), ACTIVE, False, Standing.LEFT_OVER),
        (worker("default-5"), ACTIVE, False, Standing.UNKNOWN),  # a number that was never given
        (worker("gpu-0"), ACTIVE, False, Standing.UNKNOWN),
        (worker("default-"), ACTIVE, False, Standing.UNKNOWN),
        (worker("default-²"), ACTIVE, False, Standing.UNKNOWN),
        (worker("default-" + "9" * 5000), ACTIVE, False, Standing.UNKNOWN),
        (worker("default-123456789"), MANY, False, Standing.LEFT_OVER),
        (worker("default-0123456789"), MANY, False, Standing.UNKNOWN),  # no number of ours
        (SCHEDULER, NEVER_BEGUN, False, Standing.UNKNOWN),
        (SCHEDULER, ENDING, False, Standing.LEFT_OVER),
        (SCHEDULER, ENDED, False, Standing.LEFT_OVER),
        (worker("default-9"), ENDED, False, Standing.LEFT_OVER),
    ],
)
def test_how_a_process_stands_to_the_database(
    instance: Instance, cluster: Cluster | None, purged: bool, expected: Standing
) -> None:
    assert standing(instance, cluster, {"default-3"}, purged=purged) is expected
