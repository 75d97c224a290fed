"""PBS without a job history, the server's default, or with one that is lost: what has ended is told
as such, and nothing else is."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import AsyncIterator, Sequence

import pytest

from gateway.backends.batch.early import EarlyLooks
from gateway.backends.batch.identity import ServiceIdentity
from gateway.backends.contract import Phase, Target
from tests.backends.pbs_room import Room, replay, scheduler, worker
from tests.parts.pbs_cases import case
from tests.parts.pbs_replay import PbsReplay

__all__ = ["replay"]  # a fixture

FIRST_FAILS = (
    sys.executable,
    "-c",
    "import os, time; time.sleep(600 * int(os.environ['PBS_ARRAY_INDEX'])); raise SystemExit(3)",
)


@pytest.fixture
async def room(tmp_path: pathlib.Path, replay: PbsReplay) -> AsyncIterator[Room]:
    """A backend whose every look is one listing."""
    made = await Room(tmp_path, replay, observe_interval_s=3600.0, first_look_s=0.0).open()
    yield made
    await made.backend.close()


def left(target: Target) -> Target:
    """Return a worker's target as it is when its scheduler has seen it leave."""
    return Target(target.instance, target.handle, target.user, left=True)


async def ended(room: Room, *others: Target) -> Target:
    """Return a worker that was listed, and has ended by itself."""
    (target,) = await room.started([worker(0)])
    await room.until([target, *others], Phase.RUNNING)
    room.replay.machine.end(*room.replay.find(target.handle), 3, "")
    room.replay.machine.wait_for(
        lambda: int(target.handle.partition(".")[0]) not in room.replay.machine.jobs
    )
    return target


async def test_a_worker_that_its_scheduler_saw_leave_is_gone_after_two_looks(room: Room) -> None:
    room.replay.machine.history = False
    (other,) = await room.started([scheduler()])
    target = await ended(room, other)
    assert target.instance not in await room.look([left(target), other])
    seen = (await room.look([left(target), other]))[target.instance]
    assert (seen.phase, seen.presumed) == (Phase.GONE, False)
    assert seen.message.startswith(
        "its scheduler saw it leave, and the batch system lists its job no more"
    )


async def test_one_that_nobody_saw_leave_is_waited_for(room: Room) -> None:
    room.replay.machine.history = False
    target = await ended(room)
    for _ in range(4):
        assert await room.look([target]) == {}


async def test_a_worker_that_left_and_is_listed_is_where_it_is_listed(room: Room) -> None:
    """Its scheduler may have lost it for a moment."""
    room.replay.machine.history = False
    (target,) = await room.started([worker(0)])
    await room.until([target], Phase.RUNNING)
    for _ in range(4):
        assert (await room.look([left(target)]))[target.instance].phase is Phase.RUNNING


async def test_a_stop_of_what_has_ended_already_takes_two_looks_and_not_the_grace(
    room: Room,
) -> None:
    room.replay.machine.history = False
    (other,) = await room.started([scheduler()])
    target = await ended(room, other)
    await room.backend.stop([target])
    assert room.replay.commands("qdel") == []
    await room.look([target])
    assert (await room.look([target]))[target.instance].phase is Phase.GONE


async def test_that_it_is_gone_is_told_before_the_next_look_at_the_interval(room: Room) -> None:
    room.replay.machine.history = False
    backend = room.backend
    backend._early = EarlyLooks(backend._look_anew, room.pushed.extend, first_s=0.05, last_s=60.0)
    target = await ended(room)
    room.pushed.clear()
    await room.backend.stop([target])
    while not any(
        seen.instance == target.instance and seen.phase is Phase.GONE for seen in room.pushed
    ):
        await room.change()


@pytest.mark.parametrize("server", ["state_count", "nothing"])
async def test_a_listing_of_nothing_counts_for_nothing_unless_the_server_has_nothing(
    room: Room, server: str
) -> None:
    room.replay.machine.history = False
    (target,) = await room.started([worker(0)])
    await room.until([target], Phase.RUNNING)
    room.replay.empty = True
    if server == "nothing":
        room.replay.fixed["qstat"] = (0, case("651-qstat-no-jobs").out, "")
    for _ in range(4):
        assert await room.look([left(target)]) == {}
    await room.backend.stop([target])
    for _ in range(4):
        assert await room.look([left(target)]) == {}
    room.replay.empty = False
    room.replay.fixed.clear()
    await room.until([target], Phase.RUNNING)


async def test_that_the_server_hides_jobs_now_is_noticed_when_they_are_missing(room: Room) -> None:
    """What is known of its set-up would hold for ten minutes."""
    asked: list[str] = []

    class Recording(ServiceIdentity):
        def words(self, account: str, argv: Sequence[str]) -> list[str]:
            asked.append(account)
            room.replay.accounts.clear()  # from now on who asks is the jobs' owner
            return list(argv)

    targets = await room.started([worker(0), worker(1)])
    await room.until(targets, Phase.RUNNING)
    room.backend.system.who = Recording()  # type: ignore[attr-defined]
    room.replay.everybody = False
    room.replay.accounts[os.getuid()] = "gateway"  # who asks by itself owns no jobs
    asked.clear()
    seen = await room.look(targets)
    assert {one.phase for one in seen.values()} == {Phase.RUNNING}
    assert len(seen) == 2
    assert asked == [ServiceIdentity().account("")]


async def test_a_history_that_is_no_more_is_noticed_by_its_answer(room: Room) -> None:
    (target,) = await room.started([worker(0)])
    await room.until([target], Phase.RUNNING)
    assert room.backend.system._facts.history  # type: ignore[attr-defined]
    room.replay.machine.history = False
    answer = case("913-qstat-x-history-never-set")
    assert "-x" in answer.argv
    room.replay.canned["qstat"] = [(answer.code or 0, answer.out, answer.err)]
    assert await room.backend.system.ended([target.handle], ["nobody"]) == []
    await room.look([target])
    assert not room.backend.system._facts.history  # type: ignore[attr-defined]


async def test_whole_jobs_are_deleted_together_only_as_long_as_there_is_a_history(
    room: Room, replay: PbsReplay
) -> None:
    """Without one, what has ended meanwhile is unknown, and beside a known one it has crashed
    servers."""
    targets = await room.started([scheduler("c" + letter * 20) for letter in "efg"])
    await room.until(targets, Phase.RUNNING)
    replay.machine.history = False
    room.backend.system._facts_at -= 60.0  # type: ignore[attr-defined]
    await room.backend.stop(targets)
    assert sorted(call.argv for call in replay.commands("qdel")) == sorted(
        (target.handle,) for target in targets
    )


async def test_a_part_that_ended_says_that_nobody_knows_how(room: Room) -> None:
    """The server forgets how, and tells of all that have ended alike: not that they never ran."""
    room.replay.machine.history = False
    first, _ = await room.started([worker(number, FIRST_FAILS) for number in range(2)])
    seen = (await room.until([first], Phase.GONE))[first.instance]
    assert (seen.exit_code, seen.message) == (
        None,
        "it ended; PBS keeps no job history and does not know how",
    )
