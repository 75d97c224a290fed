"""What could not be done and is tried again, ever more seldom: in between the same answer is given
at once. Knows no backend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic

from gateway.backends.contract import BackendUnavailable

RETRY_S = (5.0, 3600.0)  # between two tries: doubled from the first to the last
MAX_KEPT = 10_000  # the oldest go first, which are tried again with the next call


@dataclass(slots=True)
class _Setback:
    words: str
    wait_s: float
    until: float


class Setbacks:
    """By key: why it could not be done the last time, and when it is tried again."""

    def __init__(self) -> None:
        self._known: dict[str, _Setback] = {}

    async def attempt(self, key: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do it, unless it has failed too lately; BackendUnavailable with why it fails."""
        known = self._known.pop(key, None)
        if known is not None and monotonic() < known.until:
            self._known[key] = known
            raise BackendUnavailable(known.words)
        try:
            await work()
        except BackendUnavailable as error:
            first_s, last_s = RETRY_S
            wait_s = first_s if known is None else min(last_s, 2 * known.wait_s)
            self._known[key] = _Setback(str(error), wait_s, monotonic() + wait_s)
            while len(self._known) > MAX_KEPT:
                del self._known[next(iter(self._known))]
            raise
