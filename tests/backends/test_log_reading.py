"""Logs lie where users may write: what is put in a log's place leads nowhere, holds nobody up, and
shows nobody else's file."""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
import pwd
import time

import pytest

from gateway.backends import logfile
from gateway.backends.as_user import open_plain
from gateway.backends.batch import directories
from gateway.backends.batch.identity import ServiceIdentity
from gateway.backends.batch.logs import LogPlace
from gateway.backends.contract import Instance, Launch, Phase, Role, Target
from gateway.backends.doubtful_files import read_piece, write_files
from gateway.backends.slurm.backend import TokenIdentity
from tests.backends.pbs_room import slowly
from tests.backends.pretend import PretendBackend, PretendSystem
from tests.parts import missing

UID = "c" + "a" * 20
INSTANCE = Instance(UID, Role.WORKER, "default-0")
SECRET = "the gateway's own key\n"


@pytest.fixture
def log(tmp_path: pathlib.Path) -> pathlib.Path:
    """Where a log should be, beside a secret."""
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "default-0.log"


def link(log: pathlib.Path) -> None:
    """A link to the secret."""
    log.symlink_to(log.parents[1] / "secret")


KINDS = {
    "link": link,
    "pipe": os.mkfifo,
    "directory": pathlib.Path.mkdir,
    "endless": lambda log: log.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_no_log_is_read_as_nothing_and_at_once(log: pathlib.Path, kind: str) -> None:
    KINDS[kind](log)  # type: ignore[operator]
    place = LogPlace(ServiceIdentity(), "", str(log.parent))

    async def runs() -> bool:
        return False

    async with asyncio.timeout(5):
        assert await place.last_words(INSTANCE) == ""
        assert [
            piece async for piece in place.pieces(INSTANCE, 0, follow=False, running=runs)
        ] == []
        assert [
            piece async for piece in logfile.pieces(log, 5, follow=True, running=lambda: False)
        ] == []
        assert await asyncio.to_thread(logfile.tail, log) == ""
        assert await asyncio.to_thread(read_piece, str(log), 0) == b""


async def test_a_log_of_another_owner_is_not_read_with_the_gateways_rights(
    log: pathlib.Path,
) -> None:
    if os.geteuid() != 0:
        missing("root", "sudo make test (a file is given to another account)")
    os.link(log.parents[1] / "secret", log)  # no link that could be refused, but root's
    place = LogPlace(TokenIdentity(), "games", str(log.parent))
    assert await place.last_words(INSTANCE) == ""
    write_files(log.parent, {log.name: b"words\n"})
    os.chown(log, TokenIdentity().owner("games") or 0, -1)
    assert await place.last_words(INSTANCE) == "words"
    with pytest.raises(OSError, match="not a regular file of its owner"):
        open_plain(log, 0)


async def test_a_directory_of_anothers_among_a_users_logs_is_not_emptied_with_the_gateways_rights(
    log: pathlib.Path,
) -> None:
    if os.geteuid() != 0:
        missing("root", "sudo make test (files are given to other accounts)")
    write_files(log.parent / "moved", {"file": b"years of work"})
    for path, account in (
        (log.parent, "games"),
        (log.parent / "moved", "news"),
        (log.parent / "moved" / "file", "news"),
    ):
        os.chown(path, TokenIdentity().owner(account) or 0, -1)
    for account in ("games", "no-such-account"):
        with pytest.raises(PermissionError, match="a directory of another account"):
            await TokenIdentity().remove(account, str(log.parent))
    assert (log.parent / "moved" / "file").read_bytes() == b"years of work"
    os.chown(log.parent / "moved", TokenIdentity().owner("games") or 0, -1)
    await TokenIdentity().remove("games", str(log.parent))
    assert os.listdir(log.parents[1]) == ["secret"]


async def test_a_failing_worker_whose_log_is_a_pipe_holds_up_no_look(
    tmp_path: pathlib.Path,
) -> None:
    room = PretendSystem()
    backend = PretendBackend(
        room, root=str(tmp_path / "root"), tag="dgw", observe_interval_s=0.1, first_look_s=0
    )
    await backend.open(lambda _: None)
    log = f"{tmp_path}/root/logs/{UID}/default-0.log"
    outcome = (
        await backend.start(
            [Launch(INSTANCE, "alice", ("sh", "-c", f"rm {log}; mkfifo {log}; exit 3"))]
        )
    )[INSTANCE]
    target = Target(INSTANCE, outcome.handle)  # type: ignore[union-attr]
    async with asyncio.timeout(10):
        while True:
            await backend.listing(0.0)
            seen = (await backend.observations([target])).get(INSTANCE)
            if seen is not None and seen.phase is Phase.GONE:
                break
            await asyncio.sleep(0.05)
    assert seen.exit_code == 3
    await backend.close()
    await room.close()


@pytest.mark.parametrize("template", ["{root}/users/{user}", "{root}/users/{user}/{uid}"])
async def test_logs_that_may_not_be_removed_are_left_to_the_site_and_the_purge_is_done(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    template: str,
) -> None:
    """As in a user's directory of mode 2750, which is the gateway's group's to read."""
    backend = PretendBackend(PretendSystem(), root=str(tmp_path), tag="dgw", log_directory=template)
    await backend.open(lambda _: None)
    account = backend.who.account("alice")
    await backend._own(UID, account)
    place = tmp_path / "users" / account / (UID if "{uid}" in template else "")
    names = (
        ["scheduler.log", "default-0.log"]
        if "{uid}" in template
        else [f"{UID}.scheduler.log", f"{UID}.default-0.log", "other.log"]
    )
    write_files(place, dict.fromkeys(names, b"x"))

    real = os.unlink

    def unlink(path: str, **kept: int) -> None:
        if str(path).endswith(".log"):
            raise PermissionError(13, "Permission denied", path)
        real(path, **kept)

    with monkeypatch.context() as patched, caplog.at_level(logging.INFO):
        patched.setattr(os, "unlink", unlink)
        await backend.purge(UID)
    assert [
        (record.levelname, str(place) in record.message)
        for record in caplog.records
        if "left to the site" in record.message
    ] == [("INFO", True)]
    assert sorted(path.name for path in place.iterdir()) == sorted(names)
    assert UID not in backend.owners
    await backend.close()


async def test_a_home_that_is_slow_to_be_looked_up_holds_up_nobody_and_is_looked_up_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = "{home}/.daskgateway-none/{uid}"
    backend = PretendBackend(
        PretendSystem(),
        root=str(tmp_path),
        tag="dgw",
        log_directory=template,
        staging_directory=template,
    )
    await backend.open(lambda _: None)
    account = backend.who.account("alice")
    await backend._own(UID, account)
    asked: list[str] = []
    real = pwd.getpwnam

    def slow(name: str) -> pwd.struct_passwd:
        asked.append(name)
        time.sleep(0.6)
        return real(name)

    monkeypatch.setattr(pwd, "getpwnam", slow)
    monkeypatch.setattr(directories, "_homes", {})

    async def work() -> None:
        assert [piece async for piece in backend.logs(Target(INSTANCE, "1"))] == []
        await backend.cleanup(UID)
        await backend.purge(UID)

    assert await slowly(work) < 0.3
    assert asked == [account]
    await backend.close()


async def test_homes_are_believed_for_a_while_and_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(directories, "_homes", {})
    monkeypatch.setattr(directories, "MAX_HOMES", 2)
    monkeypatch.setattr(directories, "HOME_S", 0.0)
    asked: list[str] = []

    def look(name: str) -> pwd.struct_passwd:
        asked.append(name)
        return pwd.struct_passwd((name, "x", 1, 1, "", f"/home/{name}-{len(asked)}", "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwnam", look)
    homes = [
        await directories.filled("{home}", account=name, uid=UID, root="/")
        for name in ("a", "a", "b", "c")
    ]
    assert homes == ["/home/a-1", "/home/a-2", "/home/b-3", "/home/c-4"]
    assert list(directories._homes) == ["b", "c"]
