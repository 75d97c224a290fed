"""Whether files are in nobody else's hands: what others could read is no secret, and what they
could change decides nothing.

Looks at owners and modes only, of a path and of the directories above it, and says what is wrong
and what would be right.
"""

from __future__ import annotations

import os
import pathlib
import stat

NOBODY = 65534  # whom a user namespace shows in place of those it does not know, such as root
READ_BY_GROUP = stat.S_IRGRP


def file_problem(path: pathlib.Path, *, secret: bool) -> str:
    """Return what is wrong with a file's owner and mode, an empty text if nothing is or there is no
    such file.

    A `secret` one must be closed to others; a group may read it if it is root's, as with keys that
    programs share. Every one must be closed to others' changes.
    """
    try:
        status = path.stat()
    except OSError:
        return ""  # whoever needs it says so
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in (0, os.geteuid()):
        return (
            f"{path}: it is the user's with number {status.st_uid}, who can change it; chown"
            f" it to {_own_name()}"
        )
    if mode & 0o022:
        return (
            f"{path}: others can change it (mode {mode:o}); chmod"
            f" {mode & ~(0o077 if secret else 0o022):o} it"
        )
    open_to = mode & 0o077 & ~(READ_BY_GROUP if status.st_uid == 0 else 0)
    if secret and open_to:
        return f"{path}: others can read it (mode {mode:o}); chmod {mode & 0o700:o} it"
    return ""


def directory_problem(path: pathlib.Path) -> str:
    """Return what is wrong with a directory that is to be ours alone, an empty text if nothing is
    or there is none yet.

    Nor may others put another one in its place: whoever may write to a directory above it could.
    """
    path = path.resolve()
    try:
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode):
            return f"{path}: it is no directory"
        if status.st_uid != os.geteuid():
            return (
                f"{path}: it is the user's with number {status.st_uid}, not {_own_name()}'s;"
                f" chown it, or name another"
            )
        if status.st_mode & 0o077:
            return (
                f"{path}: others can enter it (mode {stat.S_IMODE(status.st_mode):o}); chmod 700 it"
            )
    except OSError:
        pass  # not made yet
    return _above(path)


def _above(path: pathlib.Path) -> str:
    for place in path.parents:
        try:
            status = place.stat()
        except OSError:
            continue
        if status.st_uid not in (0, os.geteuid(), NOBODY):
            return (
                f"{path}: {place} above it is the user's with number {status.st_uid}, who"
                f" could put another one in its place"
            )
        if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
            mode = stat.S_IMODE(status.st_mode)
            return (
                f"{path}: others could put another one in its place, as they can change"
                f" {place} above it (mode {mode:o})"
            )
    return ""


def _own_name() -> str:
    return (
        "root"
        if os.geteuid() == 0
        else f"the user with number {os.geteuid()}, whom the gateway runs as,"
    )
