"""The backend of Kubernetes: contract.Backend over pods, in one namespace or one for each user.

What is known is what the informers' caches hold. Every name derives from the cluster's uid, so a
start is "create, or adopt what is there".
"""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack

from gateway.backends.batch import kept
from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Launch,
    Observation,
    Observe,
    Phase,
    Started,
    StartOutcome,
    Target,
)
from gateway.backends.kubernetes import api, events, names, states
from gateway.backends.kubernetes.cache import Change, Pod
from gateway.backends.kubernetes.ending import Ending
from gateway.backends.kubernetes.hooks import Hooks
from gateway.backends.kubernetes.informer import Informer
from gateway.backends.kubernetes.logs import KeptLogs, live
from gateway.backends.kubernetes.making import Making, handle
from gateway.backends.kubernetes.parts import in_parts
from gateway.backends.kubernetes.refusals import Kind, Refusal, words
from gateway.backends.kubernetes.settings import KubernetesSettings
from gateway.backends.kubernetes.waiting import Waiting
from gateway.backends.one_at_a_time import Turns
from gateway.files import write_kept

logger = logging.getLogger(__name__)

MAX_ENDED = 100_000  # ends that are remembered, the oldest forgotten first
SOUGHT = "Kubernetes has no pod of it"


def _sought(target: Target) -> Observation:
    return Observation(target.instance, Phase.GONE, target.handle, message=SOUGHT)


class KubernetesBackend(KubernetesSettings):
    """Pods of Kubernetes."""

    name = "kubernetes"
    informer = Informer  # what follows a namespace

    # Life

    async def open(self, push: Observe) -> None:
        """Connect, and begin to follow the namespaces there are."""
        if wrong := self.problems():
            raise BackendUnavailable("\n".join(wrong))
        await super().open(push)
        self._root = pathlib.Path(os.path.expanduser(self.root)).absolute()  # noqa: ASYNC240 (once, at start)
        self._informers: dict[str, Informer] = {}
        self._ended: dict[Instance, Observation] = {}
        self._homes: dict[str, str] = {}  # by uid: the namespace
        # what is being found out for somebody: news that come meanwhile go in
        self._looks: list[dict[Instance, Observation]] = []
        self._turns = Turns()
        self._tag, known = await asyncio.to_thread(self._make_root)
        self._api = await api.connected(
            self.kubeconfig,
            self.kubeconfig_context,
            timeout_s=self.call_timeout_s,
            concurrency=self.concurrency,
        )
        self._template = self.namespace or self._api.own_namespace
        self._logs = KeptLogs(
            self._api,
            self._root / "logs",
            each_bytes=self.max_log_bytes,
            all_bytes=self.max_kept_log_bytes,
        )
        self._making = Making(
            self._api,
            self._tag,
            self.place_of,
            self.settings_of,
            budget=self.scheduler_disruption_budget,
            concurrency=self.concurrency,
        )
        self._waiting = Waiting(
            self._api,
            start_s=self.start_timeout_s,
            scale_up_s=self.scale_up_timeout_s,
            lacks=self._making.forget,  # somebody may have deleted the Secret of the cluster
        )
        self._hooks = Hooks(self._api, self._explained)
        self._ending = Ending(
            self._api,
            self._logs,
            self._tag,
            grace_s=self.stop_grace_s,
            force_after_s=self.force_after_s,
            most_stopped=self.kept_worker_logs,
            most_failed=self.kept_failed_logs,
        )
        for namespace in known if "{user}" in self._template else [self._template]:
            self._follow(namespace)

    def _make_root(self) -> tuple[str, list[str]]:
        section = f"c.{type(self).__name__}.root"
        try:
            for path in (self._root, self._root / "namespaces", self._root / "logs"):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            known = [
                name for name in os.listdir(self._root / "namespaces") if names.is_namespace(name)
            ]
            return self.tag or kept.kept_tag(self._root / "tag"), known
        except OSError as error:
            raise BackendUnavailable(f"{section}: {error.filename}: {error.strerror}") from None
        except ValueError as error:
            raise BackendUnavailable(f"{section}: {error}") from None

    async def close(self) -> None:
        """Let go of everything but the pods."""
        for informer in self._informers.values():
            await informer.close()
        await self._hooks.close()
        await self._ending.close()
        await self._logs.close()
        await self._api.close()

    def place(self) -> Mapping[str, str]:
        """Return what pods are found by; known once it is open."""
        section = f"c.{type(self).__name__}"
        return {f"{section}.tag": self._tag, f"{section}.namespace": self._template}

    # What is seen

    def _follow(self, namespace: str) -> Informer:
        if namespace not in self._informers:
            self._informers[namespace] = self.informer(
                self._api,
                namespace,
                self._tag,
                lambda changes: self._changed(namespace, changes),
                lambda: self._ending.asked,
                relist_s=self.relist_s,
            )
        return self._informers[namespace]

    def _changed(self, namespace: str, changes: Sequence[Change]) -> None:
        """Pass on what pods have become."""
        told = []
        for change in changes:
            pod = change.pod
            self._homes[pod.instance.uid] = namespace
            standing = change.gone or pod.standing
            if standing.phase is not Phase.GONE:
                told.append(self._seen(namespace, pod))
                continue
            if pod.deleting and pod.instance not in self._ending.asked:
                standing = states.deleted(standing)
            if change.gone is None:
                self._ending.ended(namespace, pod)
            else:
                self._ending.vanished(pod.instance)
            if pod.instance not in self._ended and (
                pod.instance in self._ending.asked or not self._hooks.ask(namespace, pod, standing)
            ):
                told.append(self._over(namespace, pod, standing))
        if told:
            for one in told:
                self._note(one)
            self.push(told)

    def _over(self, namespace: str, pod: Pod, standing: states.Standing) -> Observation:
        end = Observation(
            pod.instance,
            Phase.GONE,
            handle(namespace, pod),
            standing.exit_code,
            standing.message,
            pod.user,
        )
        self._end(end)
        return end

    def _explained(self, namespace: str, pod: Pod, standing: states.Standing) -> None:
        """Tell of an end that was asked about."""
        if pod.instance not in self._ended:
            self.push([self._over(namespace, pod, standing)])

    def _note(self, seen: Observation) -> None:
        for look in self._looks:
            if seen.instance in look:
                look[seen.instance] = seen

    def _end(self, end: Observation) -> None:
        self._waiting.over(end.instance)
        self._ended[end.instance] = end
        self._note(end)
        while len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]

    def _seen(self, namespace: str, pod: Pod) -> Observation:
        standing = self._waiting.explained(pod)
        return Observation(
            pod.instance,
            standing.phase,
            handle(namespace, pod),
            standing.exit_code,
            standing.message,
            pod.user,
        )

    def _namespace_of(self, target: Target) -> str:
        """Return the namespace of a target: as its handle says, or its user; or where it is."""
        said, slash, _ = target.handle.partition("/")
        if slash and names.is_namespace(said):
            return said
        if "{user}" not in self._template or target.user:
            return names.namespace(self._template, target.user)
        for namespace, informer in self._informers.items():
            if target.instance in informer.cache.pods:
                return namespace
        return ""

    async def observations(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        """Say where each target stands. One list for all that are absent: a cache may lag."""
        found: dict[Instance, Observation] = {}
        self._looks.append(found)
        try:
            for namespace, those in (await self._by_namespace(targets)).items():
                await self._look(self._follow(namespace), those, found)
        finally:
            self._looks = [look for look in self._looks if look is not found]
        for target in targets:
            if target.instance not in found:
                found[target.instance] = self._ended.get(target.instance) or _sought(target)
        return found

    async def _look(
        self, informer: Informer, targets: Sequence[Target], found: dict[Instance, Observation]
    ) -> None:
        await informer.known()
        await self._judge_waiting(informer, targets)
        absent: list[Target] = []
        async for part in in_parts(targets):
            for target in part:
                known = self._known(informer, target)
                if known is None:
                    absent.append(target)
                else:
                    found[target.instance] = known
        if absent:
            await informer.fresh()
        async for part in in_parts(absent):
            for target in part:
                # one that vanished just now: the next list will tell
                doubted = informer.cache.doubtful.get(target.instance)
                found[target.instance] = (
                    self._known(informer, target)
                    or (doubted and self._seen(informer.namespace, doubted))
                    or _sought(target)
                )

    def _known(self, informer: Informer, target: Target) -> Observation | None:
        pod = informer.cache.pods.get(target.instance)
        if target.instance in self._ended:
            return self._ended[target.instance]
        if (ends := self._hooks.asking.get(target.instance)) is not None:
            where = handle(informer.namespace, ends)
            return Observation(target.instance, Phase.RUNNING, where, user=ends.user)
        return None if pod is None else self._seen(informer.namespace, pod)

    async def _by_namespace(self, targets: Sequence[Target]) -> dict[str, list[Target]]:
        found: dict[str, list[Target]] = {}
        async for part in in_parts(targets):
            for target in part:
                if namespace := self._namespace_of(target):
                    found.setdefault(namespace, []).append(target)
        return found

    async def _judge_waiting(self, informer: Informer, targets: Sequence[Target]) -> None:
        """Ask why pods wait, and give up on those that have for too long."""
        pods = [
            pod
            for target in targets
            if (pod := informer.cache.pods.get(target.instance)) is not None
            and target.instance not in self._ended
        ]
        overdue = await self._waiting.judge(informer.namespace, pods)
        for pod, why in overdue:
            if informer.cache.pods.get(pod.instance) is not pod:
                continue  # news of it have come meanwhile
            end = Observation(
                pod.instance, Phase.GONE, handle(informer.namespace, pod), None, why, pod.user
            )
            try:
                await self._ending.remove(informer.namespace, [pod])
            except Refusal as error:
                raise BackendUnavailable(words(error, "deleting a pod")) from None
            self._end(end)
        await self._ending.force(informer.namespace, informer.cache.pods.values())

    async def find(self) -> Sequence[Observation]:
        """Return every pod of this gateway that has not ended."""
        found = []
        for namespace, informer in list(self._informers.items()):
            async for part in in_parts(list((await informer.known()).pods.values())):
                for pod in part:
                    if pod.standing.phase is not Phase.GONE and pod.instance not in self._ended:
                        found.append(self._seen(namespace, pod))
        return found

    # Start

    async def start(self, launches: Sequence[Launch]) -> Mapping[Instance, StartOutcome]:
        """Adopt what exists, create the rest. One call at a time for a cluster."""
        async with AsyncExitStack() as turns:
            for uid in sorted({launch.instance.uid for launch in launches}):
                await turns.enter_async_context(self._turns.of(uid))
            outcomes: dict[Instance, StartOutcome] = {}
            absent: list[tuple[Informer, Launch]] = []
            for launch in {launch.instance: launch for launch in launches}.values():
                informer = await self._informer_of(launch.user)
                pod = (await informer.known()).pods.get(launch.instance)
                if pod is not None:
                    outcomes[launch.instance] = Started(handle(informer.namespace, pod))
                else:
                    self._homes[launch.instance.uid] = informer.namespace
                    absent.append((informer, launch))
            return outcomes | await self._making.create_all(absent)

    async def _informer_of(self, user: str) -> Informer:
        namespace = names.namespace(self._template, user)
        if namespace not in self._informers and "{user}" in self._template:
            # so that what runs there is found after a restart
            path = self._root / "namespaces" / namespace
            await asyncio.to_thread(write_kept, path, user.encode())
        return self._follow(namespace)

    # Stop

    async def stop(self, targets: Sequence[Target]) -> None:
        """Delete pods, in as few calls as possible; what has ended is told."""
        over: list[Observation] = []
        for namespace, those in (await self._by_namespace(targets)).items():
            informer = self._follow(namespace)
            pods = (await informer.known()).pods
            unknown = [
                one for one in those if one.instance not in pods and one.instance not in self._ended
            ]
            if unknown:
                pods = (await informer.fresh()).pods
            due: list[Pod] = []
            for target in those:
                pod = pods.get(target.instance)
                if (
                    pod is None
                    or pod.standing.phase is Phase.GONE
                    or target.instance in self._ended
                ):
                    over.append(
                        self._ended.get(target.instance)
                        or Observation(target.instance, Phase.GONE, target.handle)
                    )
                else:
                    due.append(pod)
            try:
                await self._ending.stop(namespace, due)
            except Refusal as error:
                raise BackendUnavailable(words(error, "deleting pods")) from None
        if over:
            self.push(over)

    async def cleanup(self, uid: str) -> None:
        """Remove a cluster's Secret, and what is left of its pods."""
        await self._logs.settled(uid)
        home = self._homes.pop(uid, "")
        for namespace in [home] if home else list(self._informers):
            pods = (await self._follow(namespace).known()).pods
            left = [pod for one, pod in pods.items() if one.uid == uid]
            try:
                if left:
                    await self._ending.clear(namespace, left)
                path = api.secrets(namespace, names.cluster_name(self._tag, uid))
                await self._api.call("DELETE", path, body=api.deletion(0))
            except Refusal as error:
                if error.kind is not Kind.ABSENT:
                    raise BackendUnavailable(words(error, "cleaning up")) from None
        self._making.forget(uid)
        self._ending.forget(uid)

    async def purge(self, uid: str) -> None:
        """Remove the logs, and what is remembered of how it ended."""
        for instance in [one for one in self._ended if one.uid == uid]:
            del self._ended[instance]
        await self._logs.purge(uid)

    # Logs

    async def logs(
        self, target: Target, *, tail_lines: int = 0, follow: bool = False
    ) -> AsyncIterator[str]:
        """Yield an instance's log: from its pod, or what was kept of it. Of one that waits, which
        has none yet, what Kubernetes' Events say of it."""
        instance = target.instance
        namespace = self._namespace_of(target)
        informer = self._informers.get(namespace)
        if informer is not None and instance in informer.cache.pods:
            pods, told = informer.cache.pods, False

            def stands(*phases: Phase) -> bool:
                pod = pods.get(instance)
                return pod is not None and pod.standing.phase in phases

            async for line in events.while_waiting(
                self._api,
                namespace,
                lambda: pods[instance].uid if stands(Phase.QUEUED) else "",
                tail_lines=tail_lines,
                follow=follow,
            ):
                told = True
                yield line
            name = names.pod_name(self._tag, instance)
            async for piece in live(
                self._api,
                namespace,
                name,
                tail_lines=tail_lines,
                follow=follow,
                waits=lambda: stands(Phase.QUEUED),
                runs=lambda: stands(Phase.RUNNING),
            ):
                told = True
                yield piece
            if told:
                return
        await self._logs.settled(instance.uid, instance.name)
        async for piece in self._logs.read(instance, tail_lines):
            yield piece
