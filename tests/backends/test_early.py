"""Looks at jobs soon after a submission or a cancel: what they tell, when they end, how many there
are."""

from __future__ import annotations

import asyncio
import json
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from gateway.backends.batch.early import EarlyLooks
from gateway.backends.contract import BackendUnavailable, Instance, Observation, Phase, Role, Target
from tests.backends.test_commands import Scripts, opened, scripts
from tests.virtual_time import run
from tests.waiting import comes

__all__ = ["scripts"]  # a fixture

ONE, TWO = (
    Target(Instance("c" + "a" * 20, Role.WORKER, f"default-{number}"), f"{number}")
    for number in (1, 2)
)


class Room:
    """A machine room whose phases are set by hand."""

    def __init__(self, last_s: float = 1.0, first_s: float = 0.01, takes_s: float = 0.0) -> None:
        self.phases: dict[Target, Phase] = {}
        self.down = 0  # how many looks fail
        self.error: Exception = BackendUnavailable("not now")
        self.looks: list[Sequence[Target]] = []
        self.times: list[float] = []  # of these looks, on the loop's clock
        self.told: list[Observation] = []
        self.takes_s = takes_s  # each look
        self.early = EarlyLooks(self.look, self.told.extend, first_s=first_s, last_s=last_s)

    async def look(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        """Say where they stand."""
        self.looks.append(targets)
        self.times.append(asyncio.get_running_loop().time())
        if self.takes_s:
            await asyncio.sleep(self.takes_s)
        if self.down:
            self.down -= 1
            raise self.error
        return {
            one.instance: Observation(one.instance, self.phases[one], one.handle)
            for one in targets
            if one in self.phases
        }

    async def over(self) -> None:
        """Wait until nobody looks any more."""
        await comes(lambda: self.early._task is None or self.early._task.done())


async def test_it_is_looked_until_what_is_awaited_has_come_about_and_everything_seen_is_told() -> (
    None
):
    room = Room()
    room.phases = {ONE: Phase.QUEUED, TWO: Phase.RUNNING}
    room.early.expect([ONE, TWO], (Phase.RUNNING, Phase.GONE))
    await comes(lambda: len(room.looks) >= 2)
    assert [one.phase for one in room.told[:2]] == [Phase.QUEUED, Phase.RUNNING]
    assert list(room.looks[1]) == [ONE]  # the other runs
    room.phases[ONE] = Phase.GONE
    await room.over()
    assert room.told[-1].phase is Phase.GONE


async def test_looks_double_their_distance_and_leave_the_rest_to_the_interval() -> None:
    room = Room(last_s=0.1)
    room.early.expect([ONE], (Phase.RUNNING,))
    await room.over()
    assert len(room.looks) == 4  # after 10, 20, 40 and 80 ms


async def test_who_asks_meanwhile_joins_and_what_is_asked_anew_is_not_answered_by_an_older_look() -> (  # noqa: E501
    None
):
    room = Room()
    room.phases = {ONE: Phase.RUNNING}
    room.early.expect([ONE], (Phase.RUNNING,))
    task = room.early._task
    room.early.expect([TWO], (Phase.GONE,))
    assert room.early._task is task
    await comes(lambda: room.looks)
    assert list(room.looks[0]) == [ONE, TWO]
    again = Target(TWO.instance, "another job")
    room.early.expect([again], (Phase.GONE,))
    room.phases = {again: Phase.GONE}
    await room.over()
    assert list(room.looks[-1]) == [again]


def target(number: int) -> Target:
    """Return one of many targets."""
    return Target(Instance("c" + "b" * 20, Role.WORKER, f"default-{number}"), f"{number}")


@pytest.mark.parametrize("after_s", [2.5, 4.0, 7.5, 14.0])
@pytest.mark.parametrize("takes_s", [0.0, 2.0])
def test_what_is_asked_last_is_looked_at_soon_however_long_others_wait_already(
    after_s: float, takes_s: float
) -> None:
    async def ask() -> None:
        room = Room(first_s=1.0, last_s=15.0, takes_s=takes_s)
        room.early.expect([ONE], (Phase.RUNNING,))
        await asyncio.sleep(after_s)
        asked = asyncio.get_running_loop().time()
        room.early.expect([TWO], (Phase.RUNNING,))
        await asyncio.sleep(1.01 + takes_s)  # a look that has begun is ended first
        # one that was due for the other a little earlier will do
        assert any(at >= asked + 0.5 and TWO in seen for at, seen in zip(room.times, room.looks))
        await room.early.close()

    run(ask())


@pytest.mark.parametrize("every_s", [0.1, 0.9, 1.5, 4.0])
def test_a_site_where_somebody_always_asks_is_looked_at_a_bounded_number_of_times(
    every_s: float,
) -> None:
    async def ask() -> None:
        room = Room(first_s=1.0, last_s=16.0)
        asked: dict[Target, float] = {}  # when, from 1000.0 on
        for number in range(int(160 / every_s)):
            asked[target(number)] = asyncio.get_running_loop().time()
            room.early.expect([target(number)], (Phase.RUNNING,))
            await asyncio.sleep(every_s)
        for begun in room.times:
            assert sum(begun <= at < begun + 16.0 for at in room.times) <= 8
        assert len(room.times) <= 4 + 160 / 4  # as many as for one request alone, in the long run
        for one, at in asked.items():  # and nobody waits longer than the looks are apart
            looked = [when for when, seen in zip(room.times, room.looks) if one in seen]
            assert at > 1150.0 or looked[0] - at <= 5.0
        await room.early.close()

    run(ask())


def test_a_look_tells_of_all_that_is_awaited_and_stands_for_those_who_were_nearly_due() -> None:
    async def ask() -> None:
        room = Room(first_s=1.0, last_s=16.0)
        room.early.expect([ONE], (Phase.RUNNING,))
        await asyncio.sleep(3.5)
        room.early.expect([TWO], (Phase.RUNNING,))
        await asyncio.sleep(60.0)
        begun = room.times[0] - 1.0
        # Of the first: after 1 and 3 s, 6.5 for 7, 10.5 for 14.5. Of the second: 1, 3, 7, 15 later.
        assert [at - begun for at in room.times] == [1.0, 3.0, 4.5, 6.5, 10.5, 18.5]
        assert [len(seen) for seen in room.looks] == [1, 1, 2, 2, 2, 1]
        assert room.early._awaited == {}

    run(ask())


@pytest.mark.parametrize("first_s", [0.0, 15.0, 60.0])
def test_who_looks_at_the_interval_alone_looks_at_nothing_early(first_s: float) -> None:
    async def ask() -> None:
        room = Room(first_s=first_s, last_s=15.0)
        room.early.expect([ONE], (Phase.RUNNING,))
        await asyncio.sleep(60.0)
        assert room.looks == []
        await room.early.close()

    run(ask())


async def test_an_outage_is_outlived_and_closing_ends_the_looks() -> None:
    room = Room()
    for error in (BackendUnavailable("not now"), RuntimeError("a fault")):
        room.looks, room.error = [], error
        room.down, room.phases = 2, {ONE: Phase.RUNNING}
        room.early.expect([ONE], (Phase.RUNNING,))
        await room.over()
        assert len(room.looks) == 3
    room.phases = {}
    room.early.expect([ONE], (Phase.RUNNING,))
    await room.early.close()
    assert room.early._task is not None
    assert room.early._task.done()


async def test_a_batch_system_is_looked_at_long_before_its_interval(
    scripts: Scripts, tmp_path: pathlib.Path
) -> None:
    room = await opened(scripts, tmp_path, observe_interval_s=3600.0, first_look_s=0.05)
    launch = room.launch()
    await room.start(launch)
    await comes(lambda: room.pushed)
    assert room.pushed[launch.instance].phase is Phase.RUNNING


async def test_a_job_whose_worker_has_left_is_looked_at_long_before_the_interval(
    scripts: Scripts, tmp_path: pathlib.Path
) -> None:
    room = await opened(scripts, tmp_path, observe_interval_s=3600.0, first_look_s=0.05)
    targets = await room.start(room.launch())
    (instance,) = [target.instance for target in targets]

    def phase() -> Phase | None:
        return room.pushed[instance].phase if instance in room.pushed else None

    await comes(lambda: phase() is Phase.RUNNING)
    jobs = json.loads(scripts.state.read_text())
    scripts.state.write_text(json.dumps([job | {"state": "OUT_OF_MEMORY"} for job in jobs]))
    room.backend.expect_ends([replace(target, left=True) for target in targets])
    await comes(lambda: phase() is Phase.GONE)
