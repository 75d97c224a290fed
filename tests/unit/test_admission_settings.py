"""What an admitted wish comes to: amounts, hooks of the administrator's, bounds, updates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from gateway.backends.contract import Resources
from gateway.server.core import limits
from gateway.server.core.admission import (
    GroupWish,
    Offer,
    Wish,
    admit,
    check_group_names,
    regroup,
)
from gateway.server.core.errors import Violation
from gateway.server.core.model import Count, Limits, WorkerGroup
from gateway.server.core.options import Mapped, Text
from tests.unit.wishes import (
    GIB,
    OFFER,
    SETTINGS,
    of_group,
    refused,
    regroup_refused,
    whole,
)

CORES = "must be a number between 0.01 and 65536"
THREADS = "must be a whole number between 0 and 65536"
SMALL = "must be 0 or at least 1 MiB"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("worker_memory", "1 MiB", ""),
        ("worker_memory", "1048575", SMALL),
        ("worker_memory", "0", ""),
        (
            "worker_memory",
            "nonsense",
            "must be an amount of memory such as 4 GiB, 512 MB or 2000000000",
        ),
        ("worker_memory", "1025 PiB", "must be at most 1 EiB"),
        ("worker_cores", 0.01, ""),
        ("worker_cores", 0.0099, CORES),
        ("worker_cores", 65_536, ""),
        ("worker_cores", 65_536.1, CORES),
        ("worker_threads", 0, ""),
        ("worker_threads", -1, THREADS),
        ("worker_threads", 65_536, ""),
        ("worker_threads", 65_537, THREADS),
        (
            "environment",
            {"LD_PRELOAD": "x"},
            "'LD_PRELOAD' would load code before Python has begun",
        ),
        ("environment", {"FOO": "x"}, ""),
    ],
)
def test_amounts_that_users_choose(name: str, value: object, words: str) -> None:
    assert refused(Wish(options={name: value})) == (
        [Violation(f"spec.options.{name}", words)] if words else []
    )
    path = f"spec.worker_groups.gpu.options.{name}"
    assert of_group(GroupWish({name: value})) == ([Violation(path, words)] if words else [])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("scheduler_cores", True, CORES),
        ("scheduler_cores", "2", CORES),
        (
            "scheduler_memory",
            SMALL,
            "must be an amount of memory such as 4 GiB, 512 MB or 2000000000",
        ),
        ("scheduler_memory", 1023, SMALL),
        ("worker_threads", 1.5, THREADS),
        ("worker_threads", True, THREADS),
    ],
)
def test_amounts_that_a_hook_of_the_administrators_returns(
    name: str, value: object, words: str
) -> None:
    assert refused(Wish(), replace(OFFER, apply=lambda values: {name: value})) == [
        Violation(f"spec.options.{name}", words)
    ]


def test_amounts_that_are_not_set_at_all_are_plain() -> None:
    spec = admit(Wish(), Offer(("local",)))
    assert spec.scheduler == spec.groups["default"].resources == Resources(1.0, 0)


def test_no_memory_is_refused_wherever_it_is_limited() -> None:
    limited = replace(OFFER, limits=Limits(memory_bytes=64 * GIB))
    words = "must be more than 0: the memory of one cluster is limited"
    assert refused(Wish(options={"worker_memory": "0"}), limited) == [
        Violation("spec.options.worker_memory", words)
    ]
    assert refused(Wish(options={"worker_memory": "0"})) == []
    unnamed = replace(limited, settings={**SETTINGS, "worker_memory": 0}, fields=())
    assert refused(Wish(), unnamed)[0] == Violation("spec.options.worker_memory", words)
    of_scheduler = replace(limited, settings={**SETTINGS, "scheduler_memory": "0 GiB"})
    assert refused(Wish(), of_scheduler)[0] == Violation("spec.options.scheduler_memory", words)


@pytest.mark.parametrize("amount", ["1", "1 B", "0.5", "0.9 B", "1K", "1023 KiB", "0.0001 GiB"])
def test_an_amount_that_is_as_good_as_nothing_is_refused_in_every_unit(amount: str) -> None:
    """Dask takes a limit of 1 for all of the machine's memory, and 0 for no limit."""
    for offer in (OFFER, replace(OFFER, limits=Limits(memory_bytes=3 * GIB))):
        assert refused(Wish(options={"worker_memory": amount}), offer) == [
            Violation("spec.options.worker_memory", SMALL)
        ]
        assert of_group(GroupWish({"worker_memory": amount}), offer) == [
            Violation("spec.worker_groups.gpu.options.worker_memory", SMALL)
        ]


@pytest.mark.parametrize("amount", [1, 0.5, 1e-9, 1048575])
def test_a_hook_gives_no_amount_that_is_as_good_as_nothing(amount: float) -> None:
    offer = replace(OFFER, apply=lambda values: {"worker_memory": amount})
    assert refused(Wish(), offer)[0] == Violation("spec.options.worker_memory", SMALL)


def test_limits_count_what_the_machine_room_really_gives() -> None:
    offer = replace(OFFER, limits=Limits(cores=8.0), allots={"slurm": whole})
    wish = Wish("slurm", {"worker_cores": 0.1}, {"default": GroupWish(size=Count(70))})
    spec = admit(wish, offer)
    assert (spec.scheduler.cores, spec.groups["default"].resources.cores) == (1.0, 1.0)
    granted = limits.grant(spec, {})
    assert granted.desired["default"] == 7
    assert "8 cores" in granted.clamped
    elsewhere = admit(replace(wish, backend="local"), offer)
    assert limits.grant(elsewhere, {}).desired["default"] == 70


def test_what_a_group_is_given_is_counted_too_and_so_is_memory() -> None:
    offer = replace(OFFER, limits=Limits(memory_bytes=GIB + 4 * 2**20), allots={"local": whole})
    gpu = GroupWish({"worker_memory": str(2**20 + 1)}, Count(9))
    spec = admit(Wish(groups={"gpu": gpu}), offer)
    assert spec.groups["gpu"].resources.memory_bytes == 2 * 2**20
    assert limits.grant(spec, {}).desired["gpu"] == 2
    again = regroup(spec, {"more": gpu}, offer, whole=False)
    assert again["more"].resources == spec.groups["gpu"].resources


def test_threads_beyond_cores_are_refused_where_cores_are_limited() -> None:
    limited = replace(OFFER, limits=Limits(cores=8.0))
    path = "spec.options.worker_threads"
    words = "must be at most 2, a thread a core: the cores of one cluster are limited"
    asked = {"worker_cores": 1.5, "worker_threads": 3}
    assert refused(Wish(options=asked), limited) == [Violation(path, words)]
    assert refused(Wish(options={**asked, "worker_threads": 2}), limited) == []
    assert refused(Wish(options=asked)) == []
    generous = replace(limited, settings={**SETTINGS, "worker_threads": 16})
    assert refused(Wish(options={"worker_threads": 16}), generous) == []  # the administrator's own


def test_a_hook_makes_settings_of_options_for_the_cluster_and_for_each_group() -> None:
    def hook(values: Mapping[str, object]) -> Mapping[str, object]:
        return {"image": f"{values['profile']}-{values['fast']}"}

    offer = replace(OFFER, apply=hook)
    spec = admit(
        Wish(options={"fast": True}, groups={"gpu": GroupWish({"profile": "cuda"})}), offer
    )
    assert spec.settings["image"] == spec.groups["default"].settings["image"] == "plain-True"
    assert spec.groups["gpu"].settings["image"] == "cuda-True"


def test_a_hook_that_returns_what_is_no_setting_is_a_fault_of_the_server() -> None:
    offer = replace(
        OFFER,
        settings={"image": "", "worker_cores": 1.0},
        apply=lambda values: {"b": 1, "a": 2, "image": "x"},
    )
    with pytest.raises(
        ValueError, match=r"^apply_options returned a, b; it may return image, worker_cores$"
    ):
        admit(Wish(), offer)


def test_a_hook_is_not_called_for_options_that_are_wrong() -> None:
    called: list[object] = []
    offer = replace(OFFER, apply=lambda values: called.append(values) or {})
    assert [one.field for one in refused(Wish(options={"fast": 7}), offer)] == ["spec.options.fast"]
    assert [one.field for one in of_group(GroupWish({"worker_cores": "x"}), offer)] == [
        "spec.worker_groups.gpu.options.worker_cores"
    ]
    assert len(called) == 1  # for the cluster of the second, whose options are right


@pytest.mark.parametrize("value", [[1], None, True, {"B": "c"}])
def test_a_variable_that_is_no_text_is_refused_wherever_it_comes_from(value: object) -> None:
    """It was the text "None", "True" or "[1]" of Python."""
    words = "must map texts to texts, and 'A' is otherwise"
    told = [Violation("spec.options.environment", words)]
    others = [one for one in OFFER.fields if one.name != "environment"]
    structured = (*others, Mapped("environment", structured=True))
    chosen = Wish(options={"environment": {"A": value}})
    assert refused(chosen, replace(OFFER, fields=structured)) == told
    made = replace(OFFER, apply=lambda values: {"environment": {"A": value}})
    assert refused(Wish(), made) == told
    number = replace(OFFER, apply=lambda values: {"environment": {"A": 1.5}})
    assert refused(Wish(), number) == []


def test_a_scheduler_that_exceeds_the_limits_alone_is_refused() -> None:
    words, most = "the scheduler alone takes {}, and the limit of one cluster is {}", GIB // 2
    cores, memory = words.format("0.5 cores", "0.4"), words.format("1 GiB of memory", "512 MiB")
    assert refused(Wish(), replace(OFFER, limits=Limits(cores=0.5, memory_bytes=GIB))) == []
    for tight, told in (
        (Limits(cores=0.4), cores),
        (Limits(memory_bytes=most), memory),
        (Limits(cores=0.4, memory_bytes=most), f"{cores}; {memory}"),
    ):
        assert refused(Wish(), replace(OFFER, limits=tight)) == [Violation("spec.options", told)]
    assert refused(Wish(), replace(OFFER, limits=Limits(memory_bytes=GIB - 1))) != []


def test_what_is_chosen_is_bounded_in_all_and_counts_only_what_differs() -> None:
    def told(offer: Offer, common: int, own: int) -> list[Violation]:
        return refused(
            Wish(
                options={"profile": "x" * common}, groups={"gpu": GroupWish({"profile": "y" * own})}
            ),
            offer,
        )

    weight = 2 * (len("profile") + 4)
    offer = replace(OFFER, max_options_bytes=weight + 30)
    assert told(offer, 10, 20) == []
    words = (
        f"must have at most {weight + 30} bytes, those of all groups together; there are"
        f" {weight + 31}"
    )
    assert told(offer, 11, 20) == told(offer, 10, 21) == [Violation("spec.options", words)]
    assert (
        refused(
            Wish(options={"profile": "plain", "fast": False}), replace(OFFER, max_options_bytes=0)
        )
        == []
    )
    many = tuple(Text(f"t{number}", max_length=2**16) for number in range(2))
    ample = Offer(("local",), many)
    fits = {"t0": "x" * 40_000, "t1": "y" * (65_536 - 40_000 - 2 * 6)}
    assert refused(Wish(options=fits), ample) == []
    assert [one.field for one in refused(Wish(options={**fits, "t0": "x" * 40_001}), ample)] == [
        "spec.options"
    ]


def test_what_a_cluster_had_before_a_bound_was_narrowed_it_may_keep() -> None:
    spec = admit(Wish(groups={"gpu": GroupWish({"profile": "x" * 50})}), OFFER)
    had_bytes = 50 + len("profile") + 4
    narrow = replace(OFFER, max_options_bytes=20)
    assert regroup_refused(spec, {"gpu": GroupWish(size=Count(3))}, narrow) == []
    assert regroup_refused(spec, {"gpu": GroupWish({"profile": "y" * 50})}, narrow) == []
    words = f"must have at most 20 bytes, those of all groups together; there are {had_bytes + 1}"
    assert regroup_refused(spec, {"gpu": GroupWish({"profile": "y" * 51})}, narrow) == [
        Violation("spec.options", words)
    ]
    bare = admit(Wish(), OFFER)
    assert regroup_refused(bare, {"gpu": GroupWish({"profile": "y" * 9})}, narrow) == []
    assert [
        one.field
        for one in regroup_refused(bare, {"gpu": GroupWish({"profile": "y" * 10})}, narrow)
    ] == ["spec.options"]


def test_an_update_of_some_groups_leaves_the_others_and_one_of_all_does_not() -> None:
    spec = admit(
        Wish(
            groups={
                "default": GroupWish(size=Count(2)),
                "gpu": GroupWish({"worker_cores": 4.0}, Count(3)),
            }
        ),
        OFFER,
    )
    some = regroup(spec, {"more": GroupWish(size=Count(1))}, OFFER, whole=False)
    assert some == {
        **spec.groups,
        "more": WorkerGroup(Count(1), {}, spec.settings, Resources(1.0, 2 * GIB)),
    }
    whole = regroup(spec, {"gpu": GroupWish(size=Count(5))}, OFFER, whole=True)
    assert whole == {
        "gpu": replace(spec.groups["gpu"], size=Count(5)),
        "default": replace(spec.groups["default"], size=Count(0)),
    }


def test_a_group_keeps_the_settings_it_was_made_with_as_long_as_it_keeps_its_options() -> None:
    spec = admit(Wish(groups={"gpu": GroupWish({"worker_cores": 4.0}, Count(3))}), OFFER)
    today = replace(OFFER, settings={**SETTINGS, "worker_memory": "4 GiB"})
    made = spec.groups["gpu"]
    assert regroup(spec, {"gpu": GroupWish()}, today, whole=False)["gpu"] == made
    assert regroup(spec, {"gpu": GroupWish({"worker_cores": 4.0}, Count(9))}, today, whole=False)[
        "gpu"
    ] == replace(made, size=Count(9))
    assert regroup(spec, {"gpu": GroupWish(size=Count(0))}, today, whole=False)["gpu"] == replace(
        made, size=Count(0)
    )
    changed = regroup(spec, {"gpu": GroupWish({"worker_cores": 2.0})}, today, whole=False)["gpu"]
    assert (changed.size, changed.options, changed.resources.cores) == (
        Count(0),
        {"worker_cores": 2.0},
        2.0,
    )
    assert changed.settings["worker_threads"] == 0


def test_an_update_is_refused_under_the_names_of_its_fields() -> None:
    spec = admit(Wish(groups={"gpu": GroupWish(size=Count(3))}), OFFER)
    assert regroup_refused(spec, {"gpu": GroupWish(size=Count(-1))}) == [
        Violation("spec.worker_groups.gpu.count", "must be between 0 and 100000")
    ]
    assert [one.field for one in regroup_refused(spec, {"G": GroupWish({"fast": True})})] == [
        "spec.worker_groups.G",
        "spec.worker_groups.G.options.fast",
    ]
    assert [one.field for one in regroup_refused(spec, {"a": GroupWish(size=Count(99_998))})] == [
        "spec.worker_groups"
    ]
    assert regroup_refused(spec, {"a": GroupWish(size=Count(99_997))}) == []


def test_a_cluster_has_only_so_many_names_of_groups_in_its_life() -> None:
    known = [f"g{number}" for number in range(63)]
    assert check_group_names(["new"], known) == []
    assert check_group_names([], known) == check_group_names(known, known) == []
    words = "this cluster has had 63 groups; take a name that one of them had"
    assert check_group_names(["new", "newer"], known) == [Violation("spec.worker_groups", words)]
    over = [f"g{number}" for number in range(70)]  # of an older version that had no bound
    assert (
        check_group_names(["g1", "g2"], over)
        == check_group_names(over, over)
        == check_group_names([], over)
        == []
    )
    assert [one.field for one in check_group_names(["g1", "new"], over)] == ["spec.worker_groups"]
