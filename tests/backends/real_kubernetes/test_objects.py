"""What a cluster has in a real Kubernetes beside its pods: it goes with the scheduler, gives pods
names where that is wished, and is in the user's own namespace where users have one."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Any

import pytest

from gateway.backends.conformance import OTHER_UID, UID
from gateway.backends.contract import Instance, Launch, Phase, Role, Target
from gateway.backends.kubernetes import names
from tests.backends.real_kubernetes.rooms import (
    ACCOUNT,
    KubernetesRoom,
    fresh_namespace,
    rights,
    room_of,
)
from tests.parts.kubernetes import Kubernetes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SERVICES = {"apiGroups": [""], "resources": ["services"], "verbs": ["create", "patch"]}


async def until(room: KubernetesRoom, *words: str, holds: Any) -> Any:
    """Wait until what kubectl gets is as it should be."""
    found: Any = None
    async with asyncio.timeout(room.patience_s):
        while not holds(found := (await asyncio.to_thread(room.kube.get, *words))["items"]):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    return found


async def test_pods_have_names_by_a_headless_service_and_all_goes_with_the_scheduler(
    kubernetes: Kubernetes, tmp_path: pathlib.Path
) -> None:
    """The gateway is not there when the scheduler's pod is deleted: owner references do it."""
    namespace, _ = await asyncio.to_thread(fresh_namespace, kubernetes)
    config = await asyncio.to_thread(kubernetes.account, namespace, ACCOUNT, [*rights(), SERVICES])
    room = await room_of(kubernetes, tmp_path, namespace, config, headless_service=True)
    where = ("-n", namespace)
    closed = False
    try:
        launches = [room.launch(name) for name in ("scheduler", "default-0", "default-1")]
        await room.running(*launches)
        name = names.cluster_name(room.backend._tag, UID)

        def known(slices: list[Any]) -> bool:
            points = [one for each in slices for one in each["endpoints"] or []]
            return {one.get("hostname") for one in points} == {
                launch.instance.name for launch in launches
            }

        selected = ("-l", f"kubernetes.io/service-name={name}")
        await until(room, "endpointslices", *where, *selected, holds=known)
        (service,) = await until(room, "services", *where, holds=len)
        assert service["spec"]["clusterIP"] == "None"
        for pod in await asyncio.to_thread(room.pods):
            assert pod["spec"]["subdomain"] == name
        kinds = ("pods,secrets,poddisruptionbudgets,services", *where)
        assert len((await asyncio.to_thread(kubernetes.get, *kinds))["items"]) == 6
        await room.backend.close()
        closed = True
        scheduler = names.pod_name(room.backend._tag, launches[0].instance)
        await asyncio.to_thread(kubernetes.kubectl, "delete", "pod", scheduler, *where)
        await until(room, *kinds, holds=lambda found: not found)
    finally:
        if not closed:
            await room.backend.close()


async def test_users_have_their_own_namespaces_where_the_gateway_has_its_rights(
    kubernetes: Kubernetes, tmp_path: pathlib.Path
) -> None:
    """One account, with the same Role in each of two namespaces and none in a third."""
    home, config = await asyncio.to_thread(fresh_namespace, kubernetes)
    for user in ("ann", "bob"):
        await asyncio.to_thread(kubernetes.namespace, f"of-{user}")
        grant = binding(home, f"of-{user}")
        await asyncio.to_thread(kubernetes.apply, *grant)
    room = await room_of(kubernetes, tmp_path, "of-{user}", config)
    targets = []
    try:
        for user, uid in (("ann", UID), ("bob", OTHER_UID)):
            launch = Launch(Instance(uid, Role.SCHEDULER, "scheduler"), user, ("true",))
            (outcome,) = (await room.backend.start([launch])).values()
            targets.append(Target(launch.instance, outcome.handle, user))  # type: ignore[union-attr]
            assert targets[-1].handle.startswith(f"of-{user}/")
        await room.until(targets, Phase.RUNNING)
        for user, uid in (("ann", UID), ("bob", OTHER_UID)):
            pods = (await asyncio.to_thread(kubernetes.get, "pods", "-n", f"of-{user}"))["items"]
            assert [one["metadata"]["labels"][names.UID_LABEL] for one in pods] == [uid]
        await room.backend.stop(targets)
        await room.until_gone(targets)
    finally:
        for uid in (UID, OTHER_UID):
            await room.backend.cleanup(uid)
        await room.leave()


def binding(home: str, namespace: str) -> list[dict[str, Any]]:
    """Return the Role, and its binding to the account of another namespace."""
    group = "rbac.authorization.k8s.io"
    where = {"namespace": namespace, "name": ACCOUNT}
    return [
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": where, "rules": rights()},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": where,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "namespace": home, "name": ACCOUNT}],
        },
    ]
