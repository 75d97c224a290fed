"""Whether what users write lies on the disk of the database: one user could then fill the disk for
all. Reads paths, changes nothing."""

from __future__ import annotations

import pathlib

from gateway.server.boot.settings import Settings, database_path


def notes(found: Settings) -> list[str]:
    """Return what an administrator should know of where things lie, one line each."""
    database = database_path(found.server)
    said = []
    for name, backend in found.backends.items():
        root = str(getattr(backend, "root", "") or "")
        if not root or device(pathlib.Path(root).expanduser()) != device(database.parent):
            continue
        said.append(
            f"c.{type(backend).__name__}.root: {root} is on the disk of the database ({database})."
            f" What users of backend {name} write"
            " there, scratch files and logs, can fill it: put it on a disk of its own, or under a"
            " quota. Below"
            f" {found.server.min_free_bytes // 2**20} MiB free no new cluster is accepted;"
            f" {found.server.disk_reserve_bytes // 2**20} MiB are reserved, so that what ends is"
            f" recorded all the same"
        )
    return said


def device(path: pathlib.Path) -> int | None:
    """Return on which file system a path is, or will be once it is made; None if nobody can
    tell."""
    for place in (path, *path.parents):
        try:
            return place.stat().st_dev
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None
