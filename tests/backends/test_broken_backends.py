"""The conformance suite notices what it is there for: each broken backend fails by the test that is
meant for it, and no sound one does."""

from __future__ import annotations

import asyncio
import pathlib
import shutil
import unittest
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from gateway.backends import conformance
from gateway.backends.conformance import Conformance, Room
from gateway.backends.conformance.room import OPTIONAL
from gateway.backends.contract import Backend, BackendUnavailable, Instance, Role
from gateway.backends.local.backend import LocalBackend
from gateway.backends.noop import NoopBackend
from gateway.backends.one_at_a_time import Turns
from tests.backends.broken import BROKEN, Broken
from tests.backends.pretend import PretendBackend, PretendSystem

TESTS = [name for name in dir(Conformance) if name.startswith("test_")]
PATIENCE_S = 3.0  # with what is broken; a sound one comes sooner
SOUND = {
    (test, PretendBackend if issubclass(kind, PretendBackend) else LocalBackend)
    for test, kind in BROKEN
}
ONE_OF_ITS_OWN = {
    "test_what_it_cannot_do_is_said": "it is the Room that is wrong then, not a backend: see below"
}


@asynccontextmanager
async def room_of(tmp_path: pathlib.Path, kind: type[Any]) -> AsyncIterator[Room]:
    """A room for a backend of a kind, which leaves nothing behind however broken it is."""
    system = PretendSystem()
    batch = issubclass(kind, PretendBackend)

    def made(root: pathlib.Path, kind: type[Any] = kind) -> Any:
        if batch:
            return kind(system, root=str(root), observe_interval_s=0.2, absent_grace_s=1.0)
        return kind(root=str(root), stop_grace_s=0.5)

    async def again() -> Backend:
        backend: Backend = made(tmp_path / "root")
        return backend

    async def stranger() -> Backend:
        backend: Backend = made(tmp_path / "another", PretendBackend if batch else LocalBackend)
        return backend

    place = "logs" if batch else "clusters"
    room = Room(
        await again(),
        again=again,
        stranger=stranger,
        patience_s=PATIENCE_S,
        deadline_s=1.5,
        lag_s=0.7,
        look_s=0.05,
    )
    room.lose_files = lambda uid: shutil.rmtree(tmp_path / "root" / place / uid)
    room.outage = system.outage if batch else None
    room.refused = {"queue": "none"} if batch else None
    room.shown = system.shown if batch else None
    room.cannot = {
        what: "a process of this machine has no such thing"
        for what in OPTIONAL
        if getattr(room, what) is None
    }
    await room.open()
    try:
        yield room
    finally:
        await room.witness.close()  # which ends whatever the suite's own programs are
        system.answers = True
        await system.close()
        with suppress(BackendUnavailable, OSError):
            await room.backend.close()


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken[1].__name__)
async def test_a_broken_backend_fails_by_the_test_that_is_meant_to_notice_it(
    tmp_path: pathlib.Path, broken: Broken
) -> None:
    test, kind = broken
    async with room_of(tmp_path, kind) as room:
        with pytest.raises(Exception) as caught:  # noqa: PT011 (whatever it is: a failing test)
            await getattr(Conformance(), test)(room)
    assert not isinstance(caught.value, unittest.SkipTest), f"the test was skipped: {caught.value}"


@pytest.mark.parametrize(("test", "kind"), sorted(SOUND, key=str), ids=str)
async def test_a_sound_backend_passes_it(
    tmp_path: pathlib.Path, test: str, kind: type[Any]
) -> None:
    """In the same room and with as little patience: so the broken ones fail for what is broken in
    them."""
    async with room_of(tmp_path, kind) as room:
        await getattr(Conformance(), test)(room)


def test_each_test_of_the_suite_has_a_broken_backend_that_it_notices() -> None:
    assert {test for test, _ in BROKEN} | ONE_OF_ITS_OWN.keys() == set(TESTS)
    assert len({kind.__name__ for _, kind in BROKEN}) == len(BROKEN)


def _given_without_a_word(room: Room) -> None:
    room.cannot = {}


def _given_and_denied(room: Room) -> None:
    room.cannot = {**room.cannot, "again": "it cannot be opened again, or so it is said"}


def _no_reason(room: Room) -> None:
    room.cannot = dict.fromkeys(room.cannot, "no")


@pytest.mark.parametrize("wrong", [_given_without_a_word, _given_and_denied, _no_reason])
async def test_a_room_that_does_not_say_what_its_backend_cannot_do_fails(
    tmp_path: pathlib.Path, wrong: Callable[[Room], None]
) -> None:
    async with room_of(tmp_path, LocalBackend) as room:
        await Conformance().test_what_it_cannot_do_is_said(room)
        wrong(room)
        with pytest.raises(AssertionError):
            await Conformance().test_what_it_cannot_do_is_said(room)


async def test_what_a_backend_cannot_do_is_skipped_with_its_reason_and_never_passed_in_silence(
    tmp_path: pathlib.Path,
) -> None:
    room = Room(NoopBackend(), runs_programs=False, cannot={"programs": "it starts nothing at all"})
    with pytest.raises(unittest.SkipTest, match="programs: it starts nothing at all"):
        await Conformance().test_a_good_end_is_told_as_such(room)
    with pytest.raises(
        AssertionError, match=r"Room\.outage is not given, and Room.cannot does not say why"
    ):
        await Conformance().test_an_outage_is_no_end_and_nothing_is_lost_or_doubled(room)


async def test_the_witness_tells_who_lives_without_anybodys_word() -> None:
    witness = conformance.Witness()
    await witness.open()
    instance = Instance("c" + "a" * 20, Role.WORKER, "default-0")
    with pytest.raises(AssertionError, match="nobody came"):
        await witness.until(lambda: bool(witness.alive(instance)), 0.05, "nobody came")
    await witness.close()


async def test_turns_are_one_at_a_time_for_each_key_and_leave_nothing_behind() -> None:
    turns, order = Turns(), []

    async def work(key: str, name: str) -> None:
        async with turns.of(key):
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            order.append(f"{name} ends")

    await asyncio.gather(work("a", "first"), work("a", "second"), work("b", "other"))
    assert order.index("first ends") < order.index("second begins")
    assert order.index("other begins") < order.index("first ends")
    assert len(turns) == 0
