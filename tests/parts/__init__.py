"""Real servers that tests talk to: found on this machine, or said how to get."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
from typing import NoReturn

import pytest

_CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
PATH = (
    os.environ.get("PATH", "")
    + f":/usr/sbin:/sbin:/usr/local/sbin:{_CACHE}/daskgateway/parts/node_modules/.bin"
    + f":{_CACHE}/daskgateway/parts/bin"
)


def program(name: str, install: str) -> str:
    """Return the path of a program that a test needs; `install` is the command that brings it."""
    return shutil.which(name, path=PATH) or missing(name, install)


def missing(what: str, install: str) -> NoReturn:
    """A part is not there: a failure where everything must be tested, a skip elsewhere."""
    words = f"{what} is not here; this installs it: {install}"
    if os.environ.get("CI") == "true":
        pytest.fail(words)
    pytest.skip(words)


def executable(path: pathlib.Path, text: str) -> None:
    """Make a program that can be run at once; one that is there is replaced.

    Not by this process itself: what another thread forks meanwhile would have the file open for a
    moment too, and what is open for writing cannot be run ("Text file busy").
    """
    words = ["/bin/sh", "-c", 'rm -f "$1" && cat >"$1" && chmod 755 "$1"', "sh", str(path)]
    subprocess.run(words, input=text, text=True, check=True)


def as_account(uid: int, gid: int) -> list[str]:
    """Return the words before a command that is to run as an account.

    Not subprocess's own `user`: with it a child is forked, not vforked, and gRPC's fork handlers
    crash children while its threads work.
    """
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--"]
