"""How much of this machine's disk all logs of one user take: those that were written longest ago
give theirs back first.

logs/UID/.user      whose the cluster is: a text
logs/UID/NAME.log
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.backends import logfile
from gateway.backends.as_user import open_plain

USER = ".user"
MAX_NAME_BYTES = 256
# of a log are left to it, of all but the oldest if there are too many of these
LEAST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Log:
    path: pathlib.Path
    bytes_on_disk: int
    written_at: int  # ns


def mark(directory: pathlib.Path, user: str) -> None:
    """Write down whose the logs of a cluster are."""
    try:
        descriptor = os.open(
            directory / USER,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
        )
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(user)


def shorten_beyond(logs: pathlib.Path, limit_bytes: int) -> None:
    """Shorten logs of every user whose logs take more than so much together."""
    for user, directories in _by_user(logs).items():
        if user:
            _shorten_of([log for directory in directories for log in _logs(directory)], limit_bytes)


def _by_user(logs: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    found: dict[str, list[pathlib.Path]] = {}
    for directory in _entries(logs):
        try:
            with open_plain(directory / USER) as file:
                user = file.read(MAX_NAME_BYTES).decode(errors="replace")
        except OSError:  # such as of a cluster that was purged meanwhile
            continue
        found.setdefault(user, []).append(directory)
    return found


def _logs(directory: pathlib.Path) -> Iterable[_Log]:
    for path in _entries(directory):
        try:
            status = path.lstat()
        except OSError:
            continue
        if path.suffix == ".log":
            yield _Log(path, status.st_blocks * 512, status.st_mtime_ns)


def _entries(directory: pathlib.Path) -> list[pathlib.Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _shorten_of(logs: list[_Log], limit_bytes: int) -> None:
    beyond = sum(log.bytes_on_disk for log in logs) - limit_bytes
    for least_bytes in (LEAST_BYTES, 0):
        for log in sorted(logs, key=lambda log: log.written_at):
            if beyond <= 0:
                return
            before = _on_disk(log.path)
            logfile.shorten([log.path], least_bytes)
            beyond -= before - _on_disk(log.path)


def _on_disk(path: pathlib.Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except OSError:
        return 0
