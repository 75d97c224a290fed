"""Fair shares (`gateway.fair`) for coroutines: wait for one's turn, and have it for the length of a
block."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from gateway.fair import FairPool, Grant

FINEST_S = 0.005  # waits for time to make a place free are no shorter


class Crowded(Exception):
    """So many of the same key wait already that there is no use in waiting too."""


class Turns:
    """A pool on an event loop."""

    def __init__(self, pool: FairPool) -> None:
        self.pool = pool
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, key: str, grant: Grant, kind: str = "") -> bool:
        """Ask for a place; False if too many of that key wait already."""
        asked = self.pool.ask(key, grant, asyncio.get_running_loop().time(), kind)
        self._go_on()
        return asked

    def give_back(self, key: str) -> None:
        """Let a place go."""
        self.pool.give_back(key, asyncio.get_running_loop().time())
        self._go_on()

    @contextlib.asynccontextmanager
    async def turn(self, key: str, kind: str = "") -> AsyncIterator[None]:
        """Wait for a place and have it; Crowded if too many of that key wait already."""
        await self.take(key, kind)
        try:
            yield
        finally:
            self.give_back(key)

    async def take(self, key: str, kind: str = "") -> None:
        """Wait for a place, to be given back; Crowded if too many of that key wait already."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def grant() -> None:
            if granted.done():  # cancelled, which has not been heard of yet
                return
            granted.set_result(None)

        if not self.ask(key, grant, kind):
            raise Crowded
        try:
            await granted
        except BaseException:
            if not self.pool.withdraw(key, grant):
                self.give_back(key)
            raise

    def _go_on(self) -> None:
        """Give what time makes free, as long as somebody waits for that."""
        loop = asyncio.get_running_loop()
        wait_s = self.pool.pump(loop.time()) if self.pool.waiting else None
        if wait_s is not None and self._timer is None:
            self._timer = loop.call_later(max(FINEST_S, wait_s), self._in_time)

    def _in_time(self) -> None:
        self._timer = None
        self._go_on()

    def close(self) -> None:
        """Give nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
