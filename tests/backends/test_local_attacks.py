"""What a user of the local backend tries on root, who runs processes as users: nothing that was
given away leads root anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Launch,
    Phase,
    Role,
    Started,
    StartFailed,
    Target,
)
from gateway.backends.local import proc
from gateway.backends.local.backend import LocalBackend
from gateway.backends.local.directories import Directories
from tests.backends.test_local import UID, Room
from tests.parts import as_account, missing
from tests.waiting import comes, until

ATTACKER, VICTIM = "games", "news"  # of every Debian
PYTHON = "/usr/bin/python3"  # one that every account may run
OTHER_UID = "c" + "b" * 20
SHOWS = ("/bin/sh", "-c", "echo stands in $(pwd -P); cat secret; echo told; exec sleep 600")


@pytest.fixture
def site() -> Iterator[pathlib.Path]:
    """A directory of root's that everybody may pass through."""
    if os.geteuid() != 0:
        missing("root", "sudo make test (processes run as other users)")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="local-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


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


@pytest.fixture
async def room(site: pathlib.Path) -> AsyncIterator[Room]:
    """A backend that runs each cluster as its user."""
    made = Room(
        LocalBackend(root=str(site / "root"), run_as_user=True, min_uid=1, stop_grace_s=0.5)
    )
    await made.backend.open(made.push)
    yield made
    left = [Target(seen.instance, seen.handle) for seen in await made.backend.find()]
    await made.backend.stop(left)
    for target in left:
        await made.gone(target.instance)
    await made.backend.close()


def launch(
    name: str = "default-0", argv: tuple[str, ...] = SHOWS, user: str = ATTACKER, **fields: object
) -> Launch:
    """Return a launch of the attacker's."""
    return Launch(Instance(UID, Role.WORKER, name), user, argv, **fields)  # type: ignore[arg-type]


def words(user: str) -> list[str]:
    """Return the words that run a command as a user."""
    entry = pwd.getpwnam(user)
    return as_account(entry.pw_uid, entry.pw_gid)


async def log_until(room: Room, name: str, text: str) -> str:
    """Follow a log until it has a text."""
    shown = ""
    async with asyncio.timeout(60):
        async for piece in room.backend.logs(Target(launch(name).instance), follow=True):
            shown += piece
            if text in shown:
                break
    return shown


async def ended(room: Room, name: str = "default-0") -> None:
    """End a process, which must not have ended by itself: one that ends at once may be over before
    it is looked at, and then it never was started, and nothing is told of it."""
    await room.backend.stop([Target(launch(name).instance)])
    await room.gone(launch(name).instance)


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
    await room.backend.start([launch()])
    await log_until(room, "default-0", "told")
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


# Who is whose process


def marks(site: pathlib.Path, name: str, uid: str = UID) -> dict[str, str]:
    """Return the marks of a process of this gateway."""
    return {
        "DASKGATEWAY_ROOT": f"{site}/root",
        "DASKGATEWAY_UID": uid,
        "DASKGATEWAY_NAME": name,
        "DASKGATEWAY_ROLE": "worker",
    }


@contextlib.asynccontextmanager
async def forged(
    environment: dict[str, str], argv: list[str]
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run a process with marks."""
    env = {"PATH": "/usr/bin:/bin", **environment}
    child = subprocess.Popen(argv, env=env, start_new_session=True)  # noqa: ASYNC220 (a test)
    try:
        await comes(
            lambda: (
                pathlib.Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n"
                and bool(proc.environment(child.pid))
            )
        )
        yield child
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    "name",
    [
        f"../{UID}/default-0",
        "default-0/scratch",
        "default-0/",
        "./default-0",
        "..",
        "",
        "default-00",
        "default-٣",
        "default-0\n",
        "Default-0",
        "x" * 5000 + "-0",
        "default-" + "9" * 5000,
        "/etc/passwd",
    ],
)
async def test_a_name_out_of_an_environment_is_no_path(
    room: Room, site: pathlib.Path, name: str
) -> None:
    """With slashes it leads to a directory of the attacker's own, by which he passes for another's
    process."""
    await room.backend.start([launch()])
    await log_until(room, "default-0", "told")
    (site / "root" / "clusters" / OTHER_UID).mkdir()
    (genuine,) = await room.backend.find()
    for uid in (OTHER_UID, UID):
        async with forged(marks(site, name, uid), [*words(ATTACKER), "/bin/sleep", "600"]):
            await room.restart()
            assert [seen.handle for seen in await room.backend.find()] == [genuine.handle]


@pytest.mark.parametrize("uid", ["", "../clusters", UID.upper(), UID + "\n", UID + "/.."])
async def test_a_uid_out_of_an_environment_is_no_path(
    room: Room, site: pathlib.Path, uid: str
) -> None:
    async with forged(marks(site, "default-0", uid), [*words(ATTACKER), "/bin/sleep", "600"]):
        await room.restart()
        assert await room.backend.find() == []


async def test_a_process_that_runs_with_more_than_its_users_rights_is_not_taken_for_a_cluster(
    room: Room, site: pathlib.Path
) -> None:
    """As a program of root's that a user has started, with marks in its environment, and gained
    root's rights."""
    await room.backend.start([launch()])
    await log_until(room, "default-0", "told")
    entry = pwd.getpwnam(ATTACKER)
    argv = [
        "setpriv",
        f"--ruid={entry.pw_uid}",
        "--clear-groups",
        f"--regid={entry.pw_gid}",
        "--",
        "/bin/sleep",
        "600",
    ]
    (genuine,) = await room.backend.find()
    async with forged(marks(site, "default-7"), argv) as child:
        (site / "root" / "clusters" / UID / "default-7").mkdir()
        shutil.chown(site / "root" / "clusters" / UID / "default-7", ATTACKER)
        await room.restart()
        assert [seen.handle for seen in await room.backend.find()] == [genuine.handle]
        await room.backend.stop([Target(genuine.instance, genuine.handle)])
        await room.gone(genuine.instance)
        await room.backend.cleanup(UID)
        assert child.poll() is None


async def test_a_handle_of_before_a_restart_of_the_machine_is_not_another_users_process(
    room: Room, site: pathlib.Path
) -> None:
    await room.backend.start([launch()])
    await log_until(room, "default-0", "told")
    await ended(room)
    await room.restart()
    for user, words_ in ((VICTIM, words(VICTIM)), ("root", [])):
        async with forged({}, [*words_, "/bin/sleep", "600"]) as child:
            process = proc.identify(child.pid)
            assert process is not None
            target = Target(launch().instance, str(process))
            assert (await room.backend.observations([target]))[
                target.instance
            ].phase is Phase.GONE, user
            await room.backend.stop([target])
            assert child.poll() is None


async def test_cleanup_ends_nobodys_process_but_the_clusters_users(
    room: Room, site: pathlib.Path
) -> None:
    await room.backend.start([launch()])
    await log_until(room, "default-0", "told")
    async with forged(marks(site, "default-7"), [*words(VICTIM), "/bin/sleep", "600"]) as victims:
        async with forged(marks(site, "default-7"), ["/bin/sleep", "600"]) as roots:
            async with forged(
                marks(site, "default-7"), [*words(ATTACKER), "/bin/sleep", "600"]
            ) as own:
                await room.backend.cleanup(UID)
                assert (victims.poll(), roots.poll()) == (None, None)
                await comes(lambda: own.poll() is not None)


def test_a_pid_that_was_given_anew_while_its_environment_was_read_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The environment of one process, and the identity of the next that has its pid: root would end
    whatever that is."""
    bystander = subprocess.Popen(["/bin/sleep", "600"], env={})
    real, earlier = proc._environ, [b"DASKGATEWAY_ROOT=/here"]
    monkeypatch.setattr(
        proc,
        "_environ",
        lambda pid: earlier.pop() if pid == bystander.pid and earlier else real(pid),
    )
    found = [process for process, _ in proc.marked({"DASKGATEWAY_ROOT": "/here"})]
    bystander.kill()
    bystander.wait()
    assert (found, earlier) == ([], [])


# Where it all lies


async def test_a_root_that_a_users_link_leads_to_is_refused(site: pathlib.Path) -> None:
    (site / "real").mkdir()
    (site / "link").symlink_to(site / "real")
    os.lchown(site / "link", pwd.getpwnam(ATTACKER).pw_uid, -1)
    for root in (site / "link", site / "link" / "root"):
        backend = LocalBackend(root=str(root), run_as_user=True)
        with pytest.raises(BackendUnavailable, match=r"/link can be changed by others than root"):
            await backend.open(lambda _: None)
    assert os.listdir(site / "real") == []


@pytest.mark.parametrize("kind", ["another's", "writable by all", "writable by a group"])
async def test_a_root_that_users_could_exchange_is_refused(site: pathlib.Path, kind: str) -> None:
    above = site / "above"
    above.mkdir()
    if kind == "another's":
        shutil.chown(above, ATTACKER)
    if kind == "writable by a group":
        shutil.chown(above, group="users")
    above.chmod({"another's": 0o755, "writable by all": 0o777, "writable by a group": 0o775}[kind])
    backend = LocalBackend(root=str(above / "root"), run_as_user=True)
    with pytest.raises(
        BackendUnavailable,
        match=rf"c\.LocalBackend\.root: {above} can be changed by others than root",
    ):
        await backend.open(lambda _: None)
    assert not (above / "root").exists()


async def test_an_account_that_has_changed_its_number_gets_no_files_of_the_earlier_one(
    room: Room, site: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room.backend.start([launch()])
    await log_until(room, "default-0", "told")
    outcome = (await room.backend.start([launch("default-1", user=VICTIM)]))[
        launch("default-1").instance
    ]
    assert isinstance(outcome, StartFailed)
    assert "belongs to another account" in outcome.message


@pytest.mark.parametrize("name", ["../x", "x/y", "", ".", "scheduler/..", ".account"])
async def test_an_instance_of_no_such_name_is_never_started(room: Room, name: str) -> None:
    one = Launch(Instance(UID, Role.WORKER, name), ATTACKER, SHOWS)
    outcome = (await room.backend.start([one]))[one.instance]
    assert isinstance(outcome, StartFailed)
    assert outcome.permanent


def test_what_runs_is_found_beside_processes_with_environments_without_end() -> None:
    """Anybody may run as many as he likes, with a megabyte of entries each."""
    entries = {f"A{number}": "" for number in range(20_000)}
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", "import time; time.sleep(600)"], env=entries
    )
    try:
        until(lambda: bool(proc.environment(child.pid)), "its environment is there")
        assert len(proc.environment(child.pid)) <= proc.MAX_ENTRIES
    finally:
        child.kill()
        child.wait()
