"""For how long pods have waited, why, and which have waited for too long.

Most of it a pod's own status says. What it does not say, such as that a volume cannot be mounted or
that a node is being brought, its events do: they are asked for of a few that have waited longest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from gateway.backends.contract import BackendUnavailable, Instance, Phase
from gateway.backends.kubernetes import api, states
from gateway.backends.kubernetes.api import Api
from gateway.backends.kubernetes.cache import Pod
from gateway.backends.kubernetes.parts import in_parts
from gateway.backends.kubernetes.refusals import Refusal
from gateway.backends.kubernetes.states import Standing, Wait

logger = logging.getLogger(__name__)

ASK_AFTER_S = 3.0  # that a pod has waited before its events are asked for
ASK_AGAIN_S = 8.0  # between two times that events of a namespace are asked for
ASKED = 8  # pods whose events are asked for at a time
MAX_EVENTS = 50  # of one pod

Told = list[tuple[str, str]]  # reason and message, the oldest first


class Waiting:
    """The pods that wait."""

    def __init__(self, connection: Api, *, start_s: float, scale_up_s: float) -> None:
        self._api, self._start_s, self._scale_up_s = connection, start_s, scale_up_s
        self._since: dict[Instance, float] = {}
        self._told: dict[Instance, Told] = {}
        self._asked_at: dict[str, float] = {}
        self._refused = False

    def over(self, instance: Instance) -> None:
        """Forget one that waits no longer."""
        self._since.pop(instance, None)
        self._told.pop(instance, None)

    def explained(self, pod: Pod) -> Standing:
        """Return where a pod stands, with what its events say."""
        if pod.standing.phase is not Phase.QUEUED:
            self.over(pod.instance)
            return pod.standing
        return states.explained(pod.standing, self._told.get(pod.instance, ()))

    async def judge(self, namespace: str, pods: Sequence[Pod]) -> list[tuple[Pod, str]]:
        """Return which have waited for too long, and why they did."""
        now = asyncio.get_running_loop().time()
        waiting = []
        async for some in in_parts(pods):
            for pod in some:
                if pod.standing.wait is Wait.NOTHING or pod.deleting:
                    self.over(pod.instance)
                else:
                    self._since.setdefault(pod.instance, now)
                    waiting.append(pod)
        await self._ask(namespace, waiting, now)
        overdue: list[tuple[Pod, str]] = []
        async for part in in_parts(waiting):
            # meanwhile the watch may have told that one of them waits no longer
            still = [pod for pod in part if pod.instance in self._since]
            overdue += [(pod, why) for pod in still if (why := self._overdue(pod, now))]
        return [(pod, why) for pod, why in overdue if pod.instance in self._since]

    def _overdue(self, pod: Pod, now: float) -> str:
        standing = self.explained(pod)
        if standing.wait is Wait.HOPELESS:
            return standing.message
        brought = standing.wait is Wait.NODE and states.brings_node(
            self._told.get(pod.instance, ())
        )
        most_s = self._scale_up_s if brought else self._start_s
        waited_s = now - self._since[pod.instance]
        if not most_s or waited_s < most_s:
            return ""
        return f"it has not started within {most_s:g} s: {standing.message}"

    async def _ask(self, namespace: str, pods: Sequence[Pod], now: float) -> None:
        due = [
            pod
            for pod in pods
            if pod.standing.wait in (Wait.NODE, Wait.START)
            and now - self._since[pod.instance] >= ASK_AFTER_S
        ]
        last = self._asked_at.get(namespace, float("-inf"))
        if not due or self._refused or now - last < ASK_AGAIN_S:
            return
        self._asked_at[namespace] = now
        due.sort(key=lambda pod: self._since[pod.instance])
        await asyncio.gather(*(self._ask_of(namespace, pod) for pod in due[:ASKED]))

    async def _ask_of(self, namespace: str, pod: Pod) -> None:
        query = [("fieldSelector", f"involvedObject.uid={pod.uid}"), ("limit", str(MAX_EVENTS))]
        try:
            answer = await self._api.call("GET", api.events(namespace), query)
        except Refusal as error:
            self._refused = True
            logger.warning("why pods wait is told by their status alone: %s", error)
            return
        except BackendUnavailable as error:
            logger.debug("events of %s: %s", pod.name, error)
            return
        if pod.instance in self._since:
            self._told[pod.instance] = _in_order(answer.get("items") or [])


def _in_order(events: Sequence[dict[str, Any]]) -> Told:
    def at(event: dict[str, Any]) -> str:
        metadata = event.get("metadata") or {}
        series = event.get("series") or {}
        told = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
        return str(next((one for one in (*told, metadata.get("creationTimestamp")) if one), ""))

    found: Told = []
    for event in sorted(events, key=at):
        reason = str(event.get("reason") or "")
        found = [one for one in found if one[0] != reason]  # the latest of each counts
        found.append((reason, str(event.get("message") or "")[: states.MAX_WORDS]))
    return found
