"""PBS by sudo, each user's jobs as that user: real sudo and the launcher, the stand-in for PBS."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from gateway.backends import as_user
from gateway.backends.conformance import UID, Conformance, Room
from gateway.backends.contract import Backend, Phase, StartFailed
from gateway.backends.pbs.backend import PbsBackend
from tests.parts import missing, program
from tests.parts.pbs_replay import PbsReplay

# of every Debian; jobs that run as a user need no more than that it exists
ACCOUNT, OTHER = "games", "news"
PYTHON = "/usr/bin/python3"  # one that every account may run


@pytest.fixture
def site() -> Iterator[pathlib.Path]:
    """A directory that every account may look into."""
    program("sudo", "apt-get install sudo")
    if os.geteuid() != 0:
        missing("root", "sudo make test (it becomes other accounts)")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="pbs-site-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def replay(site: pathlib.Path) -> Iterator[PbsReplay]:
    """A stand-in for PBS that refuses root, as servers do."""
    made = PbsReplay(site / "pbs")
    made.roots = False
    yield made
    made.close()


def by_sudo(site: pathlib.Path, replay: PbsReplay, **more: object) -> PbsBackend:
    """Return the backend of an administrator who permits the launcher."""
    allowed = site / "as-user.path"
    allowed.write_text(f"{replay.bin}\n")
    copy = site / "as_user.py"
    copy.write_text(
        pathlib.Path(as_user.__file__)
        .read_text()
        .replace(f'CONFIG = "{as_user.CONFIG}"', f'CONFIG = "{allowed}"')
    )
    copy.chmod(0o644)
    launcher = site / "daskgateway-as-user"
    launcher.write_text(f'#!/bin/sh\nexec {PYTHON} -I {copy} "$@"\n')
    launcher.chmod(0o755)
    for account in (ACCOUNT, OTHER):
        (site / "daskgateway" / account).mkdir(parents=True, exist_ok=True)
        shutil.chown(site / "daskgateway" / account, account)
    usual: dict[str, object] = {
        "root": str(site / "root"),
        "identity": "sudo",
        "launcher": str(launcher),
        "log_directory": f"{site}/daskgateway/{{user}}/{{uid}}/logs",
        "commands_directory": str(replay.bin),
        "observe_interval_s": 0.2,
        "absent_grace_s": 2.0,
    }
    return PbsBackend(**{**usual, **more})


class TestConformance(Conformance):
    """The promise that every backend keeps, for one user."""

    @pytest.fixture
    async def room(self, site: pathlib.Path, replay: PbsReplay) -> AsyncIterator[Room]:
        async def again() -> Backend:
            return by_sudo(site, replay)

        async def stranger() -> Backend:
            return by_sudo(site, replay, root=str(site / "another"))

        @asynccontextmanager
        async def outage() -> AsyncIterator[None]:
            replay.crashed = True
            try:
                yield
            finally:
                replay.restart()

        made = Room(
            await again(),
            user=ACCOUNT,
            python=PYTHON,
            again=again,
            stranger=stranger,
            refused={"queue": "nosuch"},
            outage=outage,
        )
        made.shown = replay.shown
        made.lose_files = lambda uid: shutil.rmtree(site / "daskgateway" / ACCOUNT / uid / "logs")
        await made.open()
        yield made
        await made.close()


async def test_jobs_are_their_users_and_nobody_elses(site: pathlib.Path, replay: PbsReplay) -> None:
    room = Room(by_sudo(site, replay), user=ACCOUNT, python=PYTHON)
    await room.open()
    ours = await room.start(room.launch("scheduler"), room.launch())
    room.user = OTHER
    theirs = await room.start(room.launch("scheduler", uid="c" + "b" * 20))
    await room.until([*ours, *theirs], Phase.RUNNING)
    assert [(job.owner, job.name.split("-")[1]) for job in replay.submitted()] == [
        (ACCOUNT, UID)
    ] * 2 + [(OTHER, "c" + "b" * 20)]
    room.user = ACCOUNT
    assert (await room.log_with(ours[0], "here")).startswith("here is scheduler")
    (log,) = (site / "daskgateway" / ACCOUNT / UID / "logs").glob("scheduler*")
    assert (log.owner(), oct(log.stat().st_mode)) == (ACCOUNT, "0o100600")
    await room.close()


async def test_where_users_see_their_own_jobs_only_each_is_asked_for(
    site: pathlib.Path, replay: PbsReplay
) -> None:
    replay.everybody = False
    room = Room(by_sudo(site, replay), user=ACCOUNT, python=PYTHON)
    await room.open()
    ours = await room.start(room.launch("scheduler"))
    room.user = OTHER
    theirs = await room.start(room.launch("scheduler", uid="c" + "b" * 20))
    await room.until([*ours, *theirs], Phase.RUNNING)
    await room.backend.stop([*ours, *theirs])
    await room.until_gone([*ours, *theirs])
    await room.close()


@pytest.mark.parametrize("user", ["root", "-u root", "a;b", "../x", ""])
async def test_root_and_what_is_no_name_are_refused(
    site: pathlib.Path, replay: PbsReplay, user: str
) -> None:
    room = Room(by_sudo(site, replay), user=user, python=PYTHON)
    await room.open()
    (outcome,) = (await room.backend.start([room.launch()])).values()
    assert isinstance(outcome, StartFailed)
    assert "no account that jobs may run as" in outcome.message
    assert replay.commands("qsub") == []
    await room.leave()
