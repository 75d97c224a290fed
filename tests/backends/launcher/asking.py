"""Asking the launcher as it is installed, and what it answers."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import pwd
import shutil
import subprocess
from collections.abc import Mapping

from tests.parts import as_account

ALICE, BOB = "games", "news"  # of every Debian; bob is whom alice has to fear
PYTHON = "/usr/bin/python3"  # one that every account may run
SECRET = b"a private key\n"
SHOWS = '#!/bin/sh\nprintf "%s|" "$@"; echo; /usr/bin/env; pwd; umask\n'


def owned(directory: pathlib.Path, user: str, mode: int = 0o755) -> pathlib.Path:
    """Make a directory that is a user's."""
    directory.mkdir()
    directory.chmod(mode)
    shutil.chown(directory, user)
    return directory


def account(user: str) -> list[str]:
    """Return the words that run a command as a user."""
    entry = pwd.getpwnam(user)
    return as_account(entry.pw_uid, entry.pw_gid)


def ask(
    place: pathlib.Path,
    *words: object,
    user: str = ALICE,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: object = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run the launcher as a user."""
    variables = [
        f"{name}={value}" for name, value in ({"PATH": "/usr/bin:/bin"} | dict(env or {})).items()
    ]
    argv = [
        *account(user),
        "/usr/bin/env",
        "-i",
        *variables,
        PYTHON,
        "-I",
        f"{place}/as_user.py",
        *map(str, words),
    ]
    return subprocess.run(argv, capture_output=True, timeout=60, input=stdin, cwd=cwd)  # type: ignore[call-overload]


def told(done: subprocess.CompletedProcess[bytes]) -> object:
    """Return what a call that went well printed, as JSON."""
    assert (done.returncode, done.stderr) == (0, b"")
    return json.loads(done.stdout)


def refused(done: subprocess.CompletedProcess[bytes], words: str) -> None:
    """A call was refused, in one line, with these words."""
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, b"", 1), done
    assert lines[0].startswith("daskgateway-as-user: ")
    assert words in lines[0]


def payload(**files: bytes) -> bytes:
    """Return files as the launcher takes them."""
    return json.dumps(
        {name: base64.b64encode(content).decode() for name, content in files.items()}
    ).encode()


def private(place: pathlib.Path) -> pathlib.Path:
    """Return a directory of alice's that has nothing to do with the gateway."""
    directory = owned(place / "home" / ALICE / ".ssh", ALICE, 0o700)
    (directory / "key").write_bytes(SECRET)
    shutil.chown(directory / "key", ALICE)
    return directory


def link(path: pathlib.Path, target: pathlib.Path, owner: str) -> pathlib.Path:
    """Make a link that is somebody's."""
    path.symlink_to(target)
    os.lchown(path, pwd.getpwnam(owner).pw_uid, -1)
    return path


def bobs(path: pathlib.Path) -> None:
    """A file that is not alice's."""
    path.write_bytes(SECRET)
    shutil.chown(path, BOB)
