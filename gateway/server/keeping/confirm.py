"""The administrator's word on a database that is doubted: what is shown before it is asked for, and
where it is left for the server."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.server.core.quantities import MAX_COUNT
from gateway.server.keeping.doubts import DOUBT_FILE, MAX_TOLD, WORD_FILE
from gateway.server.keeping.witness import read_json, write_json


@dataclass(frozen=True, slots=True)
class Doubt:
    """What the server doubts, as it wrote it down."""

    path: pathlib.Path
    told: Mapping[str, Any]
    words: str  # on some lines, for people
    processes: int


def find(state_dir: pathlib.Path) -> Doubt | None:
    """Return what is doubted, None if nothing is."""
    path = state_dir / DOUBT_FILE
    told = read_json(path)
    if not told:
        return None
    listed = told.get("clusters")
    clusters = (
        [cluster for cluster in listed if isinstance(cluster, dict)]
        if isinstance(listed, list)
        else []
    )
    count = _count(told.get("count")) or len(clusters)
    lines = [f"The database {told.get('path')} {told.get('why')}."]
    if clusters:
        lines += [f"{count} clusters run that it does not know:"]
        lines += [
            f"  {c.get('uid')}  of {c.get('user') or 'unknown'}, on {c.get('backend')},"
            f" {c.get('processes')} processes"
            for c in clusters
        ]
    if count > MAX_TOLD:
        lines += [f"  and {count - MAX_TOLD} more, which will be asked about again"]
    return Doubt(
        path, told, "\n".join(lines), sum(_count(cluster.get("processes")) for cluster in clusters)
    )


def _count(told: object) -> int:
    """Return a number of things, 0 for what is none."""
    return told if type(told) is int and 0 <= told <= MAX_COUNT else 0


def confirm(doubt: Doubt) -> None:
    """Leave the administrator's word for the server, about what was shown and nothing that came
    since. OSError if that cannot be."""
    word = doubt.path.with_name(WORD_FILE)
    status = doubt.path.stat()
    write_json(word, doubt.told)
    if status.st_uid != os.geteuid():  # root's word is to be read by whom the server runs as
        os.chown(word, status.st_uid, status.st_gid)
    doubt.path.unlink(missing_ok=True)
