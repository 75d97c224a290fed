"""How an adaptive group follows its load: up at once, down after a while, at the pace that its user
asks for."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from gateway.agent.load import AGREE_S, AdaptiveTarget, Surplus
from gateway.client.calls import messages
from gateway.client.dask.adaptive import WORDS, refuse_unknown


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def course(wanted: list[tuple[float, int]], **pace: Any) -> list[int]:
    """Return the targets, given what is wanted at which instants."""
    clock = Clock()
    target = AdaptiveTarget(clock)
    found = []
    for clock.now, value in wanted:
        found.append(target.note(lambda value=value: value, 1, 8, **pace))  # type: ignore[misc]
    return found


def test_without_a_pace_a_target_falls_after_three_seconds() -> None:
    assert course([(0, 5), (0.5, 9), (1, 2), (3.5, 2), (3.6, 2), (9, 0)]) == [5, 8, 8, 8, 2, 1]


def test_a_worker_goes_after_so_many_looks_in_a_row() -> None:
    wanted = [(float(n), value) for n, value in enumerate([6, 2, 2, 2, 6, 2, 2, 2])]
    assert course(wanted, interval_s=1.0, wait_count=3) == [6, 6, 6, 2, 6, 6, 6, 2]
    assert course(wanted, interval_s=1.0, wait_count=1) == [6, 2, 2, 2, 6, 2, 2, 2]
    assert course(wanted, interval_s=1.5) == [6, 6, 6, 6, 6, 6, 6, 6]


def test_between_two_looks_nothing_changes_but_the_bounds_hold() -> None:
    assert course([(0, 2), (4, 7), (9.9, 7), (10, 7)], interval_s=10.0) == [2, 2, 2, 7]
    clock = Clock()
    target = AdaptiveTarget(clock)
    assert target.note(lambda: 5, 0, 10, interval_s=60.0) == 5
    assert target.note(lambda: 5, 0, 3, interval_s=60.0) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"interval": "soon"}, r"interval must be a number of seconds or a duration .*not 'soon'"),
        ({"interval": 0}, "interval must be a duration greater than 0"),
        ({"interval": math.inf}, "interval must be"),
        ({"target_duration": -1}, "target_duration must be a duration"),
        ({"wait_count": -1}, "wait_count must be 0 or more looks"),
        ({"wait_count": 1.5}, "wait_count must be a whole number of looks, not 1.5"),
        ({"wait_count": "3"}, "wait_count must be a whole number"),
        ({"wait_count": True}, "wait_count must be a whole number"),
    ],
)
def test_nonsense_is_refused_by_its_name(words: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        messages.bounds(0, 1, **words)


def test_a_pace_is_read_as_people_write_it() -> None:
    found = messages.bounds(0, 4, "500ms", 0, timedelta(minutes=1))
    assert found == messages.Bounds(0, 4, 0.5, 1, 60.0)
    request = messages.scale("etl", found).cluster.spec.worker_groups["default"].adaptive
    assert request.interval.ToTimedelta() == timedelta(milliseconds=500)
    assert (request.wait_count, request.target_duration.seconds) == (1, 60)
    plain = messages.scale("etl", (0, 4)).cluster.spec.worker_groups["default"].adaptive
    assert not plain.HasField("interval")


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("intervall", "interval"),
        ("waitcount", "wait_count"),
        ("colour", ""),
        ("maximun", "maximum"),
    ],
)
def test_a_misspelt_keyword_is_refused_with_the_right_one(word: str, near: str) -> None:
    with pytest.raises(TypeError, match=f"did you mean {near}" if near else "it takes minimum"):
        refuse_unknown([word])


def test_what_only_the_client_can_choose_by_says_how_to_have_it() -> None:
    with pytest.raises(TypeError, match=r"Adaptive=distributed\.Adaptive"):
        refuse_unknown(["worker_key"])
    refuse_unknown([])
    assert "worker_key" not in WORDS


def test_of_whom_the_server_has_not_heard_it_ends_some_itself_so_they_are_not_counted_twice() -> (
    None
):
    """A cluster that was scaled from 2 to 1 just as the second worker joined lost both."""
    clock = Clock()
    surplus = Surplus(clock)
    assert surplus.count(here=2, leaving=0, keep=1, told=0) == 0
    assert surplus.count(here=2, leaving=0, keep=1, told=1) == 1
    assert surplus.count(here=2, leaving=1, keep=1, told=1) == 0
    assert surplus.count(here=5, leaving=1, keep=1, told=3) == 2
    assert surplus.count(here=1, leaving=0, keep=1, told=7) == 0
    assert surplus.count(here=1, leaving=1, keep=1, told=7) == 0


def test_a_server_that_does_not_tell_leaves_it_to_the_scheduler() -> None:
    assert Surplus(Clock()).count(here=7, leaving=2, keep=1, told=None) == 4


def test_a_server_that_is_away_or_wrong_is_not_waited_for_long() -> None:
    clock = Clock()
    surplus = Surplus(clock)
    assert surplus.count(here=2, leaving=0, keep=1, told=0) == 0
    clock.now = AGREE_S - 0.1
    assert surplus.count(here=3, leaving=0, keep=1, told=1) == 1
    clock.now = AGREE_S
    assert surplus.count(here=2, leaving=0, keep=1, told=0) == 1
    assert surplus.count(here=1, leaving=0, keep=1, told=0) == 0
    assert surplus.count(here=2, leaving=0, keep=1, told=0) == 0  # another one, waited for anew
