"""Looks at jobs soon after something was asked of them, or their scheduler saw them leave, not only
at the interval: whether they run, wait and why, or have ended.

The first look at a job comes `first_s` after it was asked for, the next after twice as long, until
it has come about or the interval is reached, which sees the rest. Each look is one listing and is
about all that is awaited. A job that is asked for later is looked at just as soon; but however many
ask, looks have a bound: in the long run as many in an interval as one request alone causes, and at
most twice as many in any one interval.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Observation,
    Observe,
    Phase,
    Target,
)

logger = logging.getLogger(__name__)

Look = Callable[[Sequence[Target]], Awaitable[Mapping[Instance, Observation]]]


@dataclass(slots=True)
class _Awaited:
    """One instance that something was asked of."""

    target: Target
    phases: Collection[Phase]
    wait_s: float  # before the look that is due
    due: float  # when that look is due, on the loop's clock, as all instants here


class EarlyLooks:
    """What is awaited, and the task that looks."""

    def __init__(self, look: Look, push: Observe, *, first_s: float, last_s: float) -> None:
        self._look, self._push = look, push
        self._first_s, self._last_s = first_s, last_s
        self._awaited: dict[Instance, _Awaited] = {}
        self._task: asyncio.Task[None] | None = None
        self._sooner = asyncio.Event()  # a look is due earlier than the one that is waited for
        self._planned = math.inf  # when the look is that is waited for
        # Looks are rationed as cells are by the generic cell rate algorithm (ITU-T I.371): so many
        # at once, and one more each time that `_gap_s` has passed.
        self._at_once = math.ceil(math.log2(last_s / first_s)) if 0 < first_s < last_s else 0
        self._gap_s = last_s / max(1, self._at_once)
        self._paid_until = -math.inf  # when all that was looked would have been due at one a gap

    def expect(self, targets: Iterable[Target], phases: Collection[Phase]) -> None:
        """Look until every target is in one of the phases."""
        if not self._at_once:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + self._first_s
        self._awaited |= {
            target.instance: _Awaited(target, phases, self._first_s, due) for target in targets
        }
        if not self._awaited:
            return
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())
        elif due < self._planned:
            self._sooner.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._awaited:
            await self._until_due(loop)
            begun, awaited = loop.time(), dict(self._awaited)
            self._paid_until = max(self._paid_until, begun) + self._gap_s
            await self._look_at(awaited)
            self._put_off(awaited, begun, loop.time())

    async def _until_due(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait until a look is due and may be had."""
        while True:
            self._sooner.clear()
            first = min(one.due for one in self._awaited.values())
            self._planned = max(first, self._paid_until - (self._at_once - 1) * self._gap_s)
            if self._planned <= loop.time():
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._planned):
                    await self._sooner.wait()

    async def _look_at(self, awaited: Mapping[Instance, _Awaited]) -> None:
        """Look once, tell what is seen, and await no more what has come about."""
        try:
            seen = await self._look([one.target for one in awaited.values()])
        except BackendUnavailable as error:
            # the look at the interval says so aloud
            logger.debug("an early look failed: %s", error)
            return
        except Exception:
            logger.exception("an early look failed")
            return
        for instance, one in awaited.items():
            if instance in seen and seen[instance].phase in one.phases and self._still(one):
                del self._awaited[instance]
        self._push(list(seen.values()))

    def _put_off(self, awaited: Mapping[Instance, _Awaited], begun: float, now: float) -> None:
        """After a look: whoever's look it was, or nearly, has the next after twice as long, or at
        the interval."""
        for instance, one in awaited.items():
            if not self._still(one) or one.due - begun > one.wait_s / 2:
                continue
            one.wait_s *= 2
            one.due = now + one.wait_s
            if one.wait_s >= self._last_s:
                del self._awaited[instance]

    def _still(self, one: _Awaited) -> bool:
        """Whether it is awaited as it was when the look began: what was asked anew meanwhile is
        answered by no older look."""
        return self._awaited.get(one.target.instance) is one

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
