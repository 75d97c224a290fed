"""A PBS backend over the stand-in, with what it needs: for all tests that use one."""

from __future__ import annotations

import asyncio
import pathlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

import pytest

from gateway.backends.conformance import longest_stall
from gateway.backends.contract import Instance, Launch, Observation, Phase, Role, Started, Target
from gateway.backends.pbs.backend import PbsBackend
from tests.parts.pbs_replay import PbsReplay

UID, OTHER = "c" + "a" * 20, "c" + "b" * 20
SLEEP = (sys.executable, "-c", "print('here', flush=True); import time; time.sleep(600)")


class Room:
    """A backend on a stand-in, and what it pushed."""

    def __init__(self, directory: pathlib.Path, replay: PbsReplay, **traits: object) -> None:
        self.replay = replay
        self.directory = directory
        usual = {
            "tag": "dgw",
            "observe_interval_s": 0.1,
            "absent_grace_s": 60.0,
            "commands_directory": str(replay.bin),
        }
        self.backend = PbsBackend(root=str(directory / "root"), **{**usual, **traits})
        self.pushed: list[Observation] = []

    async def open(self) -> Room:
        """Open the backend."""
        await self.backend.open(self.pushed.extend)
        return self

    async def started(self, launches: Sequence[Launch]) -> list[Target]:
        """Start, and return what was started."""
        outcomes = await self.backend.start(launches)
        assert all(isinstance(outcome, Started) for outcome in outcomes.values()), outcomes
        return [
            Target(instance, outcome.handle, "alice")
            for instance, outcome in outcomes.items()
            if isinstance(outcome, Started)
        ]

    async def look(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        """Look anew."""
        await self.backend.listing(0.0)
        return await self.backend.observations(targets)

    async def until(
        self, targets: Sequence[Target], phase: Phase
    ) -> Mapping[Instance, Observation]:
        """Wait until all stand there."""
        return await self.when(
            targets,
            lambda seen: (
                len(seen) == len(targets) and all(one.phase is phase for one in seen.values())
            ),
        )

    async def when(
        self, targets: Sequence[Target], holds: Callable[[Mapping[Instance, Observation]], bool]
    ) -> Mapping[Instance, Observation]:
        """Wait until something holds of what is observed."""
        async with asyncio.timeout(60):
            while not holds(seen := await self.look(targets)):
                await self.change()
        return seen

    async def change(self) -> None:
        """Wait until the machine has something new to tell, or 0.2 s: a real one would not tell."""
        await asyncio.to_thread(self.replay.machine.wait_change)

    def submissions(self) -> list[tuple[str, ...]]:
        """Return the words of every qsub."""
        return [call.argv for call in self.replay.commands("qsub")]


def worker(number: int, argv: tuple[str, ...] = SLEEP, uid: str = UID, **fields: object) -> Launch:
    """Return the launch of a worker."""
    return Launch(Instance(uid, Role.WORKER, f"default-{number}"), "alice", argv, **fields)  # type: ignore[arg-type]


def scheduler(uid: str = UID) -> Launch:
    """Return the launch of a scheduler."""
    return Launch(Instance(uid, Role.SCHEDULER, "scheduler"), "alice", SLEEP)


@pytest.fixture
def replay(tmp_path: pathlib.Path) -> Iterator[PbsReplay]:
    """A stand-in for PBS."""
    made = PbsReplay(tmp_path / "pbs")
    yield made
    made.close()


@pytest.fixture
async def room(tmp_path: pathlib.Path, replay: PbsReplay) -> AsyncIterator[Room]:
    """A backend on it."""
    made = await Room(tmp_path, replay).open()
    yield made
    await made.backend.close()


async def slowly(call: Callable[[], Awaitable[object]]) -> float:
    """Return for how long the event loop stood still at most while something was done."""
    async with longest_stall() as worst:
        await call()
    return worst[0]
