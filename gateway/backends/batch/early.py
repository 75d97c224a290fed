"""Looks at jobs soon after something was asked of them, not only at the interval: whether they run,
wait and why, or have ended.

The first look comes after `first_s`, the next after twice as long, until everything has come about
or the interval is reached, which sees the rest. What is asked for meanwhile joins the looks that
are due and begins no new ones: so a busy site is listed a few times more in an interval, however
many ask.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

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


class EarlyLooks:
    """What is awaited, and the task that looks."""

    def __init__(self, look: Look, push: Observe, *, first_s: float, last_s: float) -> None:
        self._look, self._push = look, push
        self._first_s, self._last_s = first_s, last_s
        self._awaited: dict[Instance, tuple[Target, Collection[Phase]]] = {}
        self._task: asyncio.Task[None] | None = None

    def expect(self, targets: Iterable[Target], phases: Collection[Phase]) -> None:
        """Look until every target is in one of the phases."""
        if self._first_s <= 0:
            return
        self._awaited |= {target.instance: (target, phases) for target in targets}
        if self._awaited and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        wait_s = self._first_s
        while self._awaited and wait_s < self._last_s:
            await asyncio.sleep(wait_s)
            wait_s *= 2
            awaited = dict(self._awaited)
            try:
                seen = await self._look([target for target, _ in awaited.values()])
            except BackendUnavailable as error:
                # the look at the interval says so aloud
                logger.debug("an early look failed: %s", error)
                continue
            except Exception:
                logger.exception("an early look failed")
                continue
            for instance, (target, phases) in awaited.items():
                if (
                    instance in seen
                    and seen[instance].phase in phases
                    and self._awaited.get(instance, (None,))[0] is target
                ):
                    del self._awaited[instance]
            self._push(list(seen.values()))
        self._awaited.clear()

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
