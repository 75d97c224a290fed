"""PBS jobs that are told of twice or under one name: however many there are, each has its turn, and
nothing false is believed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.backends.batch.commands import Answer
from gateway.backends.batch.identity import ServiceIdentity
from gateway.backends.contract import BackendUnavailable, Phase, Target
from gateway.backends.pbs import doubts as pbs_doubts
from gateway.backends.pbs import system as pbs_system
from gateway.backends.pbs.system import PbsSystem
from tests.backends.pbs_room import OTHER, Room, replay, room, scheduler
from tests.parts.pbs_words import block, records

__all__ = ["replay", "room"]


async def lying(room: Room, target: Target, lies: int = 1) -> None:
    """Let mallory's job tell of itself twice, of a target as ended, and of more, all as the
    gateway's."""
    ((identity, record),) = records(room.replay.machine.jobs[1000], False)
    assert identity == target.handle
    own = {**record, "Job_Name": "x", "Job_Owner": "mallory@pbs-host"}
    told = [
        block("7.pbs-host", own),
        block("7.pbs-host", record),
        block(identity, {**record, "job_state": "F", "Exit_status": 1}),
    ]
    for number in range(1, lies):
        told += [
            block(f"{20000 + number}.pbs-host", {**record, "job_state": state}) for state in "RQ"
        ]
    room.replay.liars["7.pbs-host"] = told


async def test_a_job_that_tells_of_itself_and_of_another_changes_nothing(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    """It gets itself into the question that should make sure of the other: the other was in no
    listing any more."""
    room.replay.machine.history = False
    room.backend.ledger.absent_grace_s = 0.0
    (target,) = await room.started([scheduler()])
    await room.until([target], Phase.RUNNING)
    await lying(room, target)
    for _ in range(3):
        seen = (await room.look([target]))[target.instance]
        assert (seen.phase, seen.handle) == (Phase.RUNNING, target.handle)
    assert {one.instance for one in await room.backend.find()} == {target.instance}
    words = (
        "variables of PBS job 7.pbs-host of mallory@pbs-host are named so that qstat tells of"
        " other jobs"
    )
    assert [record.message for record in caplog.records if "variables" in record.message] == [words]
    await room.backend.stop([target])
    await room.until([target], Phase.GONE)
    assert [call.argv for call in room.replay.commands("qdel")] == [("1000.pbs-host",)]


async def test_a_job_that_tells_of_more_than_can_be_asked_for_at_once_is_named_and_holds_nobody_up_for_long(  # noqa: E501
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pbs_doubts, "MAX_CONFIRMED", 4)
    room.replay.machine.history = False
    room.backend.ledger.absent_grace_s = 0.0
    (target,) = await room.started([scheduler()])
    await room.until([target], Phase.RUNNING)
    await lying(room, target, lies=20)
    seen = (await room.look([target]))[target.instance]  # the oldest are asked for first
    assert (seen.phase, seen.handle) == (Phase.RUNNING, target.handle)
    named = (
        r"21 jobs twice .* [0-9]+ of them wait .* variables of job 7.pbs-host of"
        r" mallory@pbs-host are named so"
    )
    with pytest.raises(BackendUnavailable, match=named):
        # it may be among those, and must not run twice
        await room.backend.start([scheduler(OTHER)])
    for _ in range(6):
        seen = (await room.look([target]))[target.instance]
        assert (seen.phase, seen.handle) == (Phase.RUNNING, target.handle)
    (other,) = await room.started([scheduler(OTHER)])
    await room.until([target, other], Phase.RUNNING)
    await room.backend.stop([target])
    await room.until([target], Phase.GONE)
    assert [call.argv for call in room.replay.commands("qdel")] == [("1000.pbs-host",)]


async def test_more_doubled_jobs_than_can_be_asked_for_at_once_are_worked_off(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pbs_doubts, "MAX_CONFIRMED", 4)
    room.backend.ledger.absent_grace_s = 0.0
    targets = await room.started([scheduler("c" + letter * 20) for letter in "efghij"])
    await room.until(targets, Phase.RUNNING)
    for call in room.replay.commands("qsub"):
        with room.replay.machine.lock:
            asked = {"argv": call.argv, "stdin": call.stdin, "cwd": "/", "uid": call.uid}
            room.replay._qsub(call.argv, asked, room.replay.machine.jobs[1000].owner)
    async with asyncio.timeout(60):
        while len(room.replay.submitted()) > len(targets):
            assert all(seen.phase is Phase.RUNNING for seen in (await room.look(targets)).values())
            await room.change()
    seen = await room.until(targets, Phase.RUNNING)
    assert {seen[target.instance].handle for target in targets} == {
        target.handle for target in targets
    }
    assert not room.backend.ledger.listing.untold
    assert not room.replay.crashed


async def test_what_was_made_sure_of_earlier_is_not_named_to_qdel(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have ended since: an unknown identifier beside a known one has crashed servers."""
    monkeypatch.setattr(pbs_doubts, "MAX_CONFIRMED", 3)
    targets = await room.started([scheduler("c" + letter * 20) for letter in "efgh"])
    await room.until(targets, Phase.RUNNING)
    for number in range(1000, 1004):  # mallory's, which tell of each as waiting
        ((identity, record),) = records(room.replay.machine.jobs[number], False)
        room.replay.foreign.append(block(identity, {**record, "job_state": "Q"}))
    for _ in range(2):
        await room.look(targets)
    assert len(await room.look(targets)) == 4
    await room.backend.stop(targets)
    named = [word for call in room.replay.commands("qdel") for word in call.argv]
    assert len(named) == 3
    room.backend._asked.clear()  # or it would be tried again only after a while
    await room.backend.stop([target for target in targets if target.handle not in named])
    assert sorted(word for call in room.replay.commands("qdel") for word in call.argv) == sorted(
        target.handle for target in targets
    )


async def test_jobs_that_the_history_does_not_know_keep_none_from_being_asked_for() -> None:
    asked: list[list[str]] = []

    async def run(
        argv: Sequence[str], *, deadline_s: float, stdin: bytes = b"", env: object = None
    ) -> Answer:
        if "-B" in argv:
            return Answer(0, '{"job_history_enable":"True"}', "")
        asked.append([word for word in argv if word.endswith(".h")])
        return Answer(153, '{\n    "timestamp":1\n}\n', "qstat: Unknown Job Id")

    system = PbsSystem(ServiceIdentity(), run=run)
    ids = [f"{number}.h" for number in range(5, 505)]
    for turn in range(1, 4):
        assert await system.ended(ids, ["a"]) == []
        assert len(asked) <= turn * pbs_system.HISTORY_COMMANDS
    assert {word for words in asked for word in words} == set(ids)
    assert asked[0] == ids[: pbs_system.HISTORY_IDS]  # the oldest come first
