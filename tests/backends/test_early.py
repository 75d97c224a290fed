"""Looks at jobs soon after a submission or a cancel: what they tell, when they end, how many there
are."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

from gateway.backends.batch.early import EarlyLooks
from gateway.backends.contract import BackendUnavailable, Instance, Observation, Phase, Role, Target
from tests.backends.test_commands import Scripts, opened, scripts
from tests.waiting import comes

__all__ = ["scripts"]  # a fixture

ONE, TWO = (
    Target(Instance("c" + "a" * 20, Role.WORKER, f"default-{number}"), f"{number}")
    for number in (1, 2)
)


class Room:
    """A machine room whose phases are set by hand."""

    def __init__(self, last_s: float = 1.0) -> None:
        self.phases: dict[Target, Phase] = {}
        self.down = 0  # how many looks fail
        self.error: Exception = BackendUnavailable("not now")
        self.looks: list[Sequence[Target]] = []
        self.told: list[Observation] = []
        self.early = EarlyLooks(self.look, self.told.extend, first_s=0.01, last_s=last_s)

    async def look(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        """Say where they stand."""
        self.looks.append(targets)
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
    await room.backend.close()
