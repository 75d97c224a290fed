"""Where and how often logs are read: in threads of their own, and only when there is more, so that
who follows many of them holds up nobody else. Knows files only.
"""

from __future__ import annotations

import asyncio
import functools
import os
import pathlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

READERS = 2  # threads that read logs
READ_AT_A_TIME = 8  # pieces of logs that one turn of the event loop may get
TURNS = 4  # logs of other accounts that are read at a time: each by a process of its own
# between two looks at a file that is followed: after it grew, and while it is quiet for long
LOOK_S = (0.2, 1.0)
SLOWER = 1.3  # times as long after each look at a quiet file
# followers that are told in one look: what they then read costs the event loop; the others are told
# in the next
MAX_GROWN = 50

T = TypeVar("T")


async def in_reader(work: Callable[..., T], *words: object) -> T:
    """Do something with a log in one of the threads that are for logs alone, few at a time: what is
    read costs the event loop to send."""
    loop = asyncio.get_running_loop()
    async with _reads.setdefault(loop, asyncio.Semaphore(READ_AT_A_TIME)):
        return await loop.run_in_executor(_readers(), work, *words)


@functools.cache
def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(READERS, thread_name_prefix="read-log")


_reads: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
    weakref.WeakKeyDictionary()
)
_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
    weakref.WeakKeyDictionary()
)


def turns() -> asyncio.Semaphore:
    """Return what is held while a log of another account is read."""
    return _turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(TURNS))


@dataclass(slots=True, eq=False)
class _Followed:
    """One file that somebody follows."""

    path: pathlib.Path
    loop: asyncio.AbstractEventLoop
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    seen: tuple[int, int] = (-1, -1)  # size and time of the last look
    wait_s: float = LOOK_S[0]
    due: float = 0.0


class Growth:
    """Looks at all files that are followed, in one thread, and tells their followers when there is
    more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[_Followed, None] = {}  # those that were told longest ago first
        self._thread: threading.Thread | None = None

    @contextmanager
    def followed(self, path: pathlib.Path) -> Iterator[asyncio.Event]:
        """Set an event whenever a file has grown, or has come to be; at most once in LOOK_S."""
        one = _Followed(path, asyncio.get_running_loop())
        with self._lock:
            self._files[one] = None
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._look_on, name="followed-logs", daemon=True
                )
                self._thread.start()
        try:
            yield one.grown
        finally:
            with self._lock:
                self._files.pop(one, None)

    def _look_on(self) -> None:
        while True:
            time.sleep(LOOK_S[0])
            with self._lock:
                if not self._files:
                    self._thread = None
                    return
                files = list(self._files)
            self._look(files, time.monotonic())

    def _look(self, files: list[_Followed], now: float) -> None:
        told = 0
        for one in files:
            if one.due > now or told >= MAX_GROWN:
                continue
            seen = _seen(one.path)
            if seen == one.seen:
                one.wait_s = min(LOOK_S[1], one.wait_s * SLOWER)
            else:
                one.seen, one.wait_s = seen, LOOK_S[0]
                told += 1
                self._tell(one)
            one.due = now + one.wait_s

    def _tell(self, one: _Followed) -> None:
        with self._lock:
            if one in self._files:  # to the end of the line
                del self._files[one]
                self._files[one] = None
        try:
            one.loop.call_soon_threadsafe(one.grown.set)
        except RuntimeError:  # that loop is closed
            with self._lock:
                self._files.pop(one, None)


def _seen(path: pathlib.Path) -> tuple[int, int]:
    try:
        status = os.lstat(path)
    except OSError:
        return (-1, -1)
    return status.st_size, status.st_mtime_ns


growth = Growth()
