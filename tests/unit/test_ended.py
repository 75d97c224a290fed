"""What is kept of a cluster that has ended: what people look back for, in bounded size, and nothing
that could start it again."""

from __future__ import annotations

from gateway.backends.contract import Resources
from gateway.server.core.ended import kept
from gateway.server.core.model import (
    Cluster,
    Count,
    GroupStatus,
    Lifecycle,
    Limits,
    Scheduler,
    Spec,
    State,
    WorkerGroup,
)
from gateway.server.core.options import weight_bytes


def ended(options: dict[str, object]) -> Cluster:
    """Return an ended cluster whose options and group's options are these."""
    spec = Spec(
        "local",
        options,
        {"secret": "x"},
        {"default": WorkerGroup(Count(2), options, {"secret": "x"}, Resources(2.0, 7))},
        Lifecycle(max_lifetime_s=9.0),
        Limits(workers=3),
        Resources(3.0, 8),
    )
    scheduler = Scheduler(
        handle="7",
        address="tls://1:1",
        dashboard_address="1:2",
        running_at=5,
        versions={"dask": "1"},
    )
    groups = {"default": GroupStatus(next_sequence=4), "removed": GroupStatus(next_sequence=9)}
    return Cluster(
        "c" + "a" * 20,
        "alice",
        "etl",
        spec,
        {"team": "x"},
        State.STOPPED,
        "R",
        "m",
        scheduler=scheduler,
        groups=groups,
    )


def cut(value: object) -> object:
    """Return what is kept of the value of an option, which is the same for a cluster and for a
    group."""
    spec = kept(ended({"short": "s", "long": value})).spec
    assert spec.options == spec.groups["default"].options
    assert spec.options["short"] == "s"
    return spec.options["long"]


def test_what_could_only_start_it_again_is_not_kept_and_the_rest_is() -> None:
    found = kept(ended({"n": 1}))
    spec = Spec(
        "local",
        {"n": 1},
        {},
        {"default": WorkerGroup(Count(2), {"n": 1}, {}, Resources(2.0, 7))},
        Lifecycle(max_lifetime_s=9.0),
        Limits(workers=3),
        Resources(3.0, 8),
    )
    assert found.spec == spec
    assert found.scheduler == Scheduler(running_at=5, versions={"dask": "1"})
    assert found.groups == {"default": GroupStatus(next_sequence=4)}
    assert (found.owner, found.labels, found.state, found.reason, found.message) == (
        "alice",
        {"team": "x"},
        State.STOPPED,
        "R",
        "m",
    )
    assert kept(found) == found


def test_a_long_text_is_cut_and_says_so() -> None:
    assert cut("x" * 1024) == "x" * 1024
    assert cut("x" * 1025) == "x" * 200 + "… (1025 characters; the rest was not kept after the end)"
    assert cut("ä" * 512) == "ä" * 512
    assert cut("ä" * 513) == "ä" * 200 + "… (513 characters; the rest was not kept after the end)"


def test_a_long_table_is_cut_between_its_entries_and_says_so() -> None:
    entry = 4 + 8 + 4  # bytes of key, value, and what holds them
    whole = {f"k{number:03}": "v" * 8 for number in range(1024 // entry)}
    assert weight_bytes(whole) == 1024
    assert cut(whole) == whole
    more = {**whole, "last": "", "very": "last"}
    assert cut(more) == {**whole, "…": "2 of 66 were not kept after the end"}
    big = {"a": "x" * 1020, "b": ""}
    assert cut(big) == {"…": "2 of 2 were not kept after the end"}
    assert cut({"a": "x" * 1019, "b": ""}) == {
        "a": "x" * 1019,
        "…": "1 of 2 were not kept after the end",
    }
