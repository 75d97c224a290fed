"""Fair shares of something of which there is only so much at a time. Pure: no tasks, no timers; the
clock is handed in.

Those who ask are told apart by a key, such as an address or a user, and each key has at most so
many places. A place that becomes free goes to the next key in turn, whoever asked first, and within
a key to who has waited longest. So who asks for a thousand waits for a thousand, and who asks for
one waits for as many as there are others. The server gives calls and passwords by it, the edge
requests and handshakes.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

# is called when it is one's turn, perhaps before `ask` returns; must not raise
Grant = Callable[[], None]


class Bucket:
    """How much is allowed over time: `burst` at once, and `rate` a second."""

    __slots__ = ("_at", "_left", "burst", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = rate, burst
        self._left, self._at = burst, 0.0

    def take(self, now: float, count: float = 1.0) -> bool:
        """Take so much out, if it is there."""
        self._left = (
            min(self.burst, self._left + max(0.0, now - self._at) * self.rate)
            if self._at
            else self.burst
        )
        self._at = now
        if self._left < count:
            return False
        self._left -= count
        return True

    def wait_s(self, count: float = 1.0) -> float:
        """Return the seconds until so much is there, after `take` has found that it was not."""
        return max(0.0, (min(count, self.burst) - self._left) / self.rate)


class _Share:
    """What one key has and wants: those who wait, in turn among the kinds that they name, such as
    connections of one address."""

    __slots__ = ("_kinds", "count", "taken")

    def __init__(self) -> None:
        self.taken = 0
        self.count = 0  # of those who wait
        self._kinds: OrderedDict[str, deque[Grant]] = OrderedDict()

    def append(self, grant: Grant, kind: str) -> None:
        """Let one wait."""
        self._kinds.setdefault(kind, deque()).append(grant)
        self.count += 1

    def pop(self) -> Grant:
        """Return whose turn it is."""
        kind, grants = next(iter(self._kinds.items()))
        grant = grants.popleft()
        self.count -= 1
        if grants:
            self._kinds.move_to_end(kind)
        else:
            del self._kinds[kind]
        return grant

    def waiting(self, kind: str) -> int:
        """Return how many of a kind wait."""
        return len(self._kinds.get(kind, ()))

    def remove(self, grant: Grant) -> bool:
        """Let one wait no more; False if it did not."""
        for kind, grants in self._kinds.items():
            if grant in grants:
                grants.remove(grant)
                self.count -= 1
                if not grants:
                    del self._kinds[kind]
                return True
        return False


class FairPool:
    """So many places in all, so many for each key; more must wait."""

    __slots__ = (
        "_bucket",
        "_each",
        "_most_waiting",
        "_pumping",
        "_ring",
        "_shares",
        "_total",
        "taken",
        "waiting",
    )

    def __init__(
        self, total: int, each: int, *, most_waiting: int, bucket: Bucket | None = None
    ) -> None:
        """`most_waiting`: how many may wait of one key. `bucket`: how many places are given over
        time."""
        self._total, self._each, self._most_waiting, self._bucket = (
            total,
            each,
            most_waiting,
            bucket,
        )
        self._shares: dict[str, _Share] = {}  # of keys that have or want something
        # keys that want something and have not all that they may have, in turn
        self._ring: deque[str] = deque()
        self._pumping = False
        self.taken = 0
        self.waiting = 0

    def take(self, key: str) -> bool:
        """Take a place at once, where one is free that nobody waits for; False if not. Of a pool
        that knows no bucket."""
        share = self._shares.get(key)
        if self.taken >= self._total or self._ring or self._bucket is not None:
            return False
        if share is None:
            share = self._shares[key] = _Share()
        elif share.taken >= self._each:
            return False
        share.taken += 1
        self.taken += 1
        return True

    def ask(self, key: str, grant: Grant, now: float, kind: str = "") -> bool:
        """Ask for a place; False if too many of that key wait already. Within a key, kinds take
        turns."""
        share = self._shares.get(key)
        if share is None:
            share = self._shares[key] = _Share()
        if share.count >= self._most_waiting:
            self._drop(key, share)
            return False
        share.append(grant, kind)
        self.waiting += 1
        if share.count == 1 and share.taken < self._each:
            self._ring.append(key)
        self.pump(now)
        return True

    def give_back(self, key: str, now: float) -> None:
        """Let a place go."""
        share = self._shares[key]
        share.taken -= 1
        self.taken -= 1
        if share.count and share.taken == self._each - 1:
            self._ring.append(key)
        self._drop(key, share)
        self.pump(now)

    def withdraw(self, key: str, grant: Grant) -> bool:
        """Ask no more; False if it was not waiting."""
        share = self._shares.get(key)
        if share is None or not share.remove(grant):
            return False
        self.waiting -= 1
        if not share.count and share.taken < self._each:
            self._ring.remove(key)
        self._drop(key, share)
        return True

    def pump(self, now: float) -> float | None:
        """Give what can be given; return the seconds after which to do so again, where only time
        stands against it."""
        if self._pumping:
            return None
        self._pumping = True
        try:
            while self._ring and self.taken < self._total:
                if self._bucket is not None and not self._bucket.take(now):
                    return self._bucket.wait_s()
                self._give(self._ring.popleft())
        finally:
            self._pumping = False
        return None

    def _give(self, key: str) -> None:
        share = self._shares[key]
        grant = share.pop()
        share.taken += 1
        self.taken += 1
        self.waiting -= 1
        if share.count and share.taken < self._each:
            self._ring.append(key)
        grant()

    def _drop(self, key: str, share: _Share) -> None:
        if not share.taken and not share.count:
            del self._shares[key]

    def held_by(self, key: str) -> int:
        """Return how many places a key has."""
        share = self._shares.get(key)
        return share.taken if share is not None else 0

    def wanted_by(self, key: str, kind: str | None = None) -> int:
        """Return how many of a key wait, or of one kind of it."""
        share = self._shares.get(key)
        if share is None:
            return 0
        return share.count if kind is None else share.waiting(kind)
