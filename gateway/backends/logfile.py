"""How log files are read: their end, their whole, and what is still being written. Knows files only."""

from __future__ import annotations

import asyncio
import os
import pathlib
from collections.abc import AsyncIterator, Callable

from gateway.backends.as_user import open_plain

PIECE_BYTES = 64 * 1024
FOLLOW_S = 0.2
TAIL_LINES, TAIL_BYTES = 20, 4096  # what a failure is told with


def tail(path: pathlib.Path, lines: int = TAIL_LINES, limit: int = TAIL_BYTES) -> str:
    """Return the last lines of a file, at most `limit` bytes; empty if there is none."""
    try:
        with open_plain(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
            raw = file.read(limit)
    except OSError:
        return ""
    return "\n".join(raw.decode(errors="replace").splitlines()[-lines:])


def tail_offset(path: pathlib.Path, lines: int, owner: int | None = None) -> int:
    """Return where the last lines of a file begin; 0 for all of it. OSError if it is not there, or not to be read (`open_plain`)."""
    if lines <= 0:
        return 0
    with open_plain(path, owner) as file:
        position = end = os.fstat(file.fileno()).st_size
        wanted = lines + 1
        while position > 0 and wanted > 0:
            start = max(0, position - PIECE_BYTES)
            file.seek(start)
            piece = file.read(position - start)
            if position == end and not piece.endswith(b"\n"):
                wanted -= 1  # the last line is not ended yet
            index = len(piece)
            while wanted > 0 and (index := piece.rfind(b"\n", 0, index)) >= 0:
                wanted -= 1
                if wanted == 0:
                    return start + index + 1
            position = start
    return 0


async def pieces(path: pathlib.Path, tail_lines: int, follow: bool, running: Callable[[], bool]) -> AsyncIterator[str]:
    """Yield a file in pieces; when following, go on until nothing more is written and the writer runs no longer."""
    try:
        offset = await asyncio.to_thread(tail_offset, path, tail_lines)
    except OSError:
        if not follow:
            return
        offset = 0
    while True:
        writing = running()  # asked before reading, so that the last words are not missed
        raw = await asyncio.to_thread(_read, path, offset)
        if raw:
            whole = raw if len(raw) < PIECE_BYTES else _whole_lines(raw)
            offset += len(whole)
            yield whole.decode(errors="replace")
        elif not follow or not writing:
            return
        else:
            await asyncio.sleep(FOLLOW_S)


def _read(path: pathlib.Path, offset: int) -> bytes:
    try:
        with open_plain(path) as file:
            file.seek(offset)
            return file.read(PIECE_BYTES)
    except OSError:
        return b""


def _whole_lines(raw: bytes) -> bytes:
    end = raw.rfind(b"\n") + 1
    return raw[:end] if end else raw
