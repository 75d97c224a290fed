"""Which wishes for a cluster are admitted, and how each field that is wrong is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from gateway.backends.contract import Resources
from gateway.server.core.admission import (
    GroupWish,
    LifecycleWish,
    Wish,
    admit,
    check_adaptive,
    check_labels,
    clamped_lifecycle,
    regroup,
    resolve_lifecycle,
)
from gateway.server.core.errors import Violation
from gateway.server.core.model import Adaptive, Count, Lifecycle, Limits, Size, WorkerGroup
from tests.unit.wishes import (
    FIELDS,
    GIB,
    OFFER,
    SETTINGS,
    of_group,
    refused,
    regroup_refused,
)


def test_who_wishes_nothing_gets_the_first_backend_and_all_as_it_is_set() -> None:
    spec = admit(Wish(), OFFER)
    assert spec.backend == "local"
    assert spec.options == {option.name: option.default for option in FIELDS}
    assert spec.settings == {**SETTINGS, "worker_memory": 2 * GIB, "scheduler_memory": GIB}
    assert spec.groups == {
        "default": WorkerGroup(Count(0), {}, spec.settings, Resources(1.0, 2 * GIB))
    }
    assert spec.scheduler == Resources(0.5, GIB)
    assert (spec.lifecycle, spec.limits) == (Lifecycle(), Limits())


def test_a_backends_own_settings_fill_what_was_left_empty() -> None:
    assert OFFER.base("local") == SETTINGS
    assert OFFER.base("slurm") == {**SETTINGS, "image": "dask", "queue": "normal"}
    assert replace(OFFER, settings={**SETTINGS, "image": "mine"}).base("slurm")["image"] == "mine"
    assert admit(Wish(backend="slurm"), OFFER).settings["queue"] == "normal"


def test_a_backend_that_is_not_offered_is_refused() -> None:
    assert refused(Wish(backend="pbs")) == [
        Violation("spec.backend", "must be one of local, slurm")
    ]


def test_a_group_chooses_for_itself_what_it_may() -> None:
    wish = Wish(
        options={"worker_cores": 2, "fast": True, "environment": {"A": "1", "TZ": "CET"}},
        groups={
            "gpu": GroupWish({"worker_memory": "8 GiB", "environment": {"B": "2"}}, Adaptive(0, 4)),
            "plain": GroupWish(),
        },
    )
    spec = admit(wish, OFFER)
    assert list(spec.groups) == ["default", "gpu", "plain"]
    assert spec.settings["environment"] == {"OMP_NUM_THREADS": "1", "TZ": "CET", "A": "1"}
    gpu = spec.groups["gpu"]
    assert gpu.size == Adaptive(0, 4)
    assert gpu.options == {"worker_memory": "8 GiB", "environment": {"B": "2"}}
    assert gpu.resources == Resources(2.0, 8 * GIB)
    assert gpu.settings["environment"] == {"OMP_NUM_THREADS": "1", "TZ": "UTC", "B": "2"}
    assert (
        spec.groups["plain"]
        == spec.groups["default"]
        == WorkerGroup(Count(0), {}, spec.settings, Resources(2.0, 2 * GIB))
    )


def test_every_violation_is_found_at_once() -> None:
    wish = Wish(
        "pbs",
        {"nothing": 1},
        {"GPU": GroupWish({"fast": True}, Count(-1))},
        LifecycleWish(idle_timeout_s=-1.0),
        {"": "x"},
    )
    assert [violation.field for violation in refused(wish)] == [
        "labels",
        "spec.backend",
        "spec.options.nothing",
        "spec.worker_groups.GPU",
        "spec.worker_groups.GPU.options.fast",
        "spec.worker_groups.GPU.count",
        "spec.lifecycle.idle_timeout",
    ]


@pytest.mark.parametrize(
    ("size", "wrong"),
    [
        (Count(0), []),
        (Count(100_000), []),
        (Count(-1), [Violation("spec.worker_groups.gpu.count", "must be between 0 and 100000")]),
        (
            Count(100_001),
            [Violation("spec.worker_groups.gpu.count", "must be between 0 and 100000")],
        ),
        (Adaptive(0, 1), []),
        (Adaptive(3, 3), []),
        (Adaptive(100_000, 100_000), []),
        (Adaptive(0, 0), ["maximum"]),
        (Adaptive(3, 2), ["maximum"]),
        (Adaptive(0, 100_001), ["maximum"]),
        (Adaptive(-1, 1), ["minimum"]),
        (Adaptive(100_001, 100_001), ["minimum", "maximum"]),
    ],
)
def test_sizes(size: Count | Adaptive, wrong: list[Violation | str]) -> None:
    words = {
        "minimum": "must be between 0 and 100000",
        "maximum": "must be between the minimum, at least 1, and 100000",
    }
    expected = [
        Violation(f"spec.worker_groups.gpu.adaptive.{one}", words[one])
        if isinstance(one, str)
        else one
        for one in wrong
    ]
    assert of_group(GroupWish(size=size)) == expected


def test_workers_of_all_groups_together_are_bounded() -> None:
    half = {"a": GroupWish(size=Count(50_000)), "b": GroupWish(size=Adaptive(0, 50_000))}
    assert refused(Wish(groups=half)) == []
    together = Violation("spec.worker_groups", "must have at most 100000 workers together")
    assert refused(Wish(groups={**half, "c": GroupWish(size=Count(1))})) == [together]
    assert refused(Wish(groups={**half, "b": GroupWish(size=Adaptive(0, 50_001))})) == [together]
    one_too_many = Violation("spec.worker_groups.a.count", "must be between 0 and 100000")
    # and not twice
    assert refused(Wish(groups={"a": GroupWish(size=Count(100_001))})) == [one_too_many]


def test_how_many_groups() -> None:
    groups = {f"g{number}": GroupWish() for number in range(16)}
    assert refused(Wish(groups=groups)) == []
    too_many = [Violation("spec.worker_groups", "must have at most 16 groups")]
    assert refused(Wish(groups={**groups, "more": GroupWish()})) == too_many
    spec = admit(Wish(), OFFER)
    of_fifteen = {name: GroupWish() for name in list(groups)[:15]}
    assert len(regroup(spec, of_fifteen, OFFER, whole=True)) == 16
    assert regroup_refused(spec, groups, whole=True) == regroup_refused(spec, groups) == too_many


def test_only_one_group_is_adaptive() -> None:
    sizes: dict[str, Size] = {
        "z": Adaptive(0, 1),
        "b": Count(1),
        "a": Adaptive(0, 1),
        "m": Adaptive(0, 1),
    }
    words = "only one group may be adaptive at a time"
    assert check_adaptive(sizes) == [
        Violation("spec.worker_groups.m.adaptive", words),
        Violation("spec.worker_groups.z.adaptive", words),
    ]
    assert check_adaptive({"z": Adaptive(0, 1), "a": Adaptive(0, 1)}) == [
        Violation("spec.worker_groups.z.adaptive", words)
    ]
    assert (
        check_adaptive({"z": Adaptive(0, 1), "b": Count(1)})
        == check_adaptive({"b": Count(1)})
        == check_adaptive({})
        == []
    )
    wish = {name: GroupWish(size=size) for name, size in sizes.items()}
    assert (
        refused(Wish(groups=wish))
        == check_adaptive(sizes)
        == regroup_refused(admit(Wish(), OFFER), wish)
    )


PAIRS = "must have at most 32 pairs"
LONG = "keys must have 1 to 63, values at most 255 characters"
UNICODE = "must be Unicode without NUL"


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({}, ""),
        ({"k" * 63: "v" * 255}, ""),
        ({"k": ""}, ""),
        ({"": "v"}, LONG),
        ({"k" * 64: "v"}, LONG),
        ({"k": "v" * 256}, LONG),
        ({"fine": "too", "k": "v" * 256}, LONG),
        ({str(number): "" for number in range(32)}, ""),
        ({str(number): "" for number in range(33)}, PAIRS),
        ({"k": "\0"}, UNICODE),
        ({"\ud800": "v"}, UNICODE),
    ],
)
def test_labels(labels: Mapping[str, str], words: str) -> None:
    expected = [Violation("labels", words)] if words else []
    assert check_labels(labels) == refused(Wish(labels=labels)) == expected


TEN_YEARS_S = 315_360_000.0


@pytest.mark.parametrize("name", ["idle_timeout", "max_lifetime", "no_client_timeout"])
def test_durations(name: str) -> None:
    def told(asked: float) -> tuple[Lifecycle, list[Violation]]:
        violations: list[Violation] = []
        return resolve_lifecycle(
            LifecycleWish(**{f"{name}_s": asked}),  # type: ignore[arg-type]
            OFFER,
            violations,
        ), violations

    assert told(0.0) == (Lifecycle(), [])
    assert told(TEN_YEARS_S) == (Lifecycle(**{f"{name}_s": TEN_YEARS_S}), [])  # type: ignore[arg-type]
    for asked in (-0.1, TEN_YEARS_S + 1):
        assert told(asked)[1] == [
            Violation(f"spec.lifecycle.{name}", "must be 0 for never, or up to ten years")
        ]


def test_a_lifecycle_is_what_was_asked_else_the_default_and_never_more_than_the_most() -> None:
    offer = replace(OFFER, lifecycle=Lifecycle(1.0, 2.0, 3.0), most=Lifecycle(10.0, 20.0, 30.0))
    assert resolve_lifecycle(LifecycleWish(), offer, []) == Lifecycle(1.0, 2.0, 3.0)
    assert resolve_lifecycle(LifecycleWish(4.0, 5.0, 6.0), offer, []) == Lifecycle(4.0, 5.0, 6.0)
    assert resolve_lifecycle(LifecycleWish(0.0, 0.0, 0.0), offer, []) == Lifecycle(10.0, 20.0, 30.0)
    assert resolve_lifecycle(LifecycleWish(99.0, 99.0, 99.0), offer, []) == Lifecycle(
        10.0, 20.0, 30.0
    )


@pytest.mark.parametrize(
    ("asked", "default"), [(True, False), (False, True), (True, True), (False, False)]
)
def test_clients_are_ignored_if_user_or_administrator_say_so(asked: bool, default: bool) -> None:
    offer = replace(OFFER, lifecycle=Lifecycle(ignore_clients=default))
    assert admit(
        Wish(lifecycle=LifecycleWish(ignore_clients=asked)), offer
    ).lifecycle.ignore_clients is (asked or default)
    assert not admit(Wish(), OFFER).lifecycle.ignore_clients


@pytest.mark.parametrize(
    ("field", "least_s", "most_s", "words"),
    [
        ("interval", 0.1, 3_600.0, "must be between 0.1 s and 1 h"),
        ("target_duration", 0.1, 2_592_000.0, "must be between 0.1 s and 30 d"),
    ],
)
def test_the_pace_of_an_adaptive_group_has_bounds_which_it_may_reach(
    field: str, least_s: float, most_s: float, words: str
) -> None:
    def asked(pace_s: float) -> list[Violation]:
        size = Adaptive(0, 5)
        paced = (
            replace(size, interval_s=pace_s)
            if field == "interval"
            else replace(size, target_duration_s=pace_s)
        )
        return of_group(GroupWish(size=paced))

    assert [asked(pace_s) for pace_s in (least_s, most_s)] == [[], []]
    told = Violation(f"spec.worker_groups.gpu.adaptive.{field}", words)
    assert [asked(pace_s) for pace_s in (least_s / 1.001, most_s + 1)] == [[told], [told]]


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (LifecycleWish(), ""),
        (LifecycleWish(idle_timeout_s=3_600.0), ""),
        (
            LifecycleWish(idle_timeout_s=3_601.0),
            "idle_timeout is 1 h, the most that anybody may have, not 1 h 1 s",
        ),
        (
            LifecycleWish(idle_timeout_s=0.0),
            "idle_timeout is 1 h, the most that anybody may have, not never",
        ),
        (LifecycleWish(no_client_timeout_s=0.0, no_task_timeout_s=9e9), ""),  # without a most
        (
            LifecycleWish(idle_timeout_s=0.0, max_lifetime_s=172_800.0),
            "idle_timeout is 1 h, the most that anybody may have, not never; max_lifetime is 1 d,"
            " the most that anybody may have, not 2 d",
        ),
    ],
)
def test_what_of_a_lifecycle_is_held_to_the_most_is_said(wish: LifecycleWish, words: str) -> None:
    offer = replace(OFFER, most=Lifecycle(idle_timeout_s=3_600.0, max_lifetime_s=86_400.0))
    assert clamped_lifecycle(wish, offer) == words
