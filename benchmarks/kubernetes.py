"""What pods cost the API server of Kubernetes, and how soon they run: `make bench-kubernetes`.

Real are API server, controllers and scheduler; the nodes only pretend to run pods (kwok). All of
them have a lower priority (nice 10) than the gateway, as they would be on other machines. What is
measured is the backend alone, looked at as often as the server would, by an account with the
chart's rights: no scheduler of Dask runs here, so neither does the rest of the server. Requests are
those that the API server itself has noted of that account.

kubectl is given the very same pods, as one file. Both wait until all of them run.

`python -m benchmarks.kubernetes CLUSTERS ROUNDS` takes fewer clusters than 100, and fewer rounds of
the one cluster with 1,000 workers than 3.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import pathlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvloop
import yaml

from benchmarks import kubernetes_start, machine
from benchmarks.figures import Samples, last_line, orders, table
from benchmarks.probe import begin, settled
from gateway.backends.contract import (
    Instance,
    Launch,
    Observation,
    Phase,
    Resources,
    Role,
    Started,
    Target,
)
from gateway.backends.kubernetes import manifests, names
from gateway.backends.kubernetes.backend import KubernetesBackend
from gateway.server.boot import garbage
from tests.parts.kubernetes import TOLERATION, Kubernetes, running

CLUSTERS, WORKERS, ONE = 100, 100, 1000
AT_A_TIME = 10  # clusters that are started or stopped at the same time
ROUNDS = 3  # of the one cluster with 1,000 workers
LOOK_S = 10.0  # as the server looks
LIMIT_S = 1800.0
NAMESPACE, ACCOUNT, TAG = "dask", "gateway", "bench"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
RIGHTS = pathlib.Path(__file__).parents[1] / "deploy/helm/daskgateway/files/rights.yaml"
SHARE = Resources(0.1, 64 * 2**20)
SCALE, REQUESTS = f"0->{ONE} workers run, s", "requests per pod"


def launches(uid: str, workers: int) -> list[Launch]:
    """Return the launches of a cluster, its scheduler's first."""
    told = {
        "resources": SHARE,
        "files": {"key.pem": b"k" * 300, "cert.pem": b"c" * 900},
        "env": {"DASK_GATEWAY_TOKEN": "t" * 40},
    }
    instances = [Instance(uid, Role.SCHEDULER, "scheduler")]
    instances += [Instance(uid, Role.WORKER, f"default-{n}") for n in range(workers)]
    return [Launch(one, "alice", ("dask", "worker"), **told) for one in instances]  # type: ignore[arg-type]


def uid_of(number: int) -> str:
    """Return a cluster's uid."""
    letters = "".join(chr(ord("a") + int(digit)) for digit in f"{number:020}")
    return f"c{letters}"


@dataclass
class Ours:
    """The backend, what it tells, and who waits for that."""

    backend: KubernetesBackend
    phases: dict[Instance, Phase] = field(default_factory=dict)
    targets: dict[Instance, Target] = field(default_factory=dict)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def push(self, observations: Sequence[Observation]) -> None:
        """Take what is told."""
        self.phases |= {one.instance: one.phase for one in observations}
        self.told.set()

    async def until(self, instances: Sequence[Instance], phase: Phase) -> None:
        """Wait until all stand there."""
        async with asyncio.timeout(LIMIT_S):
            while not all(self.phases.get(one) is phase for one in instances):
                self.told.clear()
                await self.told.wait()

    async def start(self, what: Sequence[Launch]) -> list[Instance]:
        """Start what must start; who was started."""
        outcomes = await self.backend.start(what)
        for instance, outcome in outcomes.items():
            assert isinstance(outcome, Started), outcome
            self.targets[instance] = Target(instance, outcome.handle, "alice")
        return list(outcomes)

    async def cluster(self, uid: str, workers: int) -> list[Instance]:
        """Start a cluster as the server does: the workers once its scheduler runs."""
        scheduler, *others = launches(uid, workers)
        first = await self.start([scheduler])
        await self.until(first, Phase.RUNNING)
        found = first + await self.start(others)
        await self.until(found, Phase.RUNNING)
        return found

    async def end(self, uid: str, instances: Sequence[Instance]) -> None:
        """End a cluster, and forget it."""
        await self.backend.stop([self.targets[one] for one in instances])
        await self.until(instances, Phase.GONE)
        await self.backend.cleanup(uid)
        await self.backend.purge(uid)
        for one in instances:
            del self.targets[one], self.phases[one]

    async def look(self) -> None:
        """Look again and again, as the server does."""
        while True:
            await asyncio.sleep(LOOK_S)
            told = list((await self.backend.observations(list(self.targets.values()))).values())
            for start in range(0, len(told), 500):  # the server passes on what is not as it was
                self.push(told[start : start + 500])
                await asyncio.sleep(0)


def requests(kube: Kubernetes) -> Counter[str]:
    """Return what the API server has noted of the account: how often each verb of a resource."""
    seen: dict[str, str] = {}
    for line in kube.audit_log.read_text().splitlines():
        one = json.loads(line)
        if one["user"]["username"] == USER:
            seen[one["auditID"]] = f"{one['verb']} {one.get('objectRef', {}).get('resource', '')}"
    return Counter(seen.values())


def rss_mb() -> float:
    """Return the memory of this process, in MB."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def in_turn(calls: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """Make calls, some at a time."""
    turns = asyncio.Semaphore(AT_A_TIME)

    async def one(call: Callable[[], Awaitable[Any]]) -> Any:
        async with turns:
            return await call()

    return await asyncio.gather(*(one(call) for call in calls))


async def many(
    ours: Ours, kube: Kubernetes, clusters: int, stalls: pathlib.Path
) -> tuple[dict[str, float], list[tuple[float, float]]]:
    """Start clusters, all of them, and end them; what it took, and how the event loop stood still.
    What is counted in between is no work of the backend's, so neither is how long that takes."""
    uids = [uid_of(number) for number in range(clusters)]
    pods = clusters * (WORKERS + 1)
    before, memory = requests(kube), rss_mb()
    await settled(stalls)
    began = time.monotonic()
    made = await in_turn([functools.partial(ours.cluster, uid, WORKERS) for uid in uids])
    run_s = time.monotonic() - began
    worst = [await settled(stalls)]
    garbage.settle()
    grown = rss_mb() - memory
    await settled(stalls)
    ends = zip(uids, made, strict=True)
    await in_turn([functools.partial(ours.end, uid, those) for uid, those in ends])
    worst.append(await settled(stalls))
    spent = requests(kube) - before
    print(f"{clusters} clusters of {WORKERS} workers, {pods} pods: all ran after {run_s:.0f} s,")
    print(
        f"  gone after {time.monotonic() - began:.0f} s; memory {grown:+.0f} MB to {rss_mb():.0f}"
    )
    for what, count in spent.most_common():
        print(f"  {count:>7} {what}")
    return {"requests_per_pod": spent.total() / pods, "memory_mb": grown}, worst


async def one_of_ours(ours: Ours, number: int) -> float:
    """Take one cluster from no worker to 1,000; the seconds until all run."""
    uid = uid_of(1000 + number)
    scheduler, *others = launches(uid, ONE)
    first = await ours.start([scheduler])
    await ours.until(first, Phase.RUNNING)
    began = time.monotonic()
    found = await ours.start(others)
    await ours.until(found, Phase.RUNNING)
    seconds = time.monotonic() - began
    await ours.end(uid, first + found)
    return seconds


async def by_kubectl(ours: Ours, kube: Kubernetes, directory: pathlib.Path, number: int) -> float:
    """Have kubectl apply the same pods; the seconds until all run."""
    uid = uid_of(2000 + number)
    place = manifests.Place(TAG, NAMESPACE)
    bodies = [
        manifests.pod(place, launch, ours.backend.settings_of(launch))
        for launch in launches(uid, ONE)[1:]
    ]
    secret = manifests.secret(place, uid, launches(uid, 1)[1])
    path = directory / f"{uid}.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [secret, *bodies]}))
    selected = ["-n", NAMESPACE, "-l", f"{names.UID_LABEL}={uid}"]

    def run(*words: str) -> str:
        return kube.kubectl(*words, within_s=LIMIT_S)

    def ran() -> int:
        found = run("get", "pods", *selected, "--field-selector=status.phase=Running", "-o=name")
        return found.count("\n")

    began = time.monotonic()
    await asyncio.to_thread(run, "apply", "-n", NAMESPACE, "-f", str(path))
    while await asyncio.to_thread(ran) < ONE:  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    seconds = time.monotonic() - began
    collection = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={names.UID_LABEL}%3D{uid}"
    await asyncio.to_thread(run, "delete", f"--raw={collection}&gracePeriodSeconds=0")
    await asyncio.to_thread(run, "delete", "secrets", *selected)
    return seconds


async def measured(
    kube: Kubernetes, directory: pathlib.Path, clusters: int, rounds: int
) -> dict[str, float]:
    """Measure all of it; the figures."""
    kube.namespace(NAMESPACE)
    config = kube.account(NAMESPACE, ACCOUNT, yaml.safe_load(RIGHTS.read_text()))
    backend = KubernetesBackend(
        root=str(directory / "root"),
        tag=TAG,
        kubeconfig=str(config),
        namespace=NAMESPACE,
        image="dask:1",
        tolerations=[TOLERATION],
        stop_grace_s=1,
    )
    ours = Ours(backend)
    await backend.open(ours.push)
    looks = asyncio.create_task(ours.look())
    samples, stalls = Samples(), directory / "stalls"
    begin(asyncio.get_running_loop(), str(stalls))
    try:
        await ours.end(uid_of(0), await ours.cluster(uid_of(0), 1))  # what is done once
        garbage.settle()  # as the server does once it has started
        worst: list[tuple[float, float]] = []
        for number, order in enumerate(orders(rounds, ["ours", "kubectl"])):
            for side in order:
                if side == "ours":
                    await settled(stalls)
                    samples.add(SCALE, side, await one_of_ours(ours, number))
                    worst.append(await settled(stalls))
                else:
                    seconds = await by_kubectl(ours, kube, directory, number)
                    samples.add(SCALE, side, seconds)
        figures, those = await many(ours, kube, clusters, stalls)
        worst += those
    finally:
        looks.cancel()
        await asyncio.gather(looks, return_exceptions=True)
        await backend.close()
    print(table(samples))
    for stall_ms, without_cpu_ms in worst:
        print(f"longest stall {stall_ms:.0f} ms, of it without a CPU {without_cpu_ms:.0f} ms")
    return {
        "requests_per_pod": figures["requests_per_pod"],
        "scale_1000_vs_kubectl": samples.ratio(SCALE, "ours", "kubectl"),
        "stall_ms": max(stall_ms for stall_ms, _ in worst),
        "memory_mb": figures["memory_mb"],
    }


def main() -> None:
    """Measure and print."""
    clusters = int(sys.argv[1]) if len(sys.argv) > 1 else CLUSTERS
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    print(f"machine: {machine.described()}; load {os.getloadavg()[0]:.1f}", flush=True)
    nodes = 4 + clusters * (WORKERS + 1) // 1000
    with (
        # elsewhere it would have machines of its own
        running(fakes=nodes, audit=True, nice=10) as kube,
        tempfile.TemporaryDirectory() as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        figures = runner.run(measured(kube, pathlib.Path(directory), clusters, rounds))
    if os.geteuid() == 0:
        figures["new_cluster_vs_dgw"] = kubernetes_start.ratio()
    else:
        print("not measured: new_cluster_vs_dgw, whose pods root alone starts")
    print(last_line("kubernetes", figures))


if __name__ == "__main__":
    main()
