"""Every number and text that a cluster is asked for with has bounds; what is outside is refused
with the name of its field."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traitlets.config import Config

from gateway import configfile
from gateway.configfile import ConfigurationError
from gateway.server.boot.cluster_config import ClusterConfig
from gateway.server.boot.config import DaskGateway
from gateway.server.core.admission import GroupWish, LifecycleWish, Offer, Wish, admit
from gateway.server.core.errors import FieldInvalid
from gateway.server.core.limits import grant
from gateway.server.core.model import Adaptive, Count, Lifecycle, Limits
from gateway.server.core.options import (
    Bool,
    Field,
    Float,
    Integer,
    Mapped,
    Select,
    Text,
    check_value,
    wrong_field,
)
from gateway.server.core.quantities import MAX_MEMORY_BYTES, MAX_WHOLE, format_bytes, parse_bytes
from gateway.server.core.texts import CUT, abridged, sound

SETTINGS = {
    "worker_cores": 1.0,
    "worker_memory": "2 GiB",
    "scheduler_cores": 1.0,
    "scheduler_memory": "2 GiB",
    "worker_threads": 0,
}
OPEN: tuple[Field, ...] = (  # as an administrator may offer them who thinks of no bounds
    Float("worker_cores", 1.0, per_group=True),
    Float("scheduler_cores", 1.0),
    Text("worker_memory", "2 GiB", per_group=True),
    Text("scheduler_memory", "2 GiB"),
    Integer("worker_threads", 0, per_group=True),
    Integer("many"),
    Float("ratio"),
    Text("words"),
    Mapped("table"),
)
FAR = [1e308, -1e308, math.inf, -math.inf, math.nan, 10**400, -(10**400), 2**63, 2**64, 5e-324]


def offer(**fields: object) -> Offer:
    """Return an offer that bounds nothing by itself."""
    return replace(Offer(("local",), OPEN, SETTINGS), **fields)  # type: ignore[arg-type]


def refused(wish: Wish, of: Offer | None = None) -> set[str]:
    """Return the fields that are refused."""
    try:
        admit(wish, of or offer())
    except FieldInvalid as error:
        return {violation.field for violation in error.violations}
    return set()


MEMORY = [
    "10000 PiB",
    "9" * 38,
    "1e400",
    "1025 PiB",
    "-1 GiB",
    "NaN",
    "inf",
    "Infinity",
    "1 B",
    "1023 KiB",
    "٣ GiB",
    "2 GiB\0",
    "\ud800",
]


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("name", ["worker_memory", "scheduler_memory"])
def test_an_amount_of_memory_that_no_machine_has_is_refused(name: str, memory: str) -> None:
    assert f"spec.options.{name}" in refused(Wish(options={name: memory}))


@pytest.mark.parametrize("memory", [memory for memory in MEMORY if memory])
def test_it_is_refused_for_a_group_under_its_own_name(memory: str) -> None:
    wish = Wish(groups={"gpu": GroupWish({"worker_memory": memory})})
    assert refused(wish) == {"spec.worker_groups.gpu.options.worker_memory"}


@pytest.mark.parametrize("value", FAR)
@pytest.mark.parametrize("name", ["worker_cores", "scheduler_cores", "worker_threads", "many"])
def test_numbers_beyond_their_bounds_are_refused_though_the_field_has_none(
    name: str, value: float
) -> None:
    assert f"spec.options.{name}" in refused(Wish(options={name: value}))


@pytest.mark.parametrize(
    "value", [math.inf, -math.inf, math.nan, 10**400, "\ud800", None, [1], {"a": math.nan}]
)
def test_what_is_no_finite_number_is_refused(value: object) -> None:
    assert refused(Wish(options={"ratio": value})) == {"spec.options.ratio"}
    assert refused(Wish(options={"many": value})) == {"spec.options.many"}


@pytest.mark.parametrize("text", ["\ud800", "a\0b"])
def test_text_that_no_process_can_be_given_is_refused(text: str) -> None:
    assert refused(Wish(options={"words": text})) == {"spec.options.words"}
    assert refused(Wish(options={"table": {text: "x"}})) == {"spec.options.table"}
    assert refused(Wish(options={"table": {"x": text}})) == {"spec.options.table"}
    assert refused(Wish(labels={"x": text})) == refused(Wish(labels={text: "x"})) == {"labels"}


def test_the_greatest_and_least_of_what_is_right_is_taken() -> None:
    options = {
        "worker_memory": "1024 PiB",
        "scheduler_memory": "1 MiB",
        "many": MAX_WHOLE,
        "ratio": 1e308,
    }
    spec = admit(
        Wish(options={**options, "worker_cores": 65_536, "worker_threads": 65_536}), offer()
    )
    assert spec.groups["default"].resources.memory_bytes == MAX_MEMORY_BYTES
    assert spec.scheduler.memory_bytes == 2**20
    assert (
        admit(Wish(options={"worker_memory": "0"}), offer())
        .groups["default"]
        .resources.memory_bytes
        == 0
    )


def test_memory_of_nothing_does_not_pass_by_the_limit_of_a_cluster() -> None:
    limited = offer(limits=Limits(memory_bytes=2**34))
    for memory in ("0", "0 GiB", "0.4 B"):
        assert refused(Wish(options={"worker_memory": memory}), limited) == {
            "spec.options.worker_memory"
        }
    unnamed = {**SETTINGS, "worker_memory": 0}  # nor does the administrator's own word
    assert refused(
        Wish(), offer(limits=Limits(memory_bytes=2**34), settings=unnamed, fields=())
    ) == {"spec.options.worker_memory"}


@pytest.mark.parametrize("value", [-1, 100_001, 2**31 - 1, -(2**31), 2**70])
def test_sizes_are_bounded_below_and_above(value: int) -> None:
    assert refused(Wish(groups={"default": GroupWish(size=Count(value))})) == {
        "spec.worker_groups.default.count"
    }
    assert "spec.worker_groups.default.adaptive.maximum" in refused(
        Wish(groups={"default": GroupWish(size=Adaptive(0, value))})
    )
    assert "spec.worker_groups.default.adaptive.minimum" in refused(
        Wish(groups={"default": GroupWish(size=Adaptive(value, 10))})
    )


@pytest.mark.parametrize("value", [-1.0, -1e-9, 3.2e8, 1e300, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("name", ["idle_timeout", "max_lifetime", "no_client_timeout"])
def test_durations_are_bounded_below_and_above(name: str, value: float) -> None:
    wish = Wish(lifecycle=LifecycleWish(**{f"{name}_s": value}))  # type: ignore[arg-type]
    assert refused(wish) == {f"spec.lifecycle.{name}"}


@given(st.one_of(st.integers(), st.floats(), st.text(max_size=45)))
def test_no_amount_of_memory_is_an_accident(written: float | str) -> None:
    with contextlib.suppress(ValueError):
        assert 0 <= parse_bytes(written) <= MAX_MEMORY_BYTES


@given(
    st.sampled_from(OPEN),
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists),
)
def test_no_value_of_an_option_is_an_accident(option: Field, value: object) -> None:
    found, wrong = check_value(option, value)
    assert wrong or isinstance(found, type(option.default))


def test_limits_hold_for_records_of_any_size() -> None:
    spec = admit(
        Wish(groups={"default": GroupWish(size=Count(5))}), offer(limits=Limits(cores=math.inf))
    )
    assert grant(spec, {}).desired == {"default": 5}
    huge = {
        name: replace(group, resources=replace(group.resources, cores=math.inf))
        for name, group in spec.groups.items()
    }
    assert grant(replace(spec, groups=huge, limits=Limits(cores=8.0)), {}).desired == {"default": 0}
    full = grant(replace(spec, groups=huge, limits=Limits(workers=0, memory_bytes=10**400)), {})
    assert full.desired == {"default": 0}
    assert grant(replace(spec, limits=Limits(memory_bytes=-(10**400))), {}).clamped


def test_amounts_that_no_float_holds_can_be_told() -> None:
    assert format_bytes(10**400) == "more than 1 EiB"
    assert format_bytes(2**60) == "1.049e+06 TiB"


FIELDS: Mapping[str, Field] = {
    "a default beyond 64 bits": Integer("n", 2**70),
    "a minimum beyond 64 bits": Integer("n", 0, minimum=-(2**70)),
    "a maximum that is no number": Float("n", 0.0, maximum=math.nan),
    "an endless default": Float("n", math.inf),
    "a length beyond 32 bits": Text("n", max_length=2**40),
    "a length below nothing": Mapped("n", max_entries=-1),
    "a pattern that is none": Text("n", pattern="("),
    "no choices": Select("n", (), ""),
    "choices that are no texts": Select("n", (1, 2), 1),  # type: ignore[arg-type]
    "one text for choices": Select("n", "abc", "a"),  # type: ignore[arg-type]
    "half a character": Bool("n", label="\ud800"),
    "a label that is no text": Bool("n", label=7),  # type: ignore[arg-type]
    "a name that is none": Bool("n-1"),
}


@pytest.mark.parametrize("kind", FIELDS)
def test_a_field_that_could_not_be_shown_is_an_error_of_the_configuration(kind: str) -> None:
    assert wrong_field(FIELDS[kind])
    with pytest.raises(ConfigurationError, match=r"c\.ClusterConfig\.options: option n"):
        configfile.check(Config({"ClusterConfig": {"options": [FIELDS[kind]]}}), [ClusterConfig])


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        (ClusterConfig, "max_workers", 2**40),
        (ClusterConfig, "max_cores", math.inf),
        (ClusterConfig, "max_memory", "10000 PiB"),
        (ClusterConfig, "worker_memory", 2**64),
        (ClusterConfig, "worker_memory", "12 B"),
        (ClusterConfig, "worker_cores", math.nan),
        (ClusterConfig, "worker_threads", 10**9),
        (ClusterConfig, "idle_timeout_s", math.inf),
        (ClusterConfig, "max_lifetime_max_s", 1e13),
        (ClusterConfig, "dask_config", {"a": [1.0, {"b": math.nan}]}),
        (ClusterConfig, "dask_config", {"a": object()}),
        (ClusterConfig, "environment", {"A": "x\0y"}),
        (ClusterConfig, "environment", {"A=B": "x"}),
        (DaskGateway, "retention_s", math.inf),
        (DaskGateway, "retention_s", 1e12),
        (DaskGateway, "max_token_ttl_s", math.nan),
        (DaskGateway, "agent_silence_timeout_s", 1e300),
    ],
)
def test_a_setting_beyond_its_bounds_is_refused_at_the_start(
    cls: type[ClusterConfig | DaskGateway], name: str, value: object
) -> None:
    with pytest.raises(ConfigurationError, match=rf"c\.{cls.__name__}\.{name}: "):
        configfile.check(Config({cls.__name__: {name: value}}), [cls])


def test_what_is_half_a_character_becomes_a_whole_one() -> None:
    assert sound("a\udcffb", 10) == "a?b"
    assert sound("häßlich", 3) == "häß"
    sound("a\ud83d", 2).encode()


def test_what_nobody_may_exceed_is_not_exceeded_by_never() -> None:
    spec = admit(
        Wish(lifecycle=LifecycleWish(max_lifetime_s=0.0)),
        offer(most=Lifecycle(max_lifetime_s=60.0)),
    )
    assert spec.lifecycle.max_lifetime_s == 60.0


def test_a_long_message_is_told_by_its_beginning_and_its_end() -> None:
    told = abridged("begins " + "x" * 5000 + " ends", 100)
    assert len(told) == 100
    assert told.startswith("begins x")
    assert told.endswith("x ends")
    assert CUT in told
    assert abridged("short\udcff", 100) == "short?"
