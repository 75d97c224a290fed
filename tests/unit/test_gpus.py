"""GPUs and resources that a machine room names: what may be asked for, what limits leave of it, and
what cannot be given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gateway.backends.contract import Resources
from gateway.server.core.admission import GroupWish, Offer, Wish, admit
from gateway.server.core.anew import followed
from gateway.server.core.errors import Violation
from gateway.server.core.limits import grant, scheduler_beyond
from gateway.server.core.model import Cluster, Count, Lifecycle, Limits, Spec, State, WorkerGroup
from gateway.server.core.options import Field, Integer, Mapped
from gateway.server.core.quantities import format_gpus, format_named, parse_named
from tests.unit.wishes import OFFER, SETTINGS, of_group, refused, regroup_refused

FIELDS: tuple[Field, ...] = (
    Integer("worker_gpus", per_group=True),
    Integer("scheduler_gpus"),
    Mapped("worker_resources", structured=True, per_group=True),
    Mapped("scheduler_resources"),
)
GPUS: Mapping[str, object] = {
    **SETTINGS,
    "worker_gpus": 0,
    "scheduler_gpus": 0,
    "worker_resources": {},
    "scheduler_resources": {},
}
ROOM = replace(OFFER, fields=(*OFFER.fields, *FIELDS), settings=GPUS)
WHOLE = "must be a whole number between 0 and 1024"
NUMBER = "must be a number between 0 and 1000000000"


def limited(**limits: object) -> Offer:
    """Return the offer with limits of one cluster."""
    return replace(ROOM, limits=Limits(**limits))  # type: ignore[arg-type]


def spec(
    limits: Limits, scheduler: Resources | None = None, **groups: tuple[int, Resources]
) -> Spec:
    """Return a spec of groups of so many workers, each with so much."""
    made = {name: WorkerGroup(Count(n), resources=each) for name, (n, each) in groups.items()}
    return Spec("slurm", groups=made, limits=limits, scheduler=scheduler or Resources(0.0, 0))


# What may be asked for


@pytest.mark.parametrize("name", ["worker_gpus", "scheduler_gpus"])
@pytest.mark.parametrize(
    ("value", "words"),
    [(0, ""), (1, ""), (1024, ""), (1025, WHOLE), (-1, WHOLE), (2**31, WHOLE), (1 - 2**53, WHOLE)],
)
def test_gpus_are_bounded_below_and_above(name: str, value: int, words: str) -> None:
    expected = [Violation(f"spec.options.{name}", words)] if words else []
    assert refused(Wish(options={name: value}), ROOM) == expected


@pytest.mark.parametrize("value", [1.0, True, "1", None, 1.5, math.nan])
def test_what_a_hook_of_the_administrators_returns_must_be_whole_too(value: object) -> None:
    offer = replace(ROOM, apply=lambda values: {"worker_gpus": value})
    assert refused(Wish(), offer) == [Violation("spec.options.worker_gpus", WHOLE)]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, ""),
        ({"fpga": 1}, ""),
        ({"fpga": 0.5, "example.com/nvme": 2, "gpu:a100": 1}, ""),
        ({"fpga": 10**9}, ""),
        ({"fpga": 10**9 + 1}, f"fpga: {NUMBER}"),
        ({"fpga": -1}, f"fpga: {NUMBER}"),
        ({"fpga": -1e-9}, f"fpga: {NUMBER}"),
        ({"fpga": "1"}, ""),
        ({"fpga": "0.25"}, ""),
        ({"fpga": "much"}, f"fpga: {NUMBER}"),
        ({"fpga": "inf"}, f"fpga: {NUMBER}"),
        ({"fpga": "٣"}, f"fpga: {NUMBER}"),
        ({"fpga": "9" * 41}, f"fpga: {NUMBER}"),
        ({"fpga": " 1"}, f"fpga: {NUMBER}"),
        ({"fpga": True}, f"fpga: {NUMBER}"),
        ({"fpga": None}, f"fpga: {NUMBER}"),
        ({"fpga": [1]}, f"fpga: {NUMBER}"),
        ({"a b": 1}, "'a b' is no name of a resource, such as fpga"),
        ({"a=1": 1}, "'a=1' is no name of a resource, such as fpga"),
        ({"a,b": 1}, "'a,b' is no name of a resource, such as fpga"),
        ({"-a": 1}, "'-a' is no name of a resource, such as fpga"),
        ({"a:": 1}, "'a:' is no name of a resource, such as fpga"),
        ({"é": 1}, "'é' is no name of a resource, such as fpga"),
        ({"a\n": 1}, "'a\\n' is no name of a resource, such as fpga"),
        ({"x" * 128: 1}, ""),
        ({"x" * 129: 1}, f"'{'x' * 129}' is no name of a resource, such as fpga"),
        ({f"r{n}": 1 for n in range(16)}, ""),
        ({f"r{n}": 1 for n in range(17)}, "must have at most 16 entries"),
    ],
)
def test_named_resources_are_bounded_in_number_name_and_amount(value: object, words: str) -> None:
    expected = [Violation("spec.options.worker_resources", words)] if words else []
    assert refused(Wish(options={"worker_resources": value}), ROOM) == expected
    path = "spec.worker_groups.gpu.options.worker_resources"
    expected = [Violation(path, words)] if words else []
    assert of_group(GroupWish({"worker_resources": value}), ROOM) == expected


@pytest.mark.parametrize("name", ["gpu", "GPU", "gpus"])
def test_gpus_go_by_their_own_option_so_that_their_limit_counts_them(name: str) -> None:
    words = f"{name!r}: GPUs are asked for by worker_gpus or scheduler_gpus"
    wish = Wish(options={"scheduler_resources": {name: "1"}})
    assert refused(wish, ROOM) == [Violation("spec.options.scheduler_resources", words)]


@pytest.mark.parametrize("value", [7, "fpga", ["fpga"], None])
def test_what_is_no_mapping_of_amounts_is_none(value: object) -> None:
    words = "must map names of resources to amounts, such as fpga to 1"
    offer = replace(ROOM, apply=lambda values: {"scheduler_resources": value})
    assert refused(Wish(), offer) == [Violation("spec.options.scheduler_resources", words)]


def test_what_is_asked_for_is_what_is_given_and_nothing_of_0() -> None:
    asked = {
        "worker_gpus": 2,
        "scheduler_gpus": 1,
        "worker_resources": {"fpga": "1", "nvme": 0},
        "scheduler_resources": {"licence": "0.5"},
    }
    groups = {"plain": GroupWish({"worker_gpus": 0, "worker_resources": {"tape": 3}})}
    made = admit(Wish(options=asked, groups=groups), ROOM)
    assert made.scheduler == Resources(0.5, 2**30, 1, {"licence": 0.5})
    assert made.groups["default"].resources == Resources(1.0, 2**31, 2, {"fpga": 1.0})
    assert made.groups["plain"].resources == Resources(1.0, 2**31, 0, {"tape": 3.0})
    assert made.settings["worker_resources"] == {"fpga": 1.0}
    bare = admit(Wish(), Offer(("slurm",)))
    assert bare.scheduler == bare.groups["default"].resources == Resources(1.0, 0, 0, {})


def test_where_the_administrator_names_resources_there_are_no_others() -> None:
    few = limited(named={"fpga": 4.0, "nvme": 2.0})
    words = "tape is none that a cluster may have; there are fpga, nvme"
    assert refused(Wish(options={"worker_resources": {"tape": 1}}), few) == [
        Violation("spec.options.worker_resources", words)
    ]
    assert refused(Wish(options={"worker_resources": {"tape": 0}}), few) == []
    assert refused(Wish(options={"worker_resources": {"fpga": 1, "nvme": 1}}), few) == []


# What cannot be given


def no(given: Resources, settings: Mapping[str, object]) -> str:
    """Object like a machine room without GPUs and FPGAs."""
    if given.gpus:
        return f"no GPUs in {settings.get('queue', 'any queue')}"
    return "no FPGAs" if "fpga" in given.named else ""


HAS_NONE = replace(ROOM, objections={"slurm": no})


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"worker_gpus": 1}, "worker_gpus", "no GPUs in normal"),
        ({"scheduler_gpus": 1}, "scheduler_gpus", "no GPUs in normal"),
        ({"worker_resources": {"fpga": 1}}, "worker_resources", "no FPGAs"),
        ({"scheduler_resources": {"fpga": "1"}}, "scheduler_resources", "no FPGAs"),
        ({"worker_gpus": 1, "worker_resources": {"fpga": 1}}, "worker_gpus", "no GPUs in normal"),
        ({"worker_gpus": 0, "worker_resources": {"nvme": 1}}, "", ""),
    ],
)
def test_what_the_machine_room_cannot_give_is_refused_by_its_field_once(
    options: Mapping[str, object], field: str, words: str
) -> None:
    groups = {"more": GroupWish(size=Count(1)), "most": GroupWish(size=Count(2))}
    expected = [Violation(f"spec.options.{field}", words)] if words else []
    assert refused(Wish("slurm", options, groups), HAS_NONE) == expected
    assert refused(Wish("local", options, groups), HAS_NONE) == []


def test_a_group_is_refused_under_its_own_name_also_in_an_update() -> None:
    wish = Wish("slurm", {}, {"big": GroupWish({"worker_gpus": 2}), "small": GroupWish()})
    path = "spec.worker_groups.big.options.worker_gpus"
    assert refused(wish, HAS_NONE) == [Violation(path, "no GPUs in normal")]
    made = admit(Wish("slurm"), HAS_NONE)
    more = {"big": GroupWish({"worker_resources": {"fpga": 1}}, Count(1))}
    path = "spec.worker_groups.big.options.worker_resources"
    assert regroup_refused(made, more, HAS_NONE) == [Violation(path, "no FPGAs")]
    assert regroup_refused(made, {"big": GroupWish(size=Count(1))}, HAS_NONE) == []


# Limits


@pytest.mark.parametrize(
    ("limits", "count", "each", "granted", "limit"),
    [
        (Limits(gpus=8), 3, Resources(gpus=2), 3, ""),  # the scheduler takes one
        (Limits(gpus=7), 3, Resources(gpus=2), 3, ""),
        (Limits(gpus=6), 3, Resources(gpus=2), 2, "6 GPUs"),
        (Limits(gpus=1), 3, Resources(gpus=1), 0, "1 GPU"),
        (Limits(gpus=0), 3, Resources(gpus=1), 0, "0 GPUs"),
        (Limits(gpus=0), 3, Resources(), 3, ""),
        (Limits(named={"fpga": 4.0}), 2, Resources(named={"fpga": 1.5}), 2, ""),
        (Limits(named={"fpga": 3.9}), 2, Resources(named={"fpga": 1.5}), 1, "3.9 fpga"),
        (Limits(named={"fpga": 1.3}), 3, Resources(named={"fpga": 0.1}), 3, ""),
        (Limits(named={"fpga": 0.5}), 3, Resources(named={"fpga": 0.1}), 0, "0.5 fpga"),
        (Limits(named={"nvme": 4.0}), 3, Resources(named={"fpga": 1.0}), 0, "0 fpga"),
        (Limits(named={"nvme": 4.0}), 3, Resources(), 3, ""),
        (
            Limits(gpus=9, named={"fpga": 3.0}),
            9,
            Resources(named={"fpga": 1.0}, gpus=2),
            2,
            "3 fpga",
        ),
        (
            Limits(gpus=4, named={"fpga": 3.0}),
            9,
            Resources(named={"fpga": 1.0}, gpus=2),
            1,
            "4 GPUs",
        ),
    ],
)
def test_a_group_gets_what_limits_of_gpus_and_named_resources_leave(
    limits: Limits, count: int, each: Resources, granted: int, limit: str
) -> None:
    scheduler = Resources(0.0, 0, 1, {"fpga": 1.0})
    found = grant(spec(limits, scheduler, default=(count, each)), {})
    assert found.desired == {"default": granted}
    said = f"group default: {granted} of {count} workers, by the limit of {limit} for one cluster"
    assert found.clamped == (said if limit else "")


def test_what_one_group_takes_of_gpus_the_next_lacks() -> None:
    two, none = Resources(gpus=2, named={"fpga": 1.0}), Resources()
    groups: dict[str, Any] = {"default": (2, two), "a": (5, none), "b": (9, two)}
    assert grant(spec(Limits(gpus=9), **groups), {}).desired == {"default": 2, "a": 5, "b": 2}
    by_name = grant(spec(Limits(named={"fpga": 3.0}), **groups), {})
    assert by_name.desired == {"default": 2, "a": 5, "b": 1}


@pytest.mark.parametrize(
    ("limits", "fits"),
    [
        (Limits(gpus=2), True),
        (Limits(gpus=1), False),
        (Limits(named={"fpga": 1.5}), True),
        (Limits(named={"fpga": 1.4}), False),
        (Limits(named={"nvme": 9.0}), False),
        (Limits(gpus=2, named={"fpga": 1.4}), False),
        (Limits(gpus=1, named={"fpga": 1.5}), False),
        (Limits(), True),
    ],
)
def test_a_scheduler_with_gpus_fits_up_to_the_limit_itself(limits: Limits, fits: bool) -> None:
    own = Resources(0.0, 0, 2, {"fpga": 1.5})
    assert (not scheduler_beyond(spec(limits, own), limits)) is fits


def test_a_scheduler_beyond_a_limit_is_refused() -> None:
    words = "the scheduler alone takes 3 GPUs, and the limit of one cluster is 2"
    wish = Wish(options={"scheduler_gpus": 3})
    assert refused(wish, limited(gpus=2)) == [Violation("spec.options", words)]
    assert refused(wish, limited(gpus=3)) == []


def test_changed_limits_of_gpus_are_told_in_words() -> None:
    living = Cluster("c" + "a" * 20, "alice", "etl", Spec("slurm"), state=State.ACTIVE)
    after, words = followed(
        living, Limits(gpus=1, named={"nvme": 1.5, "fpga": 2.0}), Lifecycle(), 5
    )
    assert words == (
        "at most 1 GPU, before any GPUs; at most 2 fpga, 1.5 nvme, before any other resources"
    )
    _, words = followed(after, Limits(gpus=4), Lifecycle(), 6)
    assert words == (
        "at most 4 GPUs, before 1 GPU; at most any other resources, before 2 fpga, 1.5 nvme"
    )


def test_amounts_are_written_as_people_read_them() -> None:
    assert [format_gpus(count) for count in (0, 1, 2)] == ["0 GPUs", "1 GPU", "2 GPUs"]
    assert format_named({"b": 1.0, "a": 0.25}) == "0.25 a, 1 b"
    assert format_named({}) == ""
    assert parse_named({"a": 2, "b": "0.0", "c": 0}) == {"a": 2.0}
