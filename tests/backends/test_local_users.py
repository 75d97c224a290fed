"""The local backend where each cluster runs as the system user of its owner."""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.backends.conformance import Conformance
from gateway.backends.conformance import Room as Suite
from gateway.backends.contract import Backend, BackendUnavailable, Launch, StartFailed, Target
from gateway.backends.local import proc
from gateway.backends.local.backend import LocalBackend
from gateway.backends.local.directories import closed_above
from tests.backends.test_local import SLEEP, UID, Room, launch
from tests.parts import as_account, missing
from tests.waiting import comes


@pytest.fixture(autouse=True)
def as_root() -> None:
    """Only root runs processes as others."""
    if os.geteuid() != 0:
        missing("root", "sudo make test")


def reachable(tmp_path: pathlib.Path) -> None:
    """Let other users pass through to a test's directory."""
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_mode & 0o001 == 0:
            path.chmod(0o711)


class TestConformance(Conformance):
    """The promise that every backend keeps, with processes of another user."""

    @pytest.fixture
    async def room(self, tmp_path: pathlib.Path) -> AsyncIterator[Suite]:
        reachable(tmp_path)

        async def again() -> Backend:
            return LocalBackend(
                root=str(tmp_path / "root"), run_as_user=True, min_uid=1, stop_grace_s=2.0
            )

        async def stranger() -> Backend:
            return LocalBackend(
                root=str(tmp_path / "another"), run_as_user=True, min_uid=1, stop_grace_s=2.0
            )

        cannot = {
            "outage": "this machine always answers",
            "refused": "it has no settings of a launch that could be refused",
            "shown": "what it shows is the arguments of processes, which are looked at anyway",
        }
        room = Suite(
            await again(),
            user="games",
            python="/usr/bin/python3",
            again=again,
            stranger=stranger,
            cannot=cannot,
        )
        room.lose_files = lambda uid: shutil.rmtree(tmp_path / "root" / "clusters" / uid)
        await room.open()
        yield room
        await room.close()


async def test_another_users_name_that_is_not_there_is_told(tmp_path: pathlib.Path) -> None:
    reachable(tmp_path)
    backend = LocalBackend(root=str(tmp_path / "root"), run_as_user=True)
    await backend.open(lambda _: None)
    outcome = (await backend.start([Launch(launch().instance, "no-such-user", SLEEP)]))[
        launch().instance
    ]
    assert outcome == StartFailed("this machine has no user 'no-such-user'", permanent=True)
    assert isinstance(
        (await backend.start([Launch(launch().instance, "root", SLEEP)]))[launch().instance],
        StartFailed,
    )
    await backend.close()


async def test_a_directory_that_users_cannot_reach_is_told_at_the_start(
    tmp_path: pathlib.Path,
) -> None:
    os.chmod(tmp_path, 0o700)
    backend = LocalBackend(root=str(tmp_path / "root"), run_as_user=True)
    with pytest.raises(BackendUnavailable, match="closed to other users"):
        await backend.open(lambda _: None)


async def test_a_user_cannot_pass_a_process_off_as_anothers(tmp_path: pathlib.Path) -> None:
    reachable(tmp_path)
    room = Room(
        LocalBackend(root=str(tmp_path / "root"), run_as_user=True, min_uid=1, stop_grace_s=2.0)
    )
    await room.backend.open(room.push)
    await room.backend.start([Launch(launch().instance, "nobody", ("/bin/sleep", "60"))])
    (genuine,) = await room.backend.find()
    process = proc.parse_process_id(genuine.handle)
    assert process is not None
    # which the system lays out after a program has begun
    await comes(lambda: bool(proc.environment(process.pid)))
    marks = {
        name: value
        for name, value in proc.environment(process.pid).items()
        if name.startswith("DASKGATEWAY_")
    }
    marks["DASKGATEWAY_NAME"] = "scheduler"  # which has a directory of another owner
    (tmp_path / "root" / "clusters" / UID / "scheduler").mkdir()
    nobody = pwd.getpwnam("nobody")
    words = (*as_account(nobody.pw_uid, nobody.pw_gid), "/bin/sleep", "60")
    forged = subprocess.Popen(words, env=marks, start_new_session=True)  # noqa: ASYNC220 (a test)
    await comes(
        lambda: (
            pathlib.Path(f"/proc/{forged.pid}/comm").read_text() == "sleep\n"
            and bool(proc.environment(forged.pid))
        )
    )
    await room.restart()
    assert [seen.handle for seen in await room.backend.find()] == [genuine.handle]
    forged.kill()
    forged.wait()
    await room.backend.stop([Target(launch().instance)])
    await room.gone(launch().instance)
    await room.backend.close()
    for child in room.left:
        child.wait()


async def test_a_cluster_runs_as_its_user_when_told_to(tmp_path: pathlib.Path) -> None:
    reachable(tmp_path)
    room = Room(
        LocalBackend(root=str(tmp_path / "root"), run_as_user=True, min_uid=1, stop_grace_s=2.0)
    )
    await room.backend.open(room.push)
    program = ("/bin/sh", "-c", "id -un; cat ../key.pem; exec sleep 60")
    await room.backend.start(
        [Launch(launch().instance, "nobody", program, files={"key.pem": b"secret\n"})]
    )
    text = ""
    async for piece in room.backend.logs(Target(launch().instance), follow=True):
        text += piece
        if "secret" in text:
            break
    assert text == "nobody\nsecret\n"
    await room.backend.stop([Target(launch().instance)])
    await room.gone(launch().instance)
    await room.backend.close()


@pytest.mark.parametrize("user", ["daemon", "games", "mail"])
async def test_nobody_runs_as_the_account_of_a_service(tmp_path: pathlib.Path, user: str) -> None:
    """Whoever signs in by such a name would get that service's files."""
    reachable(tmp_path)
    backend = LocalBackend(root=str(tmp_path / "root"), run_as_user=True)
    await backend.open(lambda _: None)
    try:
        wished = replace(launch(), user=user)
        (outcome,) = (await backend.start([wished])).values()
        assert isinstance(outcome, StartFailed)
        assert outcome.permanent
        number = pwd.getpwnam(user).pw_uid
        assert f"{user!r}: its number {number} is that of a service" in outcome.message
        assert "c.LocalBackend.min_uid = 1000" in outcome.message
        assert not (tmp_path / "root" / "clusters" / UID).exists()
    finally:
        await backend.close()


def test_a_python_that_users_do_not_reach_is_told_with_what_keeps_them_from_it(
    tmp_path: pathlib.Path,
) -> None:
    home = tmp_path / "home"
    (home / "venv").mkdir(parents=True)
    (home / "venv" / "python").touch(mode=0o755)
    linked = tmp_path / "python"
    linked.symlink_to(home / "venv" / "python")
    home.chmod(0o700)
    tmp_path.chmod(0o755)
    for program in (home / "venv" / "python", linked):
        told = closed_above(str(program))
        assert "is closed to other users (mode 700)" in told
        assert "c.ClusterConfig.python" in told
    assert closed_above("/usr/bin/env") == ""
