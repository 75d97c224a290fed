"""What the server last knew of its database, written down beside it: by this an older, an empty or
another one is told from it.

Written from time to time and before anything is ended for want of a record: never with a commit,
which it would slow down. It may lag behind the database, and never runs ahead of it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

from gateway.files import read_kept, write_kept
from gateway.server.store.contract import MAX_REVISION, Last, Store

logger = logging.getLogger(__name__)

FILE = "database.json"
INTERVAL_S = 5.0
MAX_BYTES = 1024 * 1024


class Witness:
    """The file."""

    def __init__(self, state_dir: pathlib.Path) -> None:
        self._path = state_dir / FILE
        self._written: Last | None = None
        self._complained = ""

    def last(self) -> Last | None:
        """Return what was written down, None if nothing was."""
        told = read_json(self._path)
        if not self._path.exists():
            return None
        try:
            return _last(told)
        except (KeyError, ValueError):
            logger.error(
                "%s cannot be read: whether the database is the one that was last used is not"
                " known",
                self._path,
            )
            return None

    async def note(self, store: Store) -> None:
        """Write down the database as it is now."""
        last = Last(store.identity, store.view.revision)
        if last == self._written:
            return
        try:
            await asyncio.to_thread(
                write_json, self._path, {"identity": last.identity, "revision": last.revision}
            )
        except OSError as error:
            if self._complained != str(error):
                logger.error(
                    "%s: %s; an older database would not be told from the present one",
                    self._path,
                    error.strerror,
                )
            self._complained = str(error)
        else:
            self._written, self._complained = last, ""


def _last(told: Mapping[str, Any]) -> Last:
    """Return what a file tells; KeyError or ValueError if it is not what was ever written."""
    identity, revision = told["identity"], told["revision"]
    if (
        not isinstance(identity, str)
        or type(revision) is not int
        or not 0 <= revision <= MAX_REVISION // 2
    ):
        raise ValueError("it tells no database, or a revision that none comes to")
    return Last(identity, revision)


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Return what a small file says, an empty mapping if there is no such file or nothing in it
    makes sense."""
    try:
        told = json.loads(read_kept(path, MAX_BYTES) or b"")
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def write_json(path: pathlib.Path, value: object) -> None:
    """Write a small file, whole or not at all, and durably. OSError if that cannot be."""
    write_kept(path, json.dumps(value).encode())
