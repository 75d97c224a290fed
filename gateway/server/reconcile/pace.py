"""So many a second and no more: each who asks is given an instant, and what is late for its turn
holds up nobody else.

Instants are those of a steady clock, in seconds. Holds one entry for each key that waits.
"""

from __future__ import annotations


class Pace:
    """Instants for keys, in the order they first asked."""

    def __init__(self, a_second: float) -> None:
        self._gap_s = 1 / a_second
        self._free_at = 0.0  # the first instant that nobody has
        self._given: dict[str, float] = {}

    def wait_s(self, key: str, now: float) -> float:
        """Return for how long a key is to wait still. 0: it is its turn, which is used up by that;
        a key that waits is to ask again."""
        at = self._given.get(key)
        if at is None:
            at = self._given[key] = max(now, self._free_at)
            self._free_at = at + self._gap_s
        if at > now:
            return at - now
        del self._given[key]
        return 0.0

    def forget(self, key: str) -> None:
        """Drop a key that needs no turn any more; its instant is lost."""
        self._given.pop(key, None)
