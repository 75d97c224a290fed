"""For how long pods have waited, why, and which have waited for too long.

Most of it a pod's own status says. What it does not say, such as that a volume cannot be mounted or
that a node is being brought, its events do. They are asked for of a few at a time: one of those
that wait alike, in one group of a cluster, speaks for the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from gateway.backends.contract import BackendUnavailable, Instance, Phase
from gateway.backends.kubernetes import events, names, states
from gateway.backends.kubernetes.api import Api
from gateway.backends.kubernetes.cache import Pod
from gateway.backends.kubernetes.parts import in_parts
from gateway.backends.kubernetes.refusals import Refusal
from gateway.backends.kubernetes.states import Standing, Wait

logger = logging.getLogger(__name__)

ASK_AFTER_S = 3.0  # that a pod has waited before its events are asked for
ASK_AGAIN_S = 8.0  # between two times that events of a namespace are asked for
ASKED = 8  # pods whose events are asked for at a time
FORGET_S = 3600.0  # after which it does not count that events were asked for

Told = list[tuple[str, str]]  # reason and message, the oldest first
Alike = tuple[str, str, Wait, str]  # cluster, group, what is waited for, node


class Waiting:
    """The pods that wait."""

    def __init__(
        self,
        connection: Api,
        *,
        start_s: float,
        scale_up_s: float,
        lacks: Callable[[str], None] = lambda uid: None,
    ) -> None:
        self._api, self._start_s, self._scale_up_s = connection, start_s, scale_up_s
        self._lacks = lacks  # told of clusters of which something to mount is not there
        self._since: dict[Instance, float] = {}
        # whose events those are, and what they say
        self._told: dict[Alike, tuple[Instance, Told]] = {}
        self._asked: dict[Alike, float] = {}
        self._asked_at: dict[str, float] = {}
        self._refused = False

    def over(self, instance: Instance) -> None:
        """Forget one that waits no longer."""
        self._since.pop(instance, None)

    def explained(self, pod: Pod) -> Standing:
        """Return where a pod stands, with what its events say."""
        if pod.standing.phase is not Phase.QUEUED:
            self.over(pod.instance)
            return pod.standing
        return states.explained(pod.standing, self._events(pod))

    def _events(self, pod: Pod) -> Told:
        """Return what events say of a pod, or of one that waits as it does."""
        whose, told = self._told.get(_alike(pod), (pod.instance, []))
        return told if whose in self._since else []

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
        brought = standing.wait is Wait.NODE and states.brings_node(self._events(pod))
        most_s = self._scale_up_s if brought else self._start_s
        waited_s = now - self._since[pod.instance]
        if not most_s or waited_s < most_s:
            return ""
        return f"it has not started within {most_s:g} s: {standing.message}"

    async def _ask(self, namespace: str, pods: Sequence[Pod], now: float) -> None:
        last = self._asked_at.get(namespace, float("-inf"))
        if self._refused or now - last < ASK_AGAIN_S:
            return
        longest: dict[Alike, tuple[float, Pod]] = {}
        async for part in in_parts(pods):
            for pod in part:
                since = self._since.get(pod.instance, now)
                if pod.standing.wait is not Wait.HOPELESS and now - since >= ASK_AFTER_S:
                    key = _alike(pod)
                    if key not in longest or since < longest[key][0]:
                        longest[key] = since, pod
        if not longest:
            return
        self._asked_at[namespace] = now
        self._told = {key: one for key, one in self._told.items() if one[0] in self._since}
        self._asked = {key: at for key, at in self._asked.items() if now - at < FORGET_S}
        never = float("-inf")
        order = sorted(longest, key=lambda key: (self._asked.get(key, never), longest[key][0]))
        self._asked |= dict.fromkeys(order[:ASKED], now)
        await asyncio.gather(
            *(self._ask_of(namespace, key, longest[key][1]) for key in order[:ASKED])
        )

    async def _ask_of(self, namespace: str, key: Alike, pod: Pod) -> None:
        try:
            told = events.latest(await events.of_pod(self._api, namespace, pod.uid))
        except Refusal as error:
            self._refused = True
            logger.warning("why pods wait is told by their status alone: %s", error)
            return
        except BackendUnavailable as error:
            logger.debug("events of %s: %s", pod.name, error)
            return
        if pod.instance in self._since:
            self._told[key] = pod.instance, told
            if any(reason == "FailedMount" and "not found" in said for reason, said in told):
                self._lacks(pod.instance.uid)


def _alike(pod: Pod) -> Alike:
    """Return what pods have in common that wait for the same."""
    wait, instance = pod.standing.wait, pod.instance
    node = "" if wait is Wait.NODE else pod.node
    return instance.uid, names.group_of(instance), wait, node
