"""What the administrator changes under living clusters is taken up at the next start, or told."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from gateway.server.core.anew import followed
from gateway.server.core.model import (
    Cluster,
    Count,
    GroupStatus,
    Lifecycle,
    Limits,
    Spec,
    State,
    StopWish,
    WorkerGroup,
)
from gateway.server.store.memory import MemoryStore
from gateway.server.usecases.taken_up import take_up, tell_of_backends

NOW = 5_000
NEVER = Lifecycle()


def cluster(number: int = 1, **fields: Any) -> Cluster:
    """Return a living cluster of twenty workers, under a limit of twenty."""
    spec = Spec(
        "local",
        groups={"default": WorkerGroup(Count(20))},
        limits=Limits(workers=20),
        lifecycle=Lifecycle(idle_timeout_s=600.0),
    )
    made = Cluster(
        f"c{number:020d}",
        "alice",
        f"etl{number}",
        spec,
        state=State.ACTIVE,
        groups={"default": GroupStatus(desired=20, running=20)},
    )
    return replace(made, **fields)


def test_new_limits_bind_who_lives() -> None:
    """20 workers ran on under a limit of 6."""
    after, words = followed(cluster(), Limits(workers=6), NEVER, NOW)
    assert words == "at most 6 workers, before 20 workers"
    assert after.groups["default"].desired == 6
    assert after.spec.limits == Limits(workers=6)
    (condition,) = after.conditions
    assert (condition.type, condition.holds) == ("WithinLimits", False)
    assert "6 of 20 workers" in condition.message


def test_wider_limits_are_taken_up_too() -> None:
    held = cluster(groups={"default": GroupStatus(desired=6)})
    held = replace(held, spec=replace(held.spec, limits=Limits(workers=6, memory_bytes=2**30)))
    after, words = followed(held, Limits(), NEVER, NOW)
    assert after.groups["default"].desired == 20
    assert (
        words == "at most any workers, before 6 workers; at most any memory, before 1 GiB of memory"
    )


@pytest.mark.parametrize("name", ["idle_timeout", "max_lifetime", "no_client_timeout"])
def test_a_new_longest_time_binds_who_lives(name: str) -> None:
    most = replace(NEVER, **{f"{name}_s": 300.0})  # type: ignore[arg-type]
    after, words = followed(cluster(), Limits(workers=20), most, NOW)
    assert getattr(after.spec.lifecycle, f"{name}_s") == 300.0
    before = "10 min" if name == "idle_timeout" else "never"
    assert words == f"{name} 5 min, before {before}"


def test_a_longer_longest_time_gives_nobody_more() -> None:
    most = Lifecycle(idle_timeout_s=3600.0)
    assert followed(cluster(), Limits(workers=20), most, NOW) == (cluster(), "")


@pytest.mark.parametrize(
    "fields",
    [
        {"state": State.STOPPED},
        {"stop": StopWish(State.STOPPED, "STOP_REQUESTED", "asked", 1)},
    ],
)
def test_what_ends_is_left_alone(fields: dict[str, Any]) -> None:
    ending = cluster(**fields)
    assert followed(ending, Limits(workers=6), NEVER, NOW) == (ending, "")


async def stored(*clusters: Cluster) -> MemoryStore:
    """Return a store with clusters."""
    store = MemoryStore()
    await store.open()
    for one in clusters:
        await store.transact(lambda tx, one=one: tx.put_cluster(one))  # type: ignore[misc]
    return store


async def test_it_is_taken_up_once_and_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store = await stored(*(cluster(number) for number in range(250)))
    assert await take_up(store, Limits(workers=6), NEVER, NOW) == 250
    assert "250 living clusters follow the limits" in caplog.text
    events = await store.read(lambda tx: tx.events(cluster(7).uid))
    assert [event.reason for _, event in events] == ["LIMITS_CHANGED"]
    assert all(one.spec.limits.workers == 6 for one in store.view.clusters())
    before = store.view.revision
    assert await take_up(store, Limits(workers=6), NEVER, NOW) == 0
    assert store.view.revision == before


async def test_clusters_of_a_backend_that_is_gone_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = await stored(cluster(), cluster(2))
    await tell_of_backends(store, {"slurm": {}})
    assert "2 clusters live on backend local, which c.DaskGateway.backends does not" in caplog.text


async def test_a_place_that_moves_under_living_clusters_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They had counted as gone, and ran on."""
    store = await stored(cluster())
    setting = "c.LocalBackend.root"
    await tell_of_backends(store, {"local": {setting: "/a"}})
    assert not caplog.text
    for _ in range(2):
        caplog.clear()
        await tell_of_backends(store, {"local": {setting: "/b"}})
        assert (
            f"{setting} is /b, and 1 clusters live that were started when it was /a" in caplog.text
        )
    caplog.clear()
    await tell_of_backends(store, {"local": {setting: "/a"}})
    ended = replace(cluster(), state=State.STOPPED)
    await store.transact(lambda tx: tx.put_cluster(ended))
    await tell_of_backends(store, {"local": {setting: "/b"}})
    assert not caplog.text
    await store.transact(lambda tx: tx.put_cluster(cluster(3)))
    await tell_of_backends(store, {"local": {setting: "/b"}})
    assert not caplog.text
