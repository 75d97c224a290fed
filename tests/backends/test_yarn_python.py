"""skein is of 2022, and Python goes on: the extra `yarn` brings what it needs."""

from __future__ import annotations

import json
import pathlib
import socket
import subprocess
import sys

import pytest
import tomllib
from packaging.requirements import Requirement

from tests.parts.newest_python import newest

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXTRA = [
    Requirement(text)
    for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]["yarn"]
]
# of the server, as far as skein's process uses it: gateway.files and gateway.backends.local.proc
NEEDED = ("grpcio", "traitlets")


def brought(version: str) -> set[str]:
    """Return what the extra brings on a version of Python."""
    given = {"python_version": version}
    return {one.name for one in EXTRA if one.marker is None or one.marker.evaluate(given)}


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("3.11", {"skein"}),
        ("3.12", {"skein", "setuptools"}),
        ("3.13", {"skein", "setuptools"}),
        ("3.14", {"skein", "setuptools"}),
    ],
)
def test_the_extra_brings_distutils_where_python_has_none(version: str, names: set[str]) -> None:
    assert brought(version) == names


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_skeins_process_runs_on_the_newest_python(tmp_path: pathlib.Path) -> None:
    python = newest() or sys.executable
    home = tmp_path / "venv"
    subprocess.run([python, "-m", "venv", str(home)], check=True)
    pip = [str(home / "bin/python"), "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    subprocess.run([*pip, *NEEDED, *(str(one) for one in EXTRA)], check=True)
    ours, theirs = socket.socketpair()
    with ours, theirs, (tmp_path / "log").open("wb") as log:
        host = subprocess.Popen(
            [home / "bin/python", "-m", "gateway.backends.yarn.host", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stderr=log,
            cwd=ROOT,
        )
        try:
            theirs.close()
            ours.settimeout(60)
            settings = {"deadline_s": 5, "submit_s": 5, "start_s": 5, "threads": 1}
            request = {"number": 1, "operation": "credentials", "within_s": 60}
            ours.sendall(f"{json.dumps(settings)}\n{json.dumps(request)}\n".encode())
            answer = json.loads(ours.makefile().readline() or '"it said nothing"')
            assert "BEGIN CERTIFICATE" in answer["done"]["certificate"], answer
            ours.shutdown(socket.SHUT_RDWR)
            assert host.wait(60) == 0
        finally:
            host.kill()
            host.wait()
    assert (tmp_path / "log").read_text() == ""
