"""Ends of pods whose postStart hook may be why. Their status tells of a signal alone, or of a good
end; that the hook failed is told by an Event. So that is asked for before the end is told: of a few
pods at a time, and for a moment only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gateway.backends.contract import BackendUnavailable, Instance
from gateway.backends.kubernetes import events, states
from gateway.backends.kubernetes.api import Api
from gateway.backends.kubernetes.cache import Pod
from gateway.backends.kubernetes.refusals import Refusal
from gateway.backends.kubernetes.states import Standing

logger = logging.getLogger(__name__)

AT_ONCE = 8  # pods; what is said of these is said of those that end with them
ASK_S = 10.0  # after which the end is told as the status has it
AGAIN_S = 1.0  # before Events are asked for once more: they may come later than the status


class Hooks:
    """The ends that are not told yet."""

    def __init__(self, connection: Api, told: Callable[[str, Pod, Standing], None]) -> None:
        self._api, self._told = connection, told
        self.asking: dict[Instance, Pod] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Ask no more; what is not told yet is seen again by who opens next."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def ask(self, namespace: str, pod: Pod, end: Standing) -> bool:
        """Whether an end is told later, once its Events have been asked for."""
        if pod.instance in self.asking:
            return True
        if not pod.hooked or pod.deleting or len(self.asking) >= AT_ONCE:
            return False
        self.asking[pod.instance] = pod
        task = asyncio.create_task(self._ask(namespace, pod, end), name=f"why {pod.name} ended")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _ask(self, namespace: str, pod: Pod, end: Standing) -> None:
        try:
            async with asyncio.timeout(ASK_S):
                for wait_s in (0.0, AGAIN_S):
                    await asyncio.sleep(wait_s)
                    told = await events.of_pod(self._api, namespace, pod.uid)
                    found = dict(events.latest(told))
                    if states.HOOK_FAILED in found:
                        end = states.by_hook(end, found[states.HOOK_FAILED])
                        break
        except (Refusal, BackendUnavailable, TimeoutError) as error:
            logger.debug("why %s ended is told by its status alone: %s", pod.name, error)
        finally:
            del self.asking[pod.instance]
        self._told(namespace, pod, end)
