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
