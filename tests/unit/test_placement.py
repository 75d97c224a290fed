"""That users' files lie on the database's disk is said, and where they do not nothing is."""

from __future__ import annotations

import os
import pathlib
import tempfile

import pytest
from click.testing import CliRunner

from gateway import configfile
from gateway.__main__ import main
from gateway.authenticators.password import hash_password
from gateway.server.boot.settings import settings
from gateway.server.keeping.placement import device, notes

SIGN_IN = f"--PasswordAuthenticator.password={hash_password('wonderland')}"


def said(*words: str) -> list[str]:
    """Return the notes on a configuration."""
    return notes(settings(configfile.from_words([SIGN_IN, *words])))


def test_files_of_users_on_the_databases_disk_are_told(tmp_path: pathlib.Path) -> None:
    state = f"--DaskGateway.state_dir={tmp_path}/not-made-yet/state"
    (note,) = said(state)
    for words in (
        "c.LocalBackend.root",
        f"{tmp_path}/not-made-yet/state/gateway.db",
        "256 MiB",
        "32 MiB",
        "quota",
    ):
        assert words in note
    assert said(state, f"--LocalBackend.root={tmp_path}/elsewhere/local")
    places = ["--DaskGateway.address=127.0.0.1:0", "--Proxy.address=127.0.0.1:0"]
    done = CliRunner().invoke(main, ["check-config", SIGN_IN, state, *places])
    assert done.exit_code == 0
    assert done.output.splitlines() == ["the configuration is right", f"note: {note}"]


def test_where_they_have_a_disk_of_their_own_nothing_is_said(tmp_path: pathlib.Path) -> None:
    if not os.path.isdir("/dev/shm") or device(pathlib.Path("/dev/shm")) == device(tmp_path):
        pytest.skip("there is no second file system here")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        assert (
            said(f"--DaskGateway.state_dir={tmp_path}/state", f"--LocalBackend.root={other}/local")
            == []
        )
        assert (
            said(f"--DaskGateway.state_dir={other}/state", f"--LocalBackend.root={tmp_path}/local")
            == []
        )
        database = f"--DaskGateway.database=sqlite:///{other}/gateway.db"
        assert said(f"--DaskGateway.state_dir={tmp_path}/state", database) == []
