"""Rooms for the suite of backends on a real API server, by an account that has the rights of the
chart's Role and no others."""

from __future__ import annotations

import asyncio
import functools
import itertools
import pathlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import yaml

from gateway.backends.conformance import Room
from gateway.backends.contract import Backend
from gateway.backends.kubernetes.backend import KubernetesBackend
from tests.parts.kubernetes import TOLERATION, Kubernetes

RIGHTS = pathlib.Path(__file__).parents[3] / "deploy/helm/daskgateway/files/rights.yaml"
CANNOT = {
    "programs": "its nodes only pretend to run pods",
    "lose_files": "there are no files",
    "shown": "it runs no commands",
}
PATIENCE_S = 120.0
ACCOUNT = "gateway"
_numbers = itertools.count()


class KubernetesRoom(Room):
    """A backend under test, and where its pods are."""

    kube: Kubernetes
    backend: KubernetesBackend
    namespace: str

    def pods(self) -> list[dict[str, Any]]:
        """Return all pods that there are, as an administrator sees them."""
        return list(self.kube.get("pods", "-n", self.namespace)["items"])

    async def none_of(self, name: str) -> None:
        """Wait until a pod is no more."""
        words = ("get", "pods", "-n", self.namespace, "-o", "name")
        async with asyncio.timeout(self.patience_s):
            while f"pod/{name}" in await asyncio.to_thread(self.kube.kubectl, *words):  # noqa: ASYNC110
                await asyncio.sleep(0.2)

    async def patched(self, name: str, status: dict[str, Any]) -> None:
        """Give a pod a status, as its node would."""
        words = ("patch", "pod", name, "-n", self.namespace, "--subresource=status", "--type=merge")
        body = yaml.safe_dump({"status": status})
        await asyncio.to_thread(self.kube.kubectl, *words, "-p", body)


@functools.cache
def rights() -> list[dict[str, Any]]:
    """Return the rules of the chart's Role."""
    return list(yaml.safe_load(RIGHTS.read_text()))


def fresh_namespace(kube: Kubernetes) -> tuple[str, pathlib.Path]:
    """Make a namespace with the gateway's account in it; its name, and the account's kubeconfig."""
    namespace = kube.namespace(f"dask-{next(_numbers)}")
    return namespace, kube.account(namespace, ACCOUNT, rights())


async def room_of(
    kube: Kubernetes,
    root: pathlib.Path,
    namespace: str,
    kubeconfig: pathlib.Path | str,
    kind: type[KubernetesBackend] = KubernetesBackend,
    **settings: Any,
) -> KubernetesRoom:
    """Return a room that is open."""
    given: dict[str, Any] = {
        "root": str(root / "root"),
        "kubeconfig": str(kubeconfig),
        "namespace": namespace,
        "image": "dask:1",
        "tolerations": [TOLERATION],
        "observe_interval_s": 0.2,
        "call_timeout_s": 20.0,
        "stop_grace_s": 1,
        **settings,
    }

    async def again() -> Backend:
        return kind(**given)

    async def stranger() -> Backend:
        return kind(**{**given, "root": str(root / "another")})

    @asynccontextmanager
    async def outage() -> AsyncIterator[None]:
        await asyncio.to_thread(kube.end, "kube-apiserver", signal.SIGKILL)
        try:
            yield
        finally:
            await asyncio.to_thread(kube.start_apiserver)

    room = KubernetesRoom(
        kind(**given),
        again=again,
        stranger=stranger,
        outage=outage,
        refused={"priority_class": "nosuch"},
        runs_programs=False,
        cannot=CANNOT,
        patience_s=PATIENCE_S,
        look_s=0.1,
    )
    room.kube, room.namespace = kube, namespace
    await room.open()
    return room
