"""Tests of ending: what is told to be gone is dead, seen from outside; what was not named lives on;
force where asking does not help."""

from __future__ import annotations

import unittest

from gateway.backends.conformance.room import OTHER_UID, UID, Room
from gateway.backends.contract import Phase, Target


class Ends:
    """`stop`, and ends by themselves."""

    async def test_what_is_gone_is_dead(self, room: Room) -> None:
        targets = await room.running(
            room.launch("scheduler"), *(room.launch(f"default-{n}") for n in range(3))
        )
        await room.backend.stop(targets)
        await room.until_gone(targets)
        for target in targets if room.runs_programs else ():
            await room.seen_dead(target.instance)
            assert len(room.witness.ever(target.instance)) == 1
        assert await room.found() == []

    async def test_of_a_batch_with_gaps_those_end_that_were_named_and_no_others(
        self, room: Room
    ) -> None:
        names = [f"default-{n}" for n in (0, 1, 2, 5, 7, 8)]
        targets = await room.running(*(room.launch(name) for name in names))
        assert len({target.handle for target in targets}) == len(names) or not room.runs_programs
        assert [name for _, name in await room.found()] == names
        await room.backend.stop(targets[2:4])
        await room.until_gone(targets[2:4])
        kept = [*targets[:2], *targets[4:]]
        await room.until(kept, Phase.RUNNING)
        await room.stay_alive(*kept)
        await room.backend.stop(targets)
        await room.until_gone(targets)
        assert await room.found() == []

    async def test_what_ignores_being_asked_is_ended_by_force(self, room: Room) -> None:
        room.need("programs")
        code = room.witness.program(UID, stubborn=True)
        targets = await room.running(
            *(room.launch(name, code) for name in ("default-0", "default-1"))
        )
        await room.backend.stop(targets)
        await room.until_gone(targets)

    async def test_what_a_process_has_started_ends_with_it(self, room: Room) -> None:
        room.need("programs")
        targets = await room.running(room.launch(code=room.witness.program(UID, forks=True)))
        instance = targets[0].instance
        words = "its child is not seen"
        await room.witness.until(
            lambda: bool(room.witness.alive(instance, child=True)), room.patience_s, words
        )
        await room.backend.stop(targets)
        await room.until_gone(targets)
        await room.seen_dead(instance, child=True)

    async def test_stopping_what_is_gone_is_no_error(self, room: Room) -> None:
        targets = await room.start(room.launch())
        for _ in range(2):
            await room.backend.stop(targets)
            await room.until_gone(targets)

    async def test_stopping_needs_no_handle(self, room: Room) -> None:
        (target,) = await room.running(room.launch())
        await room.backend.stop([Target(target.instance, "", room.user)])
        await room.until_gone([target])

    async def test_clusters_do_not_mix(self, room: Room) -> None:
        ours = await room.running(room.launch("scheduler"), room.launch())
        theirs = await room.running(
            room.launch("scheduler", uid=OTHER_UID), room.launch(uid=OTHER_UID)
        )
        await room.backend.stop(theirs)
        await room.until_gone(theirs)
        await room.backend.cleanup(OTHER_UID)
        await room.until(ours, Phase.RUNNING)
        await room.stay_alive(*ours)
        assert await room.found() == sorted(
            (target.instance.uid, target.instance.name) for target in ours
        )

    async def test_a_failure_is_told_with_its_code_and_last_words(self, room: Room) -> None:
        room.need("programs")
        program = room.witness.program(UID, last="no module named numpy", code=3)
        targets = await room.running(room.launch(code=program))
        room.witness.let_go(targets[0].instance)
        seen = (await room.until_gone(targets))[targets[0].instance]
        assert seen.exit_code == 3
        assert "no module named numpy" in seen.message

    async def test_a_good_end_is_told_as_such(self, room: Room) -> None:
        room.need("programs")
        targets = await room.running(room.launch("scheduler"))
        room.witness.let_go(targets[0].instance)
        assert (await room.until_gone(targets))[targets[0].instance].exit_code == 0

    async def test_stopping_works_with_the_files_gone(self, room: Room) -> None:
        lose_files = room.given("lose_files", room.lose_files)
        targets = await room.running(room.launch("scheduler"), room.launch())
        try:
            lose_files(UID)
        except OSError as error:
            raise unittest.SkipTest(f"lose_files: {error}") from None
        await room.backend.stop(targets)
        await room.until_gone(targets)
        await room.backend.cleanup(UID)
        await room.backend.purge(UID)
