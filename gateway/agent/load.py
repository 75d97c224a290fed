"""What a scheduler's load means: whether it is idle, how many workers it wants, whom to let go.
Reads a scheduler, changes nothing."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

# a target falls only to the greatest of so long, so that it does not flutter
ADAPTIVE_WINDOW_S = 3.0
AGREE_S = 5.0  # that the server's count of who is too many is waited for
NO_CLIENT = "fire-and-forget"  # a client that the scheduler keeps for itself


def group_of(name: object) -> str:
    """Return the group in a worker's name, which is `<group>-<sequence>`."""
    return str(name).rpartition("-")[0]


def clients(scheduler: Any) -> int:
    """Return how many clients are connected. A cluster object that follows the workers is none, and
    neither is what the scheduler takes for one: what is published, queues, variables."""
    return len(scheduler.client_comms)


def holds_results(scheduler: Any) -> bool:
    """Whether results are kept for somebody who is not connected: they were published, or are in a
    queue or a variable."""
    return any(
        client.wants_what
        for name, client in scheduler.clients.items()
        if name != NO_CLIENT and name not in scheduler.client_comms
    )


def busy(scheduler: Any) -> bool:
    """Whether tasks are processing, queued, or waiting for a worker that can run them."""
    return bool(
        scheduler.queued
        or scheduler.unrunnable
        or any(ws.processing for ws in scheduler.workers.values())
    )


class Since:
    """Since when something has been so, on a monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None

    def note(self, holds: bool) -> None:
        """Say whether it is so now."""
        if not holds:
            self._since = None
        elif self._since is None:
            self._since = self._clock()

    @property
    def age_ms(self) -> int:
        """How long it has been so, in milliseconds; -1 if it is not."""
        return -1 if self._since is None else int((self._clock() - self._since) * 1000)


class Surplus:
    """How many workers of a group are to be retired. The server by itself ends some of those that
    it has not heard of yet: were they counted here as well, too few would be left. So its own count
    of those it knows sets a limit, but for no longer than `AGREE_S`: it may be away, or wrong."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None  # when more than it knows of were too many, and are still

    def count(self, here: int, leaving: int, keep: int, told: int | None) -> int:
        """Return how many more are to go, of `here` connected ones of which some are `leaving`,
        where the server knows of so many too many (`told`; None: it does not tell)."""
        surplus = max(0, here - leaving - keep)
        agreed = surplus if told is None else max(0, min(surplus, told - leaving))
        if agreed == surplus:
            self._since = None
            return surplus
        if self._since is None:
            self._since = self._clock()
        return surplus if self._clock() - self._since >= AGREE_S else agreed


class AdaptiveTarget:
    """How many workers an adaptive group wants: up at once, down after the window, or after so many
    looks in a row where a user says how often to look."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._recent: deque[tuple[float, int]] = deque()

    def note(
        self,
        wanted: Callable[[], int],
        minimum: int,
        maximum: int,
        interval_s: float = 0.0,
        wait_count: int = 0,
    ) -> int:
        """Look at what is wanted now, unless the interval has not passed; return the target."""
        now = self._clock()
        if not self._recent or now - self._recent[-1][0] >= interval_s:
            self._recent.append((now, wanted()))
        looks = wait_count or (math.ceil(ADAPTIVE_WINDOW_S / interval_s) if interval_s else 0)
        while len(self._recent) > looks if looks else self._recent[0][0] < now - ADAPTIVE_WINDOW_S:
            self._recent.popleft()
        return max(minimum, min(maximum, max(value for _, value in self._recent)))


def wanted(scheduler: Any, group: str, target_duration_s: float | None = None) -> int:
    """Return how many workers of a group the scheduler's load asks for."""
    others = sum(1 for ws in scheduler.workers.values() if group_of(ws.name) != group)
    return max(0, int(scheduler.adaptive_target(target_duration=target_duration_s)) - others)


def whom_to_retire(scheduler: Any, group: str, surplus: int, leaving: Iterable[str]) -> list[str]:
    """Return names of a group's workers whose loss costs least, as the scheduler orders them."""
    gone = set(leaving)
    order = scheduler.workers_to_close(n=len(scheduler.workers), minimum=0, attribute="name")
    names = [str(name) for name in order if group_of(name) == group and str(name) not in gone]
    return names[:surplus]
