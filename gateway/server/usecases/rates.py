"""How often a user may do something: a bucket of so many at once, which fills again within a
minute."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MAX_USERS = 10_000  # whose buckets are not full; of more, those used longest ago are taken for full
MINUTE_S = 60.0


class Rates:
    """One bucket a user. Lives on the event loop."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute  # 0: as often as one likes
        self._clock = clock
        # what is left and when that was so, longest ago first
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, user: str) -> float:
        """Count one; return 0.0, or if there are none left, in how many seconds there will be."""
        if not self.per_minute:
            return 0.0
        now = self._clock()
        left = self._left(user, now)
        if left < 1.0:
            return (1.0 - left) * MINUTE_S / self.per_minute
        self._put(user, left - 1.0, now)
        return 0.0

    def give_back(self, user: str) -> None:
        """Count one less: it had been counted before."""
        if self.per_minute:
            now = self._clock()
            self._put(user, min(self.per_minute, self._left(user, now) + 1.0), now)

    def _left(self, user: str, now: float) -> float:
        left, at = self._buckets.get(user, (float(self.per_minute), now))
        return min(float(self.per_minute), left + (now - at) * self.per_minute / MINUTE_S)

    def _put(self, user: str, left: float, now: float) -> None:
        self._buckets[user] = (left, now)
        self._buckets.move_to_end(user)
        while (
            len(self._buckets) > MAX_USERS or now - next(iter(self._buckets.values()))[1] > MINUTE_S
        ):
            self._buckets.popitem(last=False)
