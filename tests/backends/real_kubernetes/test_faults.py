"""What goes wrong between the backend and a real API server: nothing is made twice, nothing that
runs is told to have ended, and what has ended is told."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import pathlib
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import psutil  # type: ignore[import-untyped]
import pytest
from kubernetes.aio.config import incluster_config

from gateway.backends.conformance import UID
from gateway.backends.contract import BackendUnavailable, Phase, StartFailed
from gateway.backends.kubernetes import api, names
from gateway.backends.kubernetes.refusals import Refusal
from tests.backends.real_kubernetes.relay import Lies, Relay
from tests.backends.real_kubernetes.rooms import (
    ACCOUNT,
    KubernetesRoom,
    fresh_namespace,
    room_of,
)
from tests.parts.kubernetes import Kubernetes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def place(kubernetes: Kubernetes) -> tuple[str, pathlib.Path]:
    """One namespace for the module."""
    return fresh_namespace(kubernetes)


@asynccontextmanager
async def relayed(
    kube: Kubernetes, root: pathlib.Path, place: tuple[str, pathlib.Path], **settings: object
) -> AsyncIterator[tuple[KubernetesRoom, Relay]]:
    """A room whose backend calls by way of a relay."""
    namespace, kubeconfig = place
    async with Relay(kube).open() as relay:
        config = relay.kubeconfig(kubeconfig, root / "kubeconfig")
        room = await room_of(kube, root, namespace, config, **settings)  # type: ignore[arg-type]
        try:
            yield room, relay
        finally:
            relay.lies, relay.watches, relay.busy = Lies(), True, 0
            relay.free.set()
            await room.close()


@contextmanager
def stopped(kube: Kubernetes, name: str) -> Iterator[None]:
    """While it lasts a program of Kubernetes stands still."""
    process = kube.processes[name]
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def pod_name(room: KubernetesRoom, name: str) -> str:
    """Return the name of the pod of an instance."""
    return names.pod_name(room.backend._tag, room.launch(name).instance)


async def deleted(room: KubernetesRoom, name: str) -> None:
    """Delete a pod behind the backend's back."""
    words = ("delete", "pod", pod_name(room, name), "-n", room.namespace, "--grace-period=0")
    await asyncio.to_thread(room.kube.kubectl, *words, "--force")


def exist(room: KubernetesRoom) -> set[str]:
    """Return the names of all pods of the room's backend that there are."""
    found = (one["metadata"]["name"] for one in room.pods())
    return {name for name in found if name.startswith(room.backend._tag)}


async def test_what_ends_while_the_watch_is_cut_is_told_and_nothing_else(
    kubernetes: Kubernetes, place: tuple[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    async with relayed(kubernetes, tmp_path, place) as (room, relay):
        launches = [room.launch(name) for name in ("scheduler", "default-0", "default-1")]
        targets = await room.running(*launches)
        relay.watches = False
        relay.cut()
        await deleted(room, "default-0")
        relay.watches = True
        seen = await room.until_gone(targets[1:2])
        assert "has deleted its pod" in seen[targets[1].instance].message
        await room.until([targets[0], targets[2]], Phase.RUNNING)
        assert relay.made() == 3
        assert await asyncio.to_thread(exist, room) == {
            pod_name(room, "scheduler"),
            pod_name(room, "default-1"),
        }


async def test_a_killed_api_server_that_begins_anew_is_followed_on(
    kubernetes: Kubernetes, place: tuple[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    """What is made and what ends afterwards is seen; what ran before still runs, once."""
    async with relayed(kubernetes, tmp_path, place) as (room, relay):
        targets = await room.running(room.launch("scheduler"), room.launch("default-0"))
        await asyncio.to_thread(kubernetes.end, "kube-apiserver", signal.SIGKILL)
        await asyncio.to_thread(kubernetes.start_apiserver)
        await room.running(room.launch("default-1"))
        await room.until(targets, Phase.RUNNING)
        await deleted(room, "default-0")
        await room.until_gone(targets[1:])
        await room.running(room.launch("default-2"))
        await room.until(targets[:1], Phase.RUNNING)
        assert relay.made() == 4


async def test_a_watch_from_a_version_that_is_forgotten_is_followed_by_a_list(
    kubernetes: Kubernetes, place: tuple[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    """410 Gone: the watch has ended as it does now and then, and before the next one is there etcd
    was compacted, and the API server begun anew."""
    async with relayed(kubernetes, tmp_path, place) as (room, relay):
        targets = await room.running(room.launch("scheduler"), room.launch("default-0"))
        relay.free.clear()
        relay.cut(cleanly=True)
        async with asyncio.timeout(room.patience_s):
            while not relay.held:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await deleted(room, "default-0")
        late = await room.start(room.launch("default-1"))
        await asyncio.to_thread(kubernetes.end, "kube-apiserver")
        version = await asyncio.to_thread(kubernetes.compact)
        assert int(relay.held[0]) < version
        await asyncio.to_thread(kubernetes.start_apiserver)
        assert room.pushed[targets[1].instance].phase is Phase.RUNNING
        relay.free.set()
        async with asyncio.timeout(room.patience_s):
            while not relay.expired:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        seen = await room.until_gone(targets[1:])
        assert "has deleted its pod" in seen[targets[1].instance].message
        await room.until([targets[0], *late], Phase.RUNNING)
        await room.running(room.launch("default-2"))
        assert relay.made() == 4
        assert await asyncio.to_thread(exist, room) == {
            pod_name(room, name) for name in ("scheduler", "default-1", "default-2")
        }


async def test_a_busy_api_server_is_asked_again_when_it_wishes(
    kubernetes: Kubernetes, place: tuple[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    async with relayed(kubernetes, tmp_path, place, call_timeout_s=30.0) as (room, relay):
        relay.busy, relay.retry_after_s = 2, 2
        await room.running(room.launch())
        asked = [at for at, method, path in relay.calls if (method, path[-5:]) == ("POST", "/pods")]
        assert len(asked) == 3
        assert all(later - sooner >= 2.0 for sooner, later in itertools.pairwise(asked))
        assert relay.made() == 1


async def test_a_quota_at_its_limit_is_told_in_the_words_of_kubernetes_and_may_pass(
    kubernetes: Kubernetes, tmp_path: pathlib.Path
) -> None:
    namespace, kubeconfig = await asyncio.to_thread(fresh_namespace, kubernetes)
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few", "namespace": namespace},
        "spec": {"hard": {"pods": "3"}},
    }
    await asyncio.to_thread(kubernetes.apply, quota)
    room = await room_of(kubernetes, tmp_path, namespace, kubeconfig)
    try:
        launches = [room.launch(f"default-{n}") for n in range(5)]
        outcomes = await room.backend.start(launches)
        refused = [one for one in outcomes.values() if isinstance(one, StartFailed)]
        assert len(outcomes) == 5
        assert len(refused) == 2
        for one in refused:
            assert "a quota of its namespace is reached" in one.message
            assert "exceeded quota: few, requested: pods=1, used: pods=3" in one.message
            assert not one.permanent
        quota["spec"] = {"hard": {"pods": "9"}}
        await asyncio.to_thread(kubernetes.apply, quota)
        async with asyncio.timeout(room.patience_s):
            while refused:
                outcomes = await room.backend.start(launches)
                refused = [one for one in outcomes.values() if isinstance(one, StartFailed)]
                await asyncio.sleep(0.2)
        assert len(await asyncio.to_thread(room.pods)) == 5
    finally:
        await room.close()


COUNT = 20
LIES = {
    "incomplete": Lies(lost=0.3),
    "late": Lies(late_s=0.05),
    "repeated": Lies(repeated=0.5, replayed=0.5),
    "all of it": Lies(lost=0.2, repeated=0.3, replayed=0.3, late_s=0.05),
}


@pytest.mark.parametrize("lies", LIES)
async def test_a_watch_that_lies_makes_no_second_set_of_pods(
    kubernetes: Kubernetes, place: tuple[str, pathlib.Path], tmp_path: pathlib.Path, lies: str
) -> None:
    """0 -> 20 -> 0, twice, as a reconciler would do it. What is told to be gone would be started
    anew under another name, so a lie would make more pods than were asked for."""
    async with relayed(kubernetes, tmp_path, place, relist_s=1.0) as (room, relay):
        relay.lies = LIES[lies]
        for turn in range(2):
            launches = [room.launch(f"default-{turn * COUNT + n}") for n in range(COUNT)]
            targets = await room.start(*launches)
            assert await room.start(*launches) == targets
            ours = {target.instance for target in targets}
            await room.until(targets, Phase.RUNNING)
            told = [one for one in room.pushed.values() if one.instance in ours]
            assert not [one for one in told if one.phase in (Phase.GONE, Phase.EXITED)]
            assert await asyncio.to_thread(exist, room) == {
                names.pod_name(room.backend._tag, instance) for instance in ours
            }
            await room.backend.stop(targets)
            await room.until_gone(targets)
        assert relay.made() == 2 * COUNT
        assert await asyncio.to_thread(exist, room) == set()


async def test_ten_to_none_ends_all_and_those_that_wait_end_before_the_others(
    kubernetes: Kubernetes, place: tuple[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    """Five run and five have no node. Whom to end is the reconciler's choice, by what it is told:
    which of them wait is told, and those and no others end."""
    async with relayed(kubernetes, tmp_path, place) as (room, relay):
        nowhere = {"node_selector": {"no": "such"}}
        launches = [
            room.launch(f"default-{n}", options=nowhere if n % 2 else {}) for n in range(10)
        ]
        targets = await room.start(room.launch("scheduler"), *launches)
        scheduler, run, wait = targets[0], targets[1::2], targets[2::2]
        await room.until([scheduler, *run], Phase.RUNNING)
        seen = await room.until(wait, Phase.QUEUED)
        assert {one.phase for one in seen.values()} == {Phase.QUEUED}
        await room.backend.stop(wait)
        await room.until_gone(wait)
        await room.until([scheduler, *run], Phase.RUNNING)
        await room.backend.stop(run)
        await room.until_gone(run)
        await room.until([scheduler], Phase.RUNNING)
        assert await room.found() == [(UID, "scheduler")]
        assert await asyncio.to_thread(exist, room) == {pod_name(room, "scheduler")}
        assert relay.made() == 11


async def test_closing_leaves_no_connection_open_though_the_api_server_hangs(
    kubernetes: Kubernetes, place: tuple[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    namespace, kubeconfig = place
    room = await room_of(kubernetes, tmp_path, namespace, kubeconfig)
    port = int(kubernetes.server.rpartition(":")[2])

    def connections() -> int:
        found = psutil.Process().net_connections("tcp")
        return sum(bool(one.raddr) and one.raddr.port == port for one in found)

    try:
        await room.running(room.launch())
        assert connections()
        with stopped(kubernetes, "kube-apiserver"):
            await room.backend.close()
            assert connections() == 0
        assert room.again is not None
        room.backend = await room.again()  # type: ignore[assignment]
        await room.open()
    finally:
        await room.close()


class ReadsAlways(incluster_config.InClusterConfigLoader):
    """Reads the token before each call, not once a minute."""

    def __init__(self, *words: object, **named: object) -> None:
        super().__init__(*words, **named)
        self._token_refresh_period = datetime.timedelta(0)


def token(kube: Kubernetes, namespace: str, holder: str) -> str:
    """Return a token of the gateway's account that is worth nothing once a Secret is no more."""
    meta = {"name": holder, "namespace": namespace}
    kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta})
    words = ("--bound-object-kind=Secret", f"--bound-object-name={holder}")
    return kube.kubectl("create", "token", ACCOUNT, "-n", namespace, *words).strip()


async def until_refused(kube: Kubernetes, namespace: str, worthless: str) -> None:
    """Wait until the API server knows a token no more: it remembers for ten seconds what it has
    let through."""
    config = kube.pki.token_kubeconfig(kube.server, "worthless", worthless, namespace)
    connection = await api.connected(str(config), "", timeout_s=60.0, concurrency=1)
    try:
        async with asyncio.timeout(120):
            while True:
                await connection.call("GET", api.pods(namespace))
                await asyncio.sleep(0.2)
    except Refusal as error:
        if error.status != 401:
            raise
    finally:
        await connection.close()


async def test_a_token_of_its_pod_that_is_renewed_is_read_again(
    kubernetes: Kubernetes, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a pod: by the token of its service account, which kubelet replaces before its end."""
    namespace, _ = await asyncio.to_thread(fresh_namespace, kubernetes)
    first = await asyncio.to_thread(token, kubernetes, namespace, "first")
    file = tmp_path / "token"
    file.write_text(first)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", kubernetes.server.rpartition(":")[2])
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(file))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(kubernetes.pki.ca))
    monkeypatch.setattr(incluster_config, "InClusterConfigLoader", ReadsAlways)
    room = await room_of(kubernetes, tmp_path, namespace, "")
    try:
        (one,) = await room.running(room.launch())
        file.write_text(await asyncio.to_thread(token, kubernetes, namespace, "second"))
        await asyncio.to_thread(kubernetes.kubectl, "delete", "secret", "first", "-n", namespace)
        await until_refused(kubernetes, namespace, first)
        (another,) = await room.running(room.launch("default-1"))
        renewed = file.read_text()
        file.write_text("")  # an outage is never an end
        with pytest.raises(BackendUnavailable, match="Token file exists but empty"):
            await room.backend.start([room.launch("default-2")])
        file.write_text(renewed)
        await room.running(room.launch("default-2"))
        await room.until([one, another], Phase.RUNNING)
    finally:
        file.write_text(file.read_text() or first)
        await room.close()
