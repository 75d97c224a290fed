"""Which cluster is looked at next: each at most once in the queue, never by two at a time, and none
before its time.

Knows clusters by uid only. Holds about one entry a cluster.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque

SLACK = 64  # entries of the heap beyond twice the keys that wait


class KeyedQueue:
    """Keys that are due, in the order they fell due."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}  # when each waiting key is due, on the loop's clock
        # may hold entries that an earlier one has replaced
        self._heap: list[tuple[float, str]] = []
        self._taken: set[str] = set()
        # takers that sleep, the first to have slept first
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._due)

    def add(self, key: str, delay_s: float = 0.0) -> None:
        """Make a key due after a delay, or earlier if it is due earlier already."""
        due = asyncio.get_running_loop().time() + max(0.0, delay_s)
        if self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, key))
        # entries that an earlier one replaced stay until they fall due, in days perhaps
        if len(self._heap) > 2 * len(self._due) + SLACK:
            self._heap = [(when, waiting) for waiting, when in self._due.items()]
            heapq.heapify(self._heap)
        self._wake_one()

    def drop(self, key: str) -> None:
        """Make a key due no more: what it was added for is being done."""
        self._due.pop(key, None)

    async def take(self) -> str:
        """Wait for a key that is due and that nobody holds; hold it until `done`."""
        loop = asyncio.get_running_loop()
        while True:
            key, wait_s = self._first(loop.time())
            if key is not None:
                del self._due[key]
                self._taken.add(key)
                if self._due:
                    self._wake_one()  # who takes the next, or sleeps until it is due
                return key
            await self._sleep(loop, wait_s)

    async def _sleep(self, loop: asyncio.AbstractEventLoop, wait_s: float | None) -> None:
        """Wait until woken or until so long has passed. One change wakes one taker, not all of
        them."""
        woken: asyncio.Future[None] = loop.create_future()
        self._waiting.append(woken)
        timer = loop.call_later(wait_s, _resolve, woken) if wait_s is not None else None
        try:
            await woken
        except asyncio.CancelledError:
            if woken.done() and not woken.cancelled():
                self._wake_one()  # what woke this one is for another
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if woken in self._waiting:
                self._waiting.remove(woken)

    def _wake_one(self) -> None:
        while self._waiting:
            woken = self._waiting.popleft()
            if not woken.done():
                woken.set_result(None)
                return

    def _first(self, now: float) -> tuple[str | None, float | None]:
        """Return a key that may be taken now, or else how long to wait for one (None: until
        something changes)."""
        held: list[tuple[float, str]] = []
        found: str | None = None
        wait_s: float | None = None
        while self._heap:
            due, key = heapq.heappop(self._heap)
            if self._due.get(key) != due:
                continue
            if key in self._taken:
                held.append((due, key))
                continue
            if due > now:
                heapq.heappush(self._heap, (due, key))
                wait_s = due - now
            else:
                found = key
            break
        for entry in held:
            heapq.heappush(self._heap, entry)
        return found, wait_s

    def done(self, key: str) -> None:
        """Let go of a key that was taken."""
        self._taken.discard(key)
        if self._due:
            self._wake_one()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
