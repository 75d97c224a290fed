"""How long one turn of an event loop takes of its own thread's time: nobody else is served
meanwhile. Other threads do not count."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class MeasuredLoop(asyncio.SelectorEventLoop):
    """An event loop that knows its longest turn."""

    longest_s = 0.0

    def _run_once(self) -> None:
        began = time.thread_time()
        super()._run_once()  # type: ignore[misc]
        self.longest_s = max(self.longest_s, time.thread_time() - began)


class Served:
    """A loop in a thread of its own, where a server runs; callers are elsewhere, so that what they
    do is not measured."""

    def __init__(self) -> None:
        self.loop = MeasuredLoop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Awaitable[T], timeout_s: float = 60.0) -> T:
        """Do something there, and return what it returns."""

        async def do() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(do(), self.loop).result(timeout_s)

    def close(self) -> None:
        """End the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    @contextmanager
    def longest_turn(self) -> Iterator[Callable[[], float]]:
        """Measure; what is yielded returns the longest turn in seconds."""
        gc.collect()  # what others have left is nobody's fault here
        self._reset()
        yield self._settled

    def _reset(self) -> None:
        self.run(asyncio.sleep(0))
        self.loop.longest_s = 0.0

    def _settled(self) -> float:
        self.run(asyncio.sleep(0.01))  # what is still to be done of it
        return self.loop.longest_s


def varint(number: int) -> bytes:
    """Return a number as protobuf writes it."""
    written = b""
    while number > 127:
        written += bytes([number & 127 | 128])
        number >>= 7
    return written + bytes([number])


def field(number: int, payload: bytes) -> bytes:
    """Return a field that has a length."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload
