"""The Slurm backend with a real Slurm: by its commands, by slurmrestd with users' tokens, and by
sudo."""

from __future__ import annotations

import asyncio
import pathlib
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from gateway.backends import as_user
from gateway.backends.conformance import Conformance, Room
from gateway.backends.contract import Backend, Phase
from gateway.backends.slurm.backend import SlurmBackend
from tests.parts import program
from tests.parts.slurm import INSTALL, Slurm, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
# of every Debian; jobs that run as a user need no more than that it exists
ACCOUNT, OTHER = "games", "news"
PYTHON = "/usr/bin/python3"  # one that every account may run

CANNOT = {
    "outage": "the same Slurm is stopped and started by the tests of its commands",
    "lose_files": "what is the user's own is not the test's to remove",
}


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """One Slurm for the module."""
    with running() as made:
        yield made


@pytest.fixture(autouse=True)
def configured(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of this process find that Slurm, and no other."""
    monkeypatch.setenv("SLURM_CONF", str(slurm.conf))


class SlurmRoom(Room):
    """A Slurm backend under test."""

    slurm: Slurm


def room_of(slurm: Slurm, root: pathlib.Path, **settings: object) -> SlurmRoom:
    """Return a room; its backend is not open yet."""
    given: dict[str, object] = {
        "root": str(root),
        "observe_interval_s": 0.3,
        "absent_grace_s": 2.0,
        "command_timeout_s": 4.0,
        **settings,
    }

    async def again() -> Backend:
        return SlurmBackend(**given)

    @asynccontextmanager
    async def outage() -> AsyncIterator[None]:
        await asyncio.to_thread(slurm.stop_controller)
        try:
            yield
        finally:
            await asyncio.to_thread(slurm.start_controller)

    async def stranger() -> Backend:
        return SlurmBackend(**{**given, "root": f"{root}-another"})

    room = SlurmRoom(
        SlurmBackend(**given),
        again=again,
        stranger=stranger,
        outage=outage,
        look_s=0.2,
        patience_s=120.0,
    )
    room.refused = {"partition": "nosuch"}
    room.shown = lambda: slurm.command("scontrol", "show", "job", "--details")
    room.lose_files = lambda uid: shutil.rmtree(root / "logs" / uid)
    room.slurm = slurm
    return room


async def closed(room: SlurmRoom) -> None:
    """End what runs; no job is left."""
    await room.close()
    async with asyncio.timeout(120):
        while await asyncio.to_thread(room.slurm.jobs, "PENDING", "RUNNING", "COMPLETING"):  # noqa: ASYNC110
            await asyncio.sleep(0.2)


class TestByCommands(Conformance):
    """sbatch, scancel, squeue, sacct."""

    @pytest.fixture
    async def room(self, slurm: Slurm, tmp_path: pathlib.Path) -> AsyncIterator[Room]:
        room = room_of(slurm, tmp_path)
        await room.open()
        yield room
        await closed(room)


def as_account(room: Room) -> Room:
    """Have what a room starts run as a user of the system, whose files are not ours to lose."""
    room.user, room.python, room.cannot = ACCOUNT, PYTHON, CANNOT
    room.outage = room.lose_files = None
    return room


class TestByRest(Conformance):
    """slurmrestd, as a user of the system, with tokens from a command."""

    @pytest.fixture
    async def room(self, slurm: Slurm) -> AsyncIterator[Room]:
        room = room_of(slurm, slurm.directory / "rest", **by_rest(slurm))
        await as_account(room).open()
        yield room
        await closed(room)


class TestBySudo(Conformance):
    """sudo and the launcher, as a user of the system."""

    @pytest.fixture
    async def room(self, slurm: Slurm) -> AsyncIterator[Room]:
        room = room_of(slurm, slurm.directory / "sudo", **by_sudo(slurm))
        await as_account(room).open()
        yield room
        await closed(room)


def shared(slurm: Slurm) -> pathlib.Path:
    """Return a directory that nodes and gateway share, with one of each account in it."""
    directory = slurm.directory / "daskgateway"
    for account in (ACCOUNT, OTHER):
        (directory / account).mkdir(parents=True, exist_ok=True)
        shutil.chown(directory / account, account)
    return directory


def by_rest(slurm: Slurm) -> dict[str, object]:
    """Return the settings of an administrator whose site has slurmrestd."""
    return {
        "identity": "user-token",
        "rest_url": slurm.rest_url,
        "log_directory": f"{shared(slurm)}/{{user}}",
    }


def by_sudo(slurm: Slurm) -> dict[str, object]:
    """Return the settings of an administrator who permits the launcher. It runs with a Python that
    every account may run."""
    program("sudo", INSTALL)
    launcher = slurm.directory / "daskgateway-as-user"
    copy = slurm.directory / "as_user.py"
    shutil.copy(as_user.__file__, copy)
    copy.chmod(0o644)
    launcher.write_text(
        f'#!/bin/sh\nexport SLURM_CONF={slurm.conf}\nexec {PYTHON} -I {copy} "$@"\n'
    )
    launcher.chmod(0o755)
    place = f"{shared(slurm)}/{{user}}/{{uid}}"
    return {
        "identity": "sudo",
        "launcher": str(launcher),
        "log_directory": f"{place}/logs",
        "staging_directory": f"{place}/staged",
    }


async def test_json_and_text_of_squeue_say_the_same(slurm: Slurm, tmp_path: pathlib.Path) -> None:
    room = room_of(slurm, tmp_path)
    await room.open()
    runs, held = room.launch("scheduler"), room.launch("held-0", options={"directives": ["--hold"]})
    ends, fails = room.launch("ends-0", "pass"), room.launch("fails-0", "raise SystemExit(7)")
    array = [room.launch(f"many-{number}") for number in range(3)]
    waiting = [
        room.launch(f"waits-{number}", options={"directives": ["--begin=now+1hour"]})
        for number in range(2)
    ]
    (first,) = await room.start(runs)
    targets = [first, *await room.start(held, ends, fails, *array, *waiting)]
    by_name = {target.instance.name: target for target in targets}
    await room.until(
        [target for name, target in by_name.items() if name.startswith(("scheduler", "many"))],
        Phase.RUNNING,
    )
    await room.until([by_name["ends-0"], by_name["fails-0"]], Phase.GONE)
    told = {}
    for output in ("text", "json"):
        backend = SlurmBackend(
            root=str(tmp_path), squeue_output=output, absent_grace_s=60.0, show_position=False
        )
        await backend.open(lambda _: None)
        seen = await backend.observations(targets)
        told[output] = {
            instance.name: (one.phase, one.handle, one.exit_code, one.message, one.user)
            for instance, one in seen.items()
        }
        await backend.close()
    assert told["json"] == told["text"]
    assert {name: fields[0] for name, fields in told["text"].items()} == {
        "scheduler": Phase.RUNNING,
        **{f"many-{number}": Phase.RUNNING for number in range(3)},
        **dict.fromkeys(("held-0", "waits-0", "waits-1"), Phase.QUEUED),
        **dict.fromkeys(("ends-0", "fails-0"), Phase.GONE),
    }
    assert told["text"]["fails-0"][2] == 7
    await closed(room)
