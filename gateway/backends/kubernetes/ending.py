"""How pods are ended and removed: in as few calls as possible, with their logs kept first, and by
force where a node does not answer.

A pod that has ended by itself stays with Kubernetes as an object until it is deleted; that is done
here, some at a time, once its log is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence

from gateway.backends.contract import BackendUnavailable, Instance, Phase, Role
from gateway.backends.kubernetes import api, names
from gateway.backends.kubernetes.api import Api
from gateway.backends.kubernetes.cache import Pod
from gateway.backends.kubernetes.logs import KeptLogs
from gateway.backends.kubernetes.refusals import Kind, Refusal

logger = logging.getLogger(__name__)

AGAIN_S = 30.0  # before a deletion that was asked for is asked for again
GATHER_S = 1.0  # ends within so long are removed together
RETRY_S = 10.0  # before what could not be removed is tried again
LOG_S = 30.0  # that keeping the log of what has ended may take
FEW = 2  # pods that are deleted one by one: more are selected by their names


class Ending:
    """The ends of one gateway's pods."""

    def __init__(
        self,
        connection: Api,
        logs: KeptLogs,
        tag: str,
        *,
        grace_s: int,
        force_after_s: float,
        most_stopped: int,
        most_failed: int,
    ) -> None:
        self._api, self._logs, self._tag = connection, logs, tag
        self._grace_s, self._force_after_s = grace_s, force_after_s
        self._most_stopped, self._most_failed = most_stopped, most_failed
        self.asked: dict[Instance, float] = {}  # whose end was asked for, and when
        self._leaving: dict[Instance, float] = {}  # since when Kubernetes deletes it
        self._remains: dict[Instance, tuple[str, Pod]] = {}
        self._task: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Remove no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def vanished(self, instance: Instance) -> None:
        """Note that a pod is no more."""
        for kept in (self.asked, self._leaving, self._remains):
            kept.pop(instance, None)

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a cluster."""
        for kept in (self.asked, self._leaving, self._remains):
            for instance in [one for one in kept if one.uid == uid]:
                del kept[instance]

    async def stop(self, namespace: str, pods: Sequence[Pod]) -> None:
        """Ask pods to end; refusals.Refusal, BackendUnavailable."""
        now = asyncio.get_running_loop().time()
        due = [
            pod
            for pod in pods
            if not pod.deleting and self.asked.get(pod.instance, float("-inf")) + AGAIN_S <= now
        ]
        if not due:
            return
        await self._keep_logs(namespace, due)
        for pod in due:
            self.asked[pod.instance] = now
        try:
            await self._delete(namespace, due, self._grace_s)
        except BaseException:
            # or the next step had nothing to do, and the outage were over to it
            for pod in due:
                self.asked.pop(pod.instance, None)
            raise

    async def _keep_logs(self, namespace: str, pods: Sequence[Pod]) -> None:
        """Open the logs that are to be kept, before their pods are told to end."""
        room: dict[str, int] = {}
        chosen = []
        for pod in pods:
            if pod.standing.phase is not Phase.RUNNING:
                continue
            uid = pod.instance.uid
            if pod.instance.role is Role.WORKER:
                left = room.setdefault(uid, self._most_stopped - self._logs.count(uid))
                if left <= 0:
                    continue
                room[uid] = left - 1
            chosen.append(pod)
        within_s = self._grace_s + LOG_S
        await asyncio.gather(
            *(
                self._logs.keep(namespace, one.name, one.instance, follow=True, within_s=within_s)
                for one in chosen
            )
        )

    def ended(self, namespace: str, pod: Pod) -> None:
        """Note that a pod has ended by itself: its object is removed before long."""
        self._remains[pod.instance] = namespace, pod
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._remove_remains(), name="remove ended pods")

    async def _remove_remains(self) -> None:
        wait_s = GATHER_S
        while self._remains:
            await asyncio.sleep(wait_s)
            by_namespace: dict[str, list[Pod]] = {}
            for namespace, pod in list(self._remains.values()):
                by_namespace.setdefault(namespace, []).append(pod)
            wait_s = GATHER_S
            for namespace, pods in by_namespace.items():
                try:
                    await self.clear(namespace, pods)
                except (Refusal, BackendUnavailable) as error:
                    logger.warning("%d ended pods are not removed: %s", len(pods), error)
                    wait_s = RETRY_S

    async def _keep_ended(self, namespace: str, pods: Sequence[Pod]) -> None:
        kept: list[Pod] = []
        for pod in pods:
            most = self._most_stopped if pod.standing.exit_code == 0 else self._most_failed
            count = self._logs.count(pod.instance.uid)
            if pod.instance.role is Role.SCHEDULER or count + len(kept) < most:
                kept.append(pod)
        for pod in kept:
            await self._logs.keep(namespace, pod.name, pod.instance, follow=False, within_s=LOG_S)
        for pod in kept:
            await self._logs.settled(pod.instance.uid, pod.instance.name, LOG_S)

    async def clear(self, namespace: str, pods: Sequence[Pod]) -> None:
        """Delete pods at once, those that have ended with their logs kept first; refusals.Refusal,
        BackendUnavailable."""
        await self._keep_ended(namespace, [pod for pod in pods if pod.standing.phase is Phase.GONE])
        await self.remove(namespace, pods)

    async def remove(self, namespace: str, pods: Sequence[Pod]) -> None:
        """Delete pods at once; refusals.Refusal, BackendUnavailable."""
        await self._delete(namespace, pods, 0)
        for pod in pods:
            self._remains.pop(pod.instance, None)

    async def force(self, namespace: str, pods: Iterable[Pod]) -> None:
        """Delete by force what has been on its way out for too long: nobody is there to end it."""
        now = asyncio.get_running_loop().time()
        overdue = []
        for pod in pods:
            if pod.deleting:
                since = self._leaving.setdefault(pod.instance, now)
                if now - since > self._grace_s + self._force_after_s:
                    overdue.append(pod)
        if overdue:
            logger.warning(
                "%d pods did not end in time, such as %s on node %s; they are deleted by force",
                len(overdue),
                overdue[0].name,
                overdue[0].node or "none",
            )
            for pod in overdue:
                self._leaving[pod.instance] = now
            try:
                await self._delete(namespace, overdue, 0)
            except Refusal as error:
                logger.warning("they are not deleted: %s", error)

    async def _delete(self, namespace: str, pods: Sequence[Pod], grace_s: int) -> None:
        by_uid: dict[str, list[Pod]] = {}
        for pod in pods:
            by_uid.setdefault(pod.instance.uid, []).append(pod)
        for uid, those in by_uid.items():
            if len(those) <= FEW:
                for pod in those:
                    await self._delete_one(namespace, pod, grace_s)
                continue
            for start in range(0, len(those), names.SELECTED):
                told = [pod.instance.name for pod in those[start : start + names.SELECTED]]
                query = [("labelSelector", names.selector(self._tag, uid, told))]
                body = api.deletion(grace_s)
                await self._api.call("DELETE", api.pods(namespace), query, body, read=False)

    async def _delete_one(self, namespace: str, pod: Pod, grace_s: int) -> None:
        body = {**api.deletion(grace_s), "preconditions": {"uid": pod.uid}}
        try:
            await self._api.call("DELETE", api.pods(namespace, pod.name), body=body, read=False)
        except Refusal as error:
            # it is gone, or another one is there
            if error.kind not in (Kind.ABSENT, Kind.CONFLICT, Kind.DELETING):
                raise
