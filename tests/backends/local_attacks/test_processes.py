"""Whose process is whose, whatever marks somebody has written."""

from __future__ import annotations

import contextlib
import pathlib
import pwd
import shutil
import subprocess
from collections.abc import AsyncIterator

import pytest

from gateway.backends.contract import (
    Phase,
    Target,
)
from gateway.backends.local import proc
from tests.backends.local_attacks.attacker import (
    ATTACKER,
    VICTIM,
    begin,
    ended,
    launch,
    words,
)
from tests.backends.test_local import UID, Room
from tests.waiting import comes

OTHER_UID = "c" + "b" * 20


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
    await begin(room)
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
    await begin(room)
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
    await begin(room)
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
    await begin(room)
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
