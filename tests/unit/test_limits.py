"""How many workers the limits of a cluster leave of a wish: exact to the worker, and told."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.contract import Resources
from gateway.server.core.limits import Grant, grant, scheduler_beyond, wished
from gateway.server.core.model import Adaptive, Count, GroupStatus, Limits, Size, Spec, WorkerGroup

GIB = 2**30


def spec(
    limits: Limits, scheduler: Resources | None = None, **groups: tuple[Size, float, int]
) -> Spec:
    """Return a spec of groups: the size of each, and cores and bytes of memory of one worker."""
    made = {
        name: WorkerGroup(size, resources=Resources(cores, memory))
        for name, (size, cores, memory) in groups.items()
    }
    return Spec("local", groups=made, limits=limits, scheduler=scheduler or Resources(0.0, 0))


@pytest.mark.parametrize(
    ("size", "target", "expected"),
    [
        (Count(0), 5, 0),
        (Count(3), 0, 3),
        (Adaptive(2, 6), 0, 2),
        (Adaptive(2, 6), 1, 2),
        (Adaptive(2, 6), 3, 3),
        (Adaptive(2, 6), 6, 6),
        (Adaptive(2, 6), 7, 6),
        (Adaptive(0, 6), 0, 0),
    ],
)
def test_a_group_wishes_its_count_or_its_target_within_its_bounds(
    size: Size, target: int, expected: int
) -> None:
    assert wished(size, GroupStatus(target=target)) == expected


@pytest.mark.parametrize(
    ("limits", "count", "cores", "memory", "granted", "limit"),
    [
        (Limits(), 100_000, 64.0, 2**50, 100_000, ""),
        (Limits(workers=4), 4, 1.0, GIB, 4, ""),
        (Limits(workers=4), 5, 1.0, GIB, 4, "4 workers"),
        (Limits(workers=0), 1, 1.0, GIB, 0, "0 workers"),
        (Limits(cores=8.0), 3, 2.0, GIB, 3, ""),  # the scheduler takes 2 of the cores
        (Limits(cores=8.0), 4, 2.0, GIB, 3, "8 cores"),
        (Limits(cores=7.9), 4, 2.0, GIB, 2, "7.9 cores"),
        # 0.3 / 0.1 is less than 3, as floats have it
        (Limits(cores=2.3), 4, 0.1, GIB, 3, "2.3 cores"),
        (Limits(cores=2.0), 1, 0.5, GIB, 0, "2 cores"),
        (Limits(cores=1.5), 1, 0.5, GIB, 0, "1.5 cores"),
        # of workers that take no core there is a bound all the same
        (Limits(cores=2.0), 5, 0.0, GIB, 1, "2 cores"),
        (Limits(cores=1.0), 5, 0.0, GIB, 0, "1 cores"),
        (Limits(memory_bytes=16 * GIB), 3, 1.0, 4 * GIB, 3, ""),  # the scheduler takes 4 GiB
        (Limits(memory_bytes=16 * GIB), 4, 1.0, 4 * GIB, 3, "16 GiB of memory"),
        (Limits(memory_bytes=16 * GIB - 1), 3, 1.0, 4 * GIB, 2, "16 GiB of memory"),
        (Limits(memory_bytes=3 * GIB), 1, 1.0, GIB, 0, "3 GiB of memory"),
        (Limits(memory_bytes=4 * GIB + 3), 9, 1.0, 0, 3, "4 GiB of memory"),
        (Limits(memory_bytes=4 * GIB + 3), 9, 1.0, 1, 3, "4 GiB of memory"),
        (Limits(memory_bytes=4 * GIB + 5), 9, 1.0, 2, 2, "4 GiB of memory"),
        (
            Limits(workers=3, cores=8.0, memory_bytes=12 * GIB),
            9,
            2.0,
            4 * GIB,
            2,
            "12 GiB of memory",
        ),
        (Limits(workers=2, cores=8.0, memory_bytes=12 * GIB), 9, 2.0, 4 * GIB, 2, "2 workers"),
        (Limits(workers=3, cores=4.0, memory_bytes=12 * GIB), 9, 2.0, 4 * GIB, 1, "4 cores"),
        (Limits(cores=math.inf), 100_000, 1.0, GIB, 100_000, ""),
    ],
)
def test_one_group_gets_what_the_nearest_limit_leaves(
    limits: Limits, count: int, cores: float, memory: int, granted: int, limit: str
) -> None:
    wish = spec(limits, Resources(2.0, 4 * GIB), default=(Count(count), cores, memory))
    said = (
        f"group default: {granted} of {count} workers, by the limit of {limit} for one cluster"
        if limit
        else ""
    )
    assert grant(wish, {}) == Grant({"default": granted}, {"default": granted}, said)


def test_what_one_group_takes_the_next_lacks_default_first_then_by_name() -> None:
    groups: dict[str, Any] = {
        "z": (Count(3), 1.0, GIB),
        "a": (Count(3), 2.0, 2 * GIB),
        "default": (Count(3), 1.0, GIB),
    }
    by_workers = grant(spec(Limits(workers=7), **groups), {})
    assert list(by_workers.desired.items()) == [("default", 3), ("a", 3), ("z", 1)]
    assert (
        by_workers.clamped == "group z: 1 of 3 workers, by the limit of 7 workers for one cluster"
    )
    by_cores = grant(spec(Limits(cores=8.0), **groups), {})
    assert by_cores.desired == {"default": 3, "a": 2, "z": 1}
    assert by_cores.clamped == (
        "group a: 2 of 3 workers, by the limit of 8 cores for one cluster; group z: 1 of 3"
        " workers, by the limit of 8 cores for one cluster"
    )
    by_memory = grant(spec(Limits(memory_bytes=8 * GIB), **groups), {})
    assert by_memory.desired == {"default": 3, "a": 2, "z": 1}


def test_an_adaptive_group_takes_what_it_needs_and_may_go_as_far_as_there_is_room() -> None:
    groups: dict[str, Any] = {"default": (Adaptive(1, 6), 1.0, GIB), "more": (Count(4), 1.0, GIB)}
    found = grant(spec(Limits(workers=5), **groups), {"default": GroupStatus(target=2)})
    assert found.desired == {"default": 2, "more": 3}
    assert found.maximum == {"default": 5, "more": 3}
    assert found.clamped == (
        "group default: 5 of 6 workers, by the limit of 5 workers for one cluster;"
        " group more: 3 of 4 workers, by the limit of 5 workers for one cluster"
    )
    assert grant(spec(Limits(workers=10), **groups), {}) == Grant(
        {"default": 1, "more": 4}, {"default": 6, "more": 4}
    )
    assert grant(spec(Limits(workers=1), default=(Adaptive(3, 6), 1.0, GIB)), {}).desired == {
        "default": 1
    }


RESOURCES = st.tuples(
    st.integers(0, 9), st.sampled_from([0.01, 0.1, 0.25, 0.5, 1.0, 3.0]), st.integers(1, 20)
)


@given(
    st.lists(RESOURCES, min_size=1, max_size=4),
    st.none() | st.integers(0, 20),
    st.none() | st.sampled_from([0.0, 0.3, 1.0, 2.5, 9.0]),
    st.none() | st.integers(0, 100),
)
def test_what_is_granted_is_within_the_limits_and_one_worker_more_is_not(
    groups: list[tuple[int, float, int]],
    workers: int | None,
    cores: float | None,
    memory: int | None,
) -> None:
    named = {
        f"g{number}": (Count(count), each, size)
        for number, (count, each, size) in enumerate(groups)
    }
    found = grant(spec(Limits(workers, cores, memory), **named), {}).desired  # type: ignore[arg-type]

    def within(counts: dict[str, int]) -> bool:
        most = (workers, cores, memory)
        used = (
            sum(counts.values()),
            sum(count * named[name][1] for name, count in counts.items()),
            sum(count * named[name][2] for name, count in counts.items()),
        )
        return all(
            limit is None or use <= limit + 1e-6 for use, limit in zip(used, most, strict=True)
        )

    taken: dict[str, int] = {}
    for name in sorted(named):
        wish = named[name][0].workers
        assert 0 <= found[name] <= wish
        assert within(taken | {name: found[name]}) or not found[name]
        assert found[name] == wish or not within(taken | {name: found[name] + 1})
        taken[name] = found[name]


@pytest.mark.parametrize(
    ("limits", "fits"),
    [
        (Limits(), True),
        (Limits(workers=0), True),
        (Limits(cores=2.0), True),
        (Limits(cores=1.99), False),
        (Limits(memory_bytes=GIB), True),
        (Limits(memory_bytes=GIB - 1), False),
        (Limits(cores=2.0, memory_bytes=GIB - 1), False),
        (Limits(cores=1.9, memory_bytes=GIB), False),
        (Limits(cores=2.0, memory_bytes=GIB), True),
    ],
)
def test_a_scheduler_beyond_up_to_the_limit_itself(limits: Limits, fits: bool) -> None:
    assert (not scheduler_beyond(spec(limits, Resources(2.0, GIB)), limits)) is fits
