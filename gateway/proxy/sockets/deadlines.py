"""Who has waited too long: things that all have the same time, kept in the order of their
deadlines, with one timer for all."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

FINEST_S = 0.05  # expiries closer together than this are one

Thing = TypeVar("Thing", bound=Hashable)


class Deadlines(Generic[Thing]):
    """Expires things that were not discarded in time."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, timeout_s: float, expire: Callable[[Thing], None]
    ) -> None:
        self._loop, self.timeout_s, self._expire = loop, timeout_s, expire
        self._due: OrderedDict[Thing, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, thing: object) -> bool:
        return thing in self._due

    def add(self, thing: Thing) -> None:
        """Begin a thing's time."""
        self._due[thing] = self._loop.time() + self.timeout_s
        if self._timer is None:
            self._timer = self._loop.call_later(self.timeout_s, self._sweep)

    def discard(self, thing: Thing) -> None:
        """Expect a thing no longer."""
        self._due.pop(thing, None)

    def pop_oldest(self) -> Thing:
        """Take out and return the one that has waited longest."""
        return self._due.popitem(last=False)[0]

    def clear(self) -> list[Thing]:
        """Take out and return all."""
        found = list(self._due)
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return found

    def _sweep(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._due:
            due = next(iter(self._due.values()))
            if due > now:
                self._timer = self._loop.call_later(max(FINEST_S, due - now), self._sweep)
                return
            self._expire(self.pop_oldest())
