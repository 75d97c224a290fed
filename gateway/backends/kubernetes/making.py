"""How pods are made: the cluster's Secret, then the pods, then what goes with a scheduler's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.backends.contract import (
    SCHEDULER_NAME,
    BackendUnavailable,
    Instance,
    Launch,
    Role,
    Started,
    StartFailed,
    StartOutcome,
)
from gateway.backends.kubernetes import api, manifests, names
from gateway.backends.kubernetes.api import Api
from gateway.backends.kubernetes.cache import Pod
from gateway.backends.kubernetes.informer import Informer
from gateway.backends.kubernetes.manifests import Place
from gateway.backends.kubernetes.refusals import Kind, Refusal, words

logger = logging.getLogger(__name__)

# a field that there is not, such as one mistyped in `pod_fields`, is refused, not passed over
STRICTLY = (("fieldValidation", "Strict"),)


def handle(namespace: str, pod: Pod) -> str:
    """Return the handle of a pod."""
    return f"{namespace}/{pod.uid}"


class Making:
    """Makes the objects of one gateway's clusters."""

    def __init__(
        self,
        connection: Api,
        tag: str,
        place_of: Callable[[str, Instance, str], Place],
        settings_of: Callable[[Launch], Mapping[str, Any]],
        *,
        budget: bool,
        concurrency: int,
    ) -> None:
        self._api, self._tag, self._budget = connection, tag, budget
        self._place_of, self._settings_of = place_of, settings_of
        self._concurrency = concurrency
        # by uid and section: what the Secret holds
        self._applied: dict[tuple[str, str], bytes] = {}
        self._warned: set[str] = set()

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a cluster."""
        for key in [key for key in self._applied if key[0] == uid]:
            del self._applied[key]

    async def create_all(
        self, absent: Sequence[tuple[Informer, Launch]]
    ) -> dict[Instance, StartOutcome]:
        """Create pods, some at a time; an outcome for each. BackendUnavailable."""
        held: dict[tuple[str, str], Launch] = {}
        for informer, launch in absent:
            key = launch.instance.uid, manifests.section(launch.instance)
            alike = held.get(key)
            if alike is None or (alike.files, alike.env) != (launch.files, launch.env):
                await self._apply_secret(informer, launch)
            held[key] = launch
        outcomes: dict[Instance, StartOutcome] = {}
        for role in (Role.SCHEDULER, Role.WORKER):  # a worker's owner is its scheduler's pod
            those = [one for one in absent if one[1].instance.role is role]
            outcomes |= await self._some_at_a_time(those)
        return outcomes

    async def _some_at_a_time(
        self, absent: Sequence[tuple[Informer, Launch]]
    ) -> dict[Instance, StartOutcome]:
        """Create pods. None is made ready, nor is its call's deadline counted, before its turn: a
        thousand at once would hold up the event loop, and the last ones would be too late for a
        slow API. Ends with what fails first: what was made is adopted when this is repeated."""
        outcomes: dict[Instance, StartOutcome] = {}
        failed: list[Exception] = []
        left = iter(absent)

        async def work() -> None:
            for informer, launch in left:
                if failed:
                    return
                try:
                    outcomes[launch.instance] = await self._create(informer, launch)
                except Exception as error:
                    failed.append(error)

        await asyncio.gather(*(work() for _ in range(min(self._concurrency, len(absent)))))
        if failed:
            raise failed[0]
        return outcomes

    async def _create(self, informer: Informer, launch: Launch) -> StartOutcome:
        instance, namespace = launch.instance, informer.namespace
        place = self._place_of(self._tag, instance, namespace)
        try:
            settings = self._settings_of(launch)
        except ValueError as error:
            return StartFailed(str(error), permanent=True)
        body = manifests.pod(place, launch, settings, self._owners(informer, instance))
        try:
            answer = await self._api.call("POST", api.pods(namespace), STRICTLY, body)
        except Refusal as error:
            return await self._refused(informer, instance, error)
        pod = informer.cache.created(answer)
        if pod is None:
            return StartFailed("Kubernetes has changed the labels of its pod", permanent=True)
        if instance.role is Role.SCHEDULER:
            await self._bind(namespace, pod)
        return Started(handle(namespace, pod))

    def _owners(self, informer: Informer, instance: Instance) -> list[manifests.Body]:
        if instance.role is Role.SCHEDULER:
            return []
        scheduler = Instance(instance.uid, Role.SCHEDULER, SCHEDULER_NAME)
        pod = informer.cache.pods.get(scheduler)
        return [manifests.owner(pod.name, pod.uid)] if pod is not None else []

    async def _refused(
        self, informer: Informer, instance: Instance, error: Refusal
    ) -> StartOutcome:
        what = f"the pod of {instance.name}"
        if error.kind is Kind.EXISTS:
            pod = (await informer.fresh()).pods.get(instance)
            if pod is not None:
                return Started(handle(informer.namespace, pod))
            name = names.pod_name(self._tag, instance)
            return StartFailed(
                f"{what}: there is a pod {name} that is not this gateway's", permanent=True
            )
        if error.kind in (Kind.RIGHTS, Kind.FAILED, Kind.BUSY):
            raise BackendUnavailable(words(error, what))
        missing = error.kind is Kind.ABSENT  # the namespace: it may come
        return StartFailed(words(error, what), permanent=error.kind is Kind.WRONG and not missing)

    async def _apply_secret(self, informer: Informer, launch: Launch) -> None:
        """Have the cluster's Secret hold what a launch needs."""
        uid, part = launch.instance.uid, manifests.section(launch.instance)
        digest = await asyncio.to_thread(manifests.digest, launch)
        if self._applied.get((uid, part)) == digest:
            return
        place = self._place_of(self._tag, launch.instance, informer.namespace)
        owners = self._owners(informer, launch.instance)
        body = manifests.secret(place, uid, launch, owners)
        try:
            await self._apply(
                api.secrets(informer.namespace, names.cluster_name(self._tag, uid)), part, body
            )
        except Refusal as error:
            raise BackendUnavailable(words(error, "the Secret of the cluster")) from None
        self._applied[uid, part] = digest

    async def _apply(self, path: str, part: str, body: manifests.Body) -> None:
        query = [("fieldManager", f"daskgateway-{part}"), ("force", "true")]
        await self._api.call("PATCH", path, query, body, kind=api.APPLY, read=False)

    async def _bind(self, namespace: str, pod: Pod) -> None:
        """Have the cluster's Secret go with the scheduler's pod, and keep that from being
        drained."""
        uid, name = pod.instance.uid, names.cluster_name(self._tag, pod.instance.uid)
        place = self._place_of(self._tag, pod.instance, namespace)
        owners = [manifests.owner(pod.name, pod.uid)]
        await self._tried(
            "the owner of the Secret",
            api.secrets(namespace, name),
            "owner",
            manifests.secret(place, uid, None, owners),
        )
        if self._budget:
            await self._tried(
                "the disruption budget of the scheduler",
                api.budgets(namespace, name),
                "budget",
                manifests.budget(place, uid, owners),
            )
        if place.named:
            await self._tried(
                "the headless Service of the cluster",
                api.services(namespace, name),
                "service",
                manifests.service(place, uid, owners),
            )

    async def _tried(self, what: str, path: str, part: str, body: manifests.Body) -> None:
        """Do what a cluster can do without; say once that it cannot be done."""
        try:
            await self._apply(path, part, body)
        except (Refusal, BackendUnavailable) as error:
            told = words(error, what) if isinstance(error, Refusal) else f"{what}: {error}"
            if what not in self._warned:
                self._warned.add(what)
                logger.warning("%s (said once)", told)
