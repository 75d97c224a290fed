"""Where the local backend keeps it all, and whom it starts nothing for."""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import subprocess
import sys

import pytest

from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Launch,
    Role,
    StartFailed,
)
from gateway.backends.local import proc
from gateway.backends.local.backend import LocalBackend
from tests.backends.local_attacks.attacker import (
    ATTACKER,
    SHOWS,
    VICTIM,
    begin,
    launch,
)
from tests.backends.test_local import UID, Room
from tests.waiting import until

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
    await begin(room)
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
