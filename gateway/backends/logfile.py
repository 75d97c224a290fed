"""How log files are read: their end, their whole, and what is still being written; and how they are
kept small. Knows files only."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import logging
import os
import pathlib
import stat
from collections.abc import AsyncIterator, Callable, Iterable

from gateway.backends.as_user import open_plain
from gateway.backends.reading import growth, in_reader

logger = logging.getLogger(__name__)

PIECE_BYTES = 64 * 1024
MAX_TAIL_BYTES = 64 * 2**20  # that are searched for the last lines of a log
STILL_RUNS_S = 1.0  # it is asked so often whether who writes a quiet log still runs
KEEP_SIZE, PUNCH_HOLE = 1, 2  # linux/falloc.h
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
    """Return where the last lines of a file begin, at the earliest MAX_TAIL_BYTES before its end; 0
    for all of it.

    OSError if it is not there, or not to be read (`open_plain`).
    """
    if lines <= 0:
        return 0
    with open_plain(path, owner) as file:
        position = end = os.fstat(file.fileno()).st_size
        # what was given back before is no lines
        begin = max(_next_written(file.fileno(), 0, end), end - MAX_TAIL_BYTES)
        wanted = lines + 1
        while position > begin and wanted > 0:
            start = max(begin, position - PIECE_BYTES)
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
        return begin


async def pieces(
    path: pathlib.Path, tail_lines: int, follow: bool, running: Callable[[], bool]
) -> AsyncIterator[str]:
    """Yield a file in pieces; when following, go on until nothing more is written and the writer
    runs no longer."""
    if not follow:
        async for piece in _written(path, tail_lines):
            yield piece
        return
    with growth.followed(path) as grown:
        try:
            offset = await in_reader(tail_offset, path, tail_lines)
        except OSError:
            offset = 0
        while True:
            writing = running()  # asked before reading, so that the last words are not missed
            grown.clear()
            offset, text = await in_reader(_read_text, path, offset)
            if text:
                yield text
            elif not writing:
                return
            else:
                await _until(grown, STILL_RUNS_S)


async def _written(path: pathlib.Path, tail_lines: int) -> AsyncIterator[str]:
    """Yield what is there."""
    try:
        offset = await in_reader(tail_offset, path, tail_lines)
    except OSError:
        return
    while True:
        offset, text = await in_reader(_read_text, path, offset)
        if not text:
            return
        yield text


async def _until(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass


def _read_text(path: pathlib.Path, offset: int) -> tuple[int, str]:
    """Return where the next piece begins, and the text of the one at an offset; empty if there is
    none."""
    start, raw = _read(path, offset)
    if not raw:
        return offset, ""
    whole = raw if len(raw) < PIECE_BYTES else _whole_lines(raw)
    dropped = ""
    if start > offset:
        dropped = (
            f"[{'the first ' if offset == 0 else ''}{start - offset} bytes of this log were"
            f" dropped, for it was too long]\n"
        )
    return start + len(whole), dropped + whole.decode(errors="replace")


def _read(path: pathlib.Path, offset: int) -> tuple[int, bytes]:
    """Return a piece from an offset on, and where it begins: later, if what stood there was given
    back."""
    try:
        with open_plain(path) as file:
            start = _next_written(file.fileno(), offset, offset)
            file.seek(start)
            return start, file.read(PIECE_BYTES)
    except OSError:
        return offset, b""


def _next_written(descriptor: int, offset: int, none: int) -> int:
    """Return where a file's next data are from an offset on, `none` if there are none."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError:
        return none


def _whole_lines(raw: bytes) -> bytes:
    end = raw.rfind(b"\n") + 1
    return raw[:end] if end else raw


def shorten(paths: Iterable[pathlib.Path], limit_bytes: int) -> None:
    """Give the oldest part of each log back to the disk that takes more of it than so much; half of
    that stays.

    The file keeps its size, and everything in it its place: so whoever writes it and whoever reads
    it go on where they are.
    """
    for path in paths:
        try:
            _shorten(path, limit_bytes)
        except FileNotFoundError:
            continue
        except OSError as error:
            _complain(path.parent.parent, error.strerror)


def _shorten(path: pathlib.Path, limit_bytes: int) -> None:
    if os.lstat(path).st_blocks * 512 <= limit_bytes:
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        end = (status.st_size - limit_bytes // 2) // status.st_blksize * status.st_blksize
        if (
            stat.S_ISREG(status.st_mode)
            and end > 0
            and _fallocate()(descriptor, KEEP_SIZE | PUNCH_HOLE, 0, end) != 0
        ):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)


@functools.cache
def _fallocate() -> Callable[[int, int, int, int], int]:
    """Return fallocate(2), which Python has for making room only."""
    function = ctypes.CDLL(None, use_errno=True).fallocate
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return function


@functools.cache
def _complain(directory: pathlib.Path, words: str) -> None:
    logger.warning("logs in %s cannot be kept small: %s", directory, words)  # once
