"""One at a time for each key: who comes second waits until the first has done. Holds nothing for
keys that nobody is at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class Turns:
    """Locks by key."""

    def __init__(self) -> None:
        # with how many are at it or wait
        self._locks: dict[Hashable, tuple[asyncio.Lock, int]] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def of(self, key: Hashable) -> AsyncIterator[None]:
        """Have a turn."""
        lock, count = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = lock, count + 1
        try:
            async with lock:
                yield
        finally:
            lock, count = self._locks[key]
            if count > 1:
                self._locks[key] = lock, count - 1
            else:
                del self._locks[key]
