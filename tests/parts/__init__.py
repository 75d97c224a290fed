"""Real servers that tests talk to: found on this machine, or said how to get."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import pytest

STOP_S = 60.0
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


def end(process: subprocess.Popen[bytes] | None, *, group: bool = False) -> None:
    """End a program as an administrator does, by force if it does not; one that was made to stand
    still goes on first. `group`: with all others of its session."""
    if process is None or process.poll() is not None:
        return

    def send(number: signal.Signals) -> None:
        if group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)

    send(signal.SIGCONT)
    send(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        send(signal.SIGKILL)
        process.wait()


@contextmanager
def standing_still(process: subprocess.Popen[bytes] | None) -> Iterator[None]:
    """Have a program accept connections, and answer none of them."""
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


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
