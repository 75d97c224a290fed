"""For how long the event loop stood still, but for what the machine gave to others meanwhile."""

from __future__ import annotations

import asyncio
import glob
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

MAX_STALL_S = 0.25  # of the event loop, on a busy machine
TURN_S = 0.005


@asynccontextmanager
async def longest_stall(*, any_thread: bool = False) -> AsyncIterator[list[float]]:
    """Measure the longest time for which the event loop did not turn, in seconds, but for what the
    machine gave to others meanwhile: while the loop's own thread waited for a processor or, for
    bounds that are tight, any thread of this process, which may have held Python's lock."""
    worst = [0.0]
    waited = any_runnable_s if any_thread else runnable_s

    async def turn() -> None:
        loop = asyncio.get_running_loop()
        before, waited_s = loop.time(), waited()
        while True:
            await asyncio.sleep(TURN_S)
            now, waited_now_s = loop.time(), waited()
            worst[0] = max(worst[0], now - before - TURN_S - max(0.0, waited_now_s - waited_s))
            before, waited_s = now, waited_now_s

    task = asyncio.create_task(turn())
    try:
        await asyncio.sleep(0)  # so that it measures before anything can stand still
        yield worst
    finally:
        # so that it has turned once more, and counts what came last
        await asyncio.sleep(2 * TURN_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def runnable_s() -> float:
    """Return for how long this thread has waited for a processor (proc(5): schedstat); 0 where the
    system does not tell.

    Not for how long other threads have: what they keep the event loop waiting by, holding Python's
    lock, is a stall.
    """
    return _waited_s("/proc/thread-self/schedstat")


def any_runnable_s() -> float:
    """Return for how long the threads of this process have waited for a processor, together."""
    return sum(_waited_s(path) for path in glob.glob("/proc/self/task/*/schedstat"))


def _waited_s(path: str) -> float:
    try:
        with open(path, "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
