"""What `GatewayCluster.adapt` returns, and how bounds in cores and memory become bounds in workers.
The sizing itself is the scheduler's: its agent does it with no client around."""

from __future__ import annotations

import difflib
import math
from collections.abc import Awaitable, Generator, Iterable
from typing import Any

from gateway.client.calls import reading
from gateway.client.calls.messages import DEFAULT_MAXIMUM, Bounds
from gateway.printable import quoted

KNOBS = ("interval", "wait_count", "target_duration")  # of Dask's own Adaptive
WORDS = (
    *("minimum", "maximum", "minimum_cores", "maximum_cores", "minimum_memory", "maximum_memory"),
    *("group", "active", "Adaptive", *KNOBS),
)


class GatewayAdaptive:
    """The bounds that the scheduler keeps by itself."""

    def __init__(
        self, cluster: Any, bounds: Bounds, group: str, done: Awaitable[None] | None = None
    ) -> None:
        self.cluster, self.group = cluster, group
        self.minimum, self.maximum = bounds.minimum, bounds.maximum
        self.interval, self.wait_count = bounds.interval_s, bounds.wait_count
        self.target_duration = bounds.target_duration_s
        # Dask's own display takes this for "adaptive"
        self.periodic_callback = True
        self._done = done

    def stop(self, reason: str = "") -> None:
        """Adapt no more; the group keeps the workers that it has now.

        Does nothing if adapting has ended already, by another `adapt` or by `scale`.
        """
        if self.periodic_callback:
            self.periodic_callback = False
            self._done = self.cluster._stop_adapting(self)

    def __await__(self) -> Generator[Any, None, GatewayAdaptive]:
        async def settle() -> GatewayAdaptive:
            if self._done is not None:
                await self._done
            return self

        return settle().__await__()

    def __repr__(self) -> str:
        return (
            f"GatewayAdaptive<minimum={self.minimum}, maximum={self.maximum}, group={self.group!r}>"
        )


def refuse_unknown(words: Iterable[str]) -> None:
    """Raise TypeError if a keyword of `adapt` is none that means something here."""
    for word in words:
        if word in ("worker_key", "n", "key", "memory_ratio", "attribute"):
            raise TypeError(
                f"{word} chooses workers in the client, which the gateway's own adapting does not"
                " ask; give Adaptive=distributed.Adaptive to let the client do it"
            )
        near = difflib.get_close_matches(word, WORDS, 1)
        hint = f"; did you mean {near[0]}?" if near else f"; it takes {', '.join(WORDS)}"
        raise TypeError(f"adapt has no keyword {quoted(word)}{hint}")


def workers_for(amount: Any, each: float, *, up: bool) -> int:
    """Return how many workers of `each` cores or bytes make an amount (`16`, `"64 GiB"`), rounded
    up or down.

    ValueError if the gateway names no such measure of a worker.
    """
    if each <= 0:
        raise ValueError(
            "the gateway names no such measure of this group's workers; give a number of workers"
        )
    ratio = reading.amount(amount, "an amount of cores or memory") / each
    return math.ceil(ratio) if up else math.floor(ratio)


def bounds(
    minimum: int | None,
    maximum: float | None,
    least: list[tuple[Any, float]],
    most: list[tuple[Any, float]],
) -> tuple[int, int]:
    """Return bounds in workers: the greatest of the least, the least of the most. Amounts of None
    bound nothing."""
    low = max(
        [
            0 if minimum is None else reading.count(minimum, "minimum"),
            *(workers_for(amount, each, up=True) for amount, each in least if amount is not None),
        ]
    )
    highs = [workers_for(amount, each, up=False) for amount, each in most if amount is not None]
    if maximum is not None and maximum != math.inf:
        highs.append(reading.count(maximum, "maximum"))
    high = min(highs) if highs else max(DEFAULT_MAXIMUM, low)
    if low < 0 or high < max(1, low):
        raise ValueError(
            f"adapting needs 0 <= minimum <= maximum and maximum >= 1, not {low} and {high}"
        )
    return low, high
