"""What `GatewayCluster.adapt` returns, and how bounds in cores and memory become bounds in workers.
The sizing itself is the scheduler's: its agent does it with no client around."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Generator
from typing import Any

from distributed.deploy.cluster import Cluster

from gateway.client.calls import reading

DEFAULT_MAXIMUM = 100  # workers, where nobody names a bound; the gateway's own limits hold besides


class GatewayAdaptive:
    """The bounds that the scheduler keeps by itself."""

    periodic_callback = True  # Dask's own display takes this for "adaptive"

    def __init__(
        self,
        cluster: Cluster,
        minimum: int,
        maximum: int,
        group: str,
        done: Awaitable[None] | None = None,
    ) -> None:
        self.cluster, self.minimum, self.maximum, self.group = cluster, minimum, maximum, group
        self._done = done

    def stop(self) -> None:
        """Nothing: a later `scale` ends adapting."""

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
    minimum: int,
    maximum: float | None,
    least: list[tuple[Any, float]],
    most: list[tuple[Any, float]],
) -> tuple[int, int]:
    """Return bounds in workers: the greatest of the least, the least of the most. Amounts of None
    bound nothing."""
    low = max(
        [
            reading.count(minimum, "minimum"),
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
