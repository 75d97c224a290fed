"""Nothing that was given to a user leads root anywhere: directories that are swapped, links, what
is moved in."""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import stat
import subprocess

import pytest

from gateway.backends.contract import (
    BackendUnavailable,
    Started,
)
from gateway.backends.local.directories import Directories
from tests.backends.local_attacks.attacker import (
    ATTACKER,
    VICTIM,
    begin,
    ended,
    launch,
    log_until,
    words,
)
from tests.backends.test_local import UID, Room
from tests.waiting import comes

PYTHON = "/usr/bin/python3"  # one that every account may run


@pytest.fixture
def home(site: pathlib.Path) -> pathlib.Path:
    """The closed home of the victim; returned is a directory within that would be open to all, if
    they got so far."""
    closed = site / "home"
    (closed / "open").mkdir(parents=True)
    (closed / "open" / "secret").write_text("the victim's secret\n")
    for path in (closed / "open" / "secret", closed / "open", closed):
        shutil.chown(path, VICTIM)
    closed.chmod(0o700)
    return closed / "open"


def texts(site: pathlib.Path) -> list[str]:
    """Return what is in files named so, wherever they are now."""
    return [path.read_text() for path in site.rglob("file")]


# Where it stands


async def test_who_swaps_its_directory_before_it_is_entered_stands_in_its_own(
    room: Room, home: pathlib.Path, site: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the very moment between the giving and the entering."""
    scratch = site / "root" / "clusters" / UID / "default-0" / "scratch"
    real = subprocess.Popen

    def swapped(*args: object, **how: object) -> object:
        scratch.rename(scratch.with_name("aside"))
        scratch.symlink_to(home)
        return real(*args, **how)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", swapped)
    outcome = (await room.backend.start([launch()]))[launch().instance]
    monkeypatch.undo()
    assert isinstance(outcome, Started)
    shown = await log_until(room, "default-0", "told")
    assert f"stands in {scratch.with_name('aside')}\n" in shown
    assert "the victim's secret" not in shown


SWAPS = """
import os, sys
cluster, home = sys.argv[1:]
print("ready", flush=True)
while True:
    for number in range(12):
        directory = f"{cluster}/default-{number}"
        try:
            os.rename(f"{directory}/scratch", f"{directory}/aside")
            os.symlink(home, f"{directory}/scratch")
        except OSError:
            pass
"""


async def test_who_swaps_its_directory_in_a_loop_never_stands_in_anothers_closed_home(
    room: Room, home: pathlib.Path, site: pathlib.Path
) -> None:
    argv = [*words(ATTACKER), PYTHON, "-I", "-c", SWAPS, f"{site}/root/clusters/{UID}", str(home)]
    attacker = subprocess.Popen(argv, stdout=subprocess.PIPE)  # noqa: ASYNC220 (a test)
    assert attacker.stdout is not None
    attacker.stdout.readline()
    try:
        swapped = 0
        for number in range(12):
            name = f"default-{number}"
            outcome = (await room.backend.start([launch(name)]))[launch(name).instance]
            assert isinstance(outcome, Started)
            shown = await log_until(room, name, "told")
            assert str(home.parent) not in shown
            assert "the victim's secret" not in shown
            swapped += "/aside" in shown
    finally:
        attacker.kill()
        attacker.wait()
        attacker.stdout.close()
    assert swapped  # it came in between at least once


async def test_files_and_directory_of_a_process_are_its_users_and_private(
    room: Room, site: pathlib.Path
) -> None:
    await room.backend.start([launch(files={"key.pem": b"secret"})])
    entry = pwd.getpwnam(ATTACKER)
    directory = site / "root" / "clusters" / UID / "default-0"
    found = {
        path.name: (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode))
        for path in (directory, *directory.iterdir())
    }
    assert found == {
        "default-0": (entry.pw_uid, 0o700),
        "key.pem": (entry.pw_uid, 0o600),
        "scratch": (entry.pw_uid, 0o700),
    }
    cluster = directory.parent.stat()
    assert (cluster.st_uid, cluster.st_gid, stat.S_IMODE(cluster.st_mode)) == (
        0,
        entry.pw_gid,
        0o710,
    )


# What is done again, and taken away


async def test_a_directory_that_is_made_anew_follows_no_link_and_waits_for_no_removal(
    room: Room, home: pathlib.Path, site: pathlib.Path
) -> None:
    place = site / "root" / "clusters" / UID / "default-0"
    await room.backend.start(
        [
            launch(
                argv=(
                    "/bin/sh",
                    "-c",
                    f"rm -r ../scratch; ln -s {home} ../scratch; ln -s {home} ../key.pem; echo"
                    f" told; exec sleep 600",
                )
            )
        ]
    )
    await log_until(room, "default-0", "told")
    await ended(room)
    assert (place / "scratch").is_symlink()
    assert isinstance(
        (await room.backend.start([launch(files={"key.pem": b"secret"})]))[launch().instance],
        Started,
    )
    shown = await log_until(room, "default-0", f"stands in {place}/scratch\n")
    assert "the victim's secret" not in shown
    assert (place / "key.pem").read_bytes() == b"secret"
    assert sorted(os.listdir(home)) == ["secret"]
    await comes(
        lambda: [path.name for path in place.parent.iterdir() if path.name.startswith(".old")] == []
    )


async def test_cleanup_removes_links_and_what_is_closed_and_touches_nothing_beyond(
    room: Room, home: pathlib.Path, site: pathlib.Path
) -> None:
    code = (
        f"ln -s {home} link; ln -s {home.parent} ../link; mkdir -p a/b/c; touch a/b/c/d; chmod"
        f" 0 a/b/c a/b a; mkfifo pipe; echo told; exec sleep 600"
    )
    await room.backend.start([launch(argv=("/bin/sh", "-c", code))])
    await log_until(room, "default-0", "told")
    await ended(room)
    await room.backend.cleanup(UID)
    assert not (site / "root" / "clusters" / UID).exists()
    assert (home / "secret").read_text() == "the victim's secret\n"


async def test_who_goes_on_writing_in_its_directory_does_not_keep_it_from_being_removed(
    room: Room, site: pathlib.Path
) -> None:
    """It has left its marks and its session; as long as the directories are its own it would be
    faster than who removes them."""
    code = (
        "import os, itertools, signal\n"
        "if os.fork(): signal.pause()\n"
        "os.setsid()\n"
        "inner = os.open('.', os.O_RDONLY)\n"
        "print('told', flush=True)\n"
        "for number in itertools.count():\n"
        "    for name in (f'f{number % 500}', f'g{number % 500}'):\n"
        "        try: os.close(os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=inner))\n"
        "        except OSError: os._exit(0)\n"
    )
    argv = ("/usr/bin/env", "-i", PYTHON, "-I", "-c", code)
    await room.backend.start([launch(argv=argv)])
    await log_until(room, "default-0", "told")
    await ended(room)
    await room.backend.cleanup(UID)
    assert not (site / "root" / "clusters" / UID).exists()


async def test_a_directory_of_anothers_that_was_moved_in_is_not_emptied_by_root(
    room: Room, site: pathlib.Path
) -> None:
    """Whoever may write in a directory may move it, though not empty what is in it and closed to
    him."""
    project = site / "project"
    (project / "results").mkdir(parents=True)
    (project / "results" / "file").write_text("years of work")
    for path in (project / "results" / "file", project / "results", project):
        shutil.chown(path, VICTIM)
    project.chmod(0o777)
    os.chmod(site, 0o777)
    try:
        code = f"mv {project} . && echo moved; echo told; exec sleep 600"
        await room.backend.start([launch(argv=("/bin/sh", "-c", code))])
        assert "moved" in await log_until(room, "default-0", "told")
    finally:
        os.chmod(site, 0o755)
    await ended(room)
    with pytest.raises(BackendUnavailable, match="a directory of another account"):
        await room.backend.cleanup(UID)
    assert texts(site) == ["years of work"]


async def test_a_cleanup_that_cannot_succeed_is_tried_seldom_and_answers_alike(
    room: Room, site: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(room)
    directory = site / "root" / "clusters" / UID / "default-0" / "scratch"
    subprocess.run(["mount", "-t", "tmpfs", "none", str(directory)], check=True)  # noqa: ASYNC221
    tries = 0
    real = Directories.remove_files

    def counted(self: Directories, uid: str) -> None:
        nonlocal tries
        tries += 1
        real(self, uid)

    monkeypatch.setattr(Directories, "remove_files", counted)
    try:
        answers = set()
        for _ in range(20):
            with pytest.raises(BackendUnavailable) as raised:
                await room.backend.cleanup(UID)
            answers.add(str(raised.value))
        assert answers == {f"{site}/root/clusters/{UID}/default-0: Device or resource busy"}
        assert tries == 1
    finally:
        subprocess.run(["umount", str(directory)], check=True)  # noqa: ASYNC221
    monkeypatch.setattr("gateway.backends.setbacks.monotonic", lambda: 1e12)
    await room.backend.cleanup(UID)
    assert not (site / "root" / "clusters" / UID).exists()
