"""Measures from within how long a server's event loop stands still: a timer that notes how late it
comes. Standard library only.

It costs 200 short callbacks a second. The result is read by another process through a mapped file
of two numbers: the longest stall in ms, and how much of it the thread could have run but the
machine gave it no CPU.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import pathlib
import struct
import threading
import time

INTERVAL_S = 0.005
_FORMAT = struct.Struct("<dd")


def begin(loop: asyncio.AbstractEventLoop, path: str) -> None:
    """Measure a loop from now on."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(descriptor, _FORMAT.size)
    shared = mmap.mmap(descriptor, _FORMAT.size)
    os.close(descriptor)
    schedstat = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
    last = [time.perf_counter(), _waited_ms(schedstat)]

    def beat() -> None:
        now, waited = time.perf_counter(), _waited_ms(schedstat)
        late_ms = (now - last[0] - INTERVAL_S) * 1000
        if late_ms > _FORMAT.unpack_from(shared)[0]:
            _FORMAT.pack_into(shared, 0, late_ms, waited - last[1])
        last[0], last[1] = now, waited
        loop.call_later(INTERVAL_S, beat)

    loop.call_soon(beat)


def _waited_ms(schedstat: int) -> float:
    """Return how long this thread has waited for a CPU since it began."""
    return int(os.pread(schedstat, 100, 0).split()[1]) / 1e6


def taken(path: pathlib.Path) -> tuple[float, float]:
    """Return the longest stall since the last time it was taken, and the part of it without a CPU,
    in ms."""
    with path.open("r+b") as file:
        found: tuple[float, float] = _FORMAT.unpack(file.read(_FORMAT.size))
        file.seek(0)
        file.write(_FORMAT.pack(0.0, 0.0))
    return found


async def settled(path: pathlib.Path) -> tuple[float, float]:
    """Take on the measured event loop itself, once what it has done until now is noted: a stall is
    noted by the timer that comes late, and so after whoever takes at once."""
    await asyncio.sleep(2 * INTERVAL_S)
    return taken(path)


def begin_with_uvloop(path: str) -> None:
    """Measure every uvloop loop that this process makes later: for the configuration file of a
    server under test."""
    import uvloop

    make = uvloop.new_event_loop

    def new_event_loop() -> uvloop.Loop:
        loop = make()
        loop.call_soon(begin, loop, path)
        return loop

    uvloop.new_event_loop = new_event_loop
