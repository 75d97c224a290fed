"""What all who start processes and keep them running do alike: hear what a new one says, wait for
its end, start it again, not too often.

A process tells where it listens by one line, `ready host:port`. Knows nothing of what it does, nor
how it is started.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

READY_S = 20.0  # for a new process to say that it is ready
STABLE_S = 60.0  # a process that lived so long is started again without waiting longer
LONGEST_S = 10.0  # between two starts


def ready_address(line: str) -> str:
    """Return where a process listens, by the line that it said first; empty if it is not ready."""
    word, _, address = line.strip().partition(" ")
    return address if word == "ready" else ""


def ready_line(address: str) -> bytes:
    """Return what a process says that listens."""
    return f"ready {address}\n".encode()


async def read_line(descriptor: int) -> str:
    """Return what is written to a pipe up to a line's end, or its own end."""
    os.set_blocking(descriptor, False)
    received = b""
    while b"\n" not in received:
        await _readable(descriptor)
        piece = os.read(descriptor, 4096)
        if not piece:
            break
        received += piece
    return received.decode(errors="replace")


async def ended(pid: int, runs: Callable[[], bool] = lambda: True) -> None:
    """Wait until a process, child of ours or not, has ended. OSError if it cannot be watched.

    `runs` says, once the process of that number is held, whether it is the one that is meant: a
    number is used again.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if runs():
            await _readable(descriptor)
    finally:
        os.close(descriptor)


class Pauses:
    """How long to wait before a process is started again: longer each time, and from the beginning
    once it was stable."""

    def __init__(self, first_s: float, clock: Callable[[], float]) -> None:
        self._first_s, self._clock = first_s, clock
        self._next_s, self._began = first_s, clock()

    def began(self) -> None:
        """It was started now."""
        self._began = self._clock()

    def next_s(self) -> float:
        """Return how long to wait now that it has ended, in seconds."""
        if self._clock() - self._began > STABLE_S:
            self._next_s = self._first_s
        wait_s, self._next_s = self._next_s, min(LONGEST_S, self._next_s * 2)
        return wait_s


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    loop.add_reader(descriptor, _resolve, readable)
    try:
        await readable
    finally:
        loop.remove_reader(descriptor)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
