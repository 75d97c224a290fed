"""Tests of what is left: logs that outlive their process until they are purged, and secrets that do
not."""

from __future__ import annotations

import os
import unittest

from gateway.backends.conformance.room import OTHER_UID, UID, Room
from gateway.backends.contract import DIRECTORY, Instance, Phase, Role, Target

PIECE_BYTES = 64 * 1024
LINES = 6000  # of a long log, some 250 KiB


class Leavings:
    """`logs`, `cleanup`, `purge`."""

    async def test_logs_outlive_the_instance_and_end_with_the_purge(self, room: Room) -> None:
        room.need("programs")
        targets = await room.running(room.launch())
        await room.log_with(targets[0], "here is default-0\n")
        await room.backend.stop(targets)
        await room.until_gone(targets)
        await room.backend.cleanup(UID)
        assert (await room.log(targets[0])).startswith("here is default-0\n")
        assert "here is" in await room.log(targets[0], tail_lines=50)
        await room.backend.purge(UID)
        assert await room.log(targets[0]) == ""

    async def test_a_long_log_comes_whole_in_pieces_and_its_end_alone_if_wished(
        self, room: Room
    ) -> None:
        room.need("programs")
        lines = f"print('\\n'.join('%05d ' % n + 'x' * 34 + 'ü' for n in range({LINES})))"
        program = f"{lines}; {room.witness.program(UID)}"
        targets = await room.running(room.launch(code=program))
        room.witness.let_go(targets[0].instance)
        await room.until_gone(targets)
        whole = [f"{n:05} " + "x" * 34 + "ü" for n in range(LINES)] + ["here is default-0"]
        pieces = [piece async for piece in room.backend.logs(targets[0])]
        assert "".join(pieces).splitlines() == whole
        assert max(len(piece.encode()) for piece in pieces) <= PIECE_BYTES
        assert (await room.log(targets[0], tail_lines=3)).splitlines() == whole[-3:]
        # nothing more is written: following ends
        assert (await room.log(targets[0], follow=True)).splitlines() == whole

    async def test_secrets_are_removed_with_their_cluster(self, room: Room) -> None:
        room.need("programs")
        program = "import os, time; print('at', os.environ['KEY'], flush=True); time.sleep(600)"
        (target,) = await room.start(room.launch(code=program, env={"KEY": f"{DIRECTORY}/key.pem"}))
        path = (await room.log_with(target, "\n")).partition("at ")[2].strip()
        if not exists(path):
            raise unittest.SkipTest(
                f"{path} is on another machine, or may not be looked at from here"
            )
        await room.backend.stop([target])
        await room.until_gone([target])
        await room.backend.cleanup(UID)
        assert not exists(path), f"{path} is left"

    async def test_the_directory_of_an_instance_is_its_own_and_goes_with_it(
        self, room: Room
    ) -> None:
        room.need("programs")
        program = (
            "import os, time; place = os.path.dirname(os.environ['KEY']); os.makedirs(place +"
            " '/scratch/deep', exist_ok=True); "
            "state = os.stat(place); own = state.st_uid == os.geteuid() and not"
            " os.path.islink(place); "
            "print(place, own, oct(state.st_mode & 0o777), sep='|', flush=True); time.sleep(600)"
        )
        key = {"KEY": f"{DIRECTORY}/key.pem"}
        targets = await room.start(
            room.launch("scheduler", program, env=key), room.launch(code=program, env=key)
        )
        told = [(await room.log_with(target, "0o")).strip().split("|") for target in targets]
        assert [words[1:] for words in told] == [["True", "0o700"]] * 2
        assert told[0][0] != told[1][0]
        await room.backend.stop(targets)
        await room.until_gone(targets)
        await room.backend.cleanup(UID)
        program = (
            f"import os; print('left', [place for place in {[words[0] for words in told]!r}"
            f" if os.path.lexists(place)], flush=True)"
        )
        (after,) = await room.start(room.launch("default-9", program, uid=OTHER_UID))
        assert await room.log_with(after, "]") == "left []\n"

    async def test_cleaning_up_one_cluster_touches_no_other(self, room: Room) -> None:
        room.need("programs")
        ours = await room.running(room.launch("scheduler"), room.launch())
        theirs = await room.running(room.launch("scheduler", uid=OTHER_UID))
        await room.log_with(ours[0], "here is scheduler")
        await room.backend.stop(theirs)
        await room.until_gone(theirs)
        await room.backend.cleanup(OTHER_UID)
        await room.backend.purge(OTHER_UID)
        assert (await room.log(ours[0])).startswith("here is scheduler")
        await room.until(ours, Phase.RUNNING)
        await room.stay_alive(*ours)

    async def test_forgetting_is_no_error_however_often(self, room: Room) -> None:
        for _ in range(2):
            await room.backend.cleanup(OTHER_UID)
            await room.backend.purge(OTHER_UID)
        assert (
            await room.log(Target(Instance(OTHER_UID, Role.WORKER, "default-0"), "", room.user))
            == ""
        )


def exists(path: str) -> bool:
    """Whether there is a file, as far as this account may look."""
    return os.path.exists(path)
