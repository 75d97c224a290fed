"""Backends that need no machine room of their own keep the promise: local, noop, and the batch
layer over a pretended batch system."""

from __future__ import annotations

import asyncio
import pathlib
import shutil
import time
from collections.abc import AsyncIterator

import pytest

from gateway.backends.conformance import Conformance, Room, longest_stall, stall
from gateway.backends.contract import Backend, Instance, Role, Target
from gateway.backends.local.backend import LocalBackend
from gateway.backends.noop import NoopBackend
from tests.backends.pretend import PretendBackend, PretendSystem


class TestNoop(Conformance):
    """Nothing at all."""

    @pytest.fixture
    async def room(self) -> AsyncIterator[Room]:
        async def stranger() -> Backend:
            return NoopBackend()

        cannot = {
            "programs": "it starts nothing, and only says that it does",
            "again": "what it says that it runs is in memory",
            "outage": "there is nothing that could fail to answer",
            "refused": "it accepts everything",
            "lose_files": "it writes no files",
            "shown": "it runs no commands",
        }
        room = Room(NoopBackend(), runs_programs=False, stranger=stranger, cannot=cannot)
        await room.open()
        yield room
        await room.close()


class TestLocal(Conformance):
    """Processes of this machine."""

    @pytest.fixture
    async def room(self, tmp_path: pathlib.Path) -> AsyncIterator[Room]:
        async def again() -> Backend:
            return LocalBackend(root=str(tmp_path), stop_grace_s=2.0)

        async def stranger() -> Backend:
            return LocalBackend(root=str(tmp_path / "another"), stop_grace_s=2.0)

        cannot = {
            "outage": "this machine always answers",
            "refused": "it has no settings of a launch that could be refused",
            "shown": "what it shows is the arguments of processes, which are looked at anyway",
        }
        room = Room(await again(), again=again, stranger=stranger, cannot=cannot)
        room.lose_files = lambda uid: shutil.rmtree(tmp_path / "clusters" / uid)
        await room.open()
        yield room
        await room.close()


class TestBatchLayer(Conformance):
    """What backends of batch systems share, over one in this process."""

    @pytest.fixture
    async def room(self, tmp_path: pathlib.Path) -> AsyncIterator[Room]:
        system = PretendSystem()

        async def again() -> Backend:
            return PretendBackend(
                system, root=str(tmp_path), observe_interval_s=0.2, absent_grace_s=1.0
            )

        async def stranger() -> Backend:
            return PretendBackend(
                system, root=str(tmp_path / "another"), observe_interval_s=0.2, absent_grace_s=1.0
            )

        room = Room(
            await again(),
            again=again,
            stranger=stranger,
            refused={"queue": "none"},
            outage=system.outage,
            shown=system.shown,
        )
        room.lose_files = lambda uid: shutil.rmtree(tmp_path / "logs" / uid)
        await room.open()
        yield room
        await room.close()
        await system.close()


async def test_of_what_was_asked_to_end_the_oldest_is_forgotten(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as jobs of clusters that nobody knows any more, which nobody ever cleans up after."""
    monkeypatch.setattr("gateway.backends.batch.ledger.MAX_KEPT", 5)
    backend = PretendBackend(PretendSystem(), root=str(tmp_path), first_look_s=0.0)
    await backend.open(lambda _: None)
    targets = [
        Target(Instance("c" + "a" * 20, Role.WORKER, f"default-{number}"), f"{number}", "alice")
        for number in range(8)
    ]
    for start in range(0, 8, 2):
        await backend.stop(targets[start : start + 2])
    latest = [target.instance for target in targets[3:]]
    assert list(backend._asked) == latest
    assert list(backend._stopped) == latest
    await backend.close()


async def test_a_stall_is_measured_but_for_what_the_machine_gave_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with longest_stall() as worst:
        await asyncio.sleep(0.02)
        time.sleep(0.3)  # noqa: ASYNC251 (what is measured)
        await asyncio.sleep(0.02)
    assert worst[0] > 0.2
    waited_s = [0.0]
    monkeypatch.setattr(stall, "runnable_s", lambda: waited_s[0])
    async with longest_stall() as worst:
        await asyncio.sleep(0.02)
        time.sleep(0.3)  # noqa: ASYNC251 (as if the processor had been another's)
        waited_s[0] += 0.3
        await asyncio.sleep(0.02)
    assert worst[0] < 0.2
