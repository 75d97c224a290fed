"""What a process imports after it has given its rights up, though its account may not enter the
directories where Python's modules lie.

An installation in root's home, say. The directories are opened while they may be, and modules are
found through the descriptors then, where Python itself finds none any more.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

FIRST_FD = 220  # of the descriptors, away from those that come and go


def opened() -> dict[str, int]:
    """Return descriptors of the directories where modules are looked for."""
    found = {}
    for path in map(os.path.abspath, dict.fromkeys(sys.path)):
        if os.path.isdir(path):
            descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            found[path] = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_FD)
            os.close(descriptor)
    return found


def keep_finding(directories: Mapping[str, int]) -> None:
    """From now on find modules through the descriptors of those directories that are closed to this
    account; let the others go."""
    closed = {}
    for path, descriptor in directories.items():
        if os.access(path, os.R_OK | os.X_OK):
            os.close(descriptor)
        else:
            closed[path] = f"/proc/self/fd/{descriptor}"
    if closed:
        sys.meta_path.append(_Finder(closed))


class _Finder:
    """Asked where no other finder has found a module."""

    def __init__(self, closed: Mapping[str, str]) -> None:
        # the innermost first
        self._closed = sorted(closed.items(), key=lambda item: len(item[0]), reverse=True)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module is, None if it is nowhere."""
        ways = [
            way
            for place in (sys.path if path is None else path)
            if (way := self._way(os.path.abspath(place)))
        ]
        return PathFinder.find_spec(name, ways, target) if ways else None

    def _way(self, place: str) -> str:
        """Return the path of a directory through a descriptor, an empty text if there is none."""
        for path, way in self._closed:
            if place == path or place.startswith(f"{path}/"):
                return way + place[len(path) :]
        return ""
