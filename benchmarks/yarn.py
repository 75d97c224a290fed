"""How long a Dask cluster on YARN takes, and what it costs while it is idle, beside dask-yarn's way
on the same Hadoop in the same run: `make bench-yarn`, or `python -m benchmarks.yarn [rounds]`.

dask-yarn's way is skein from the client's process (`benchmarks.yarn_peer`): the package itself is
of 2021, and today's distributed is not what it imports. Both sides have their driver running, the
same options of Java and containers of the same sizes. Rounds are interleaved, and which side goes
first turns around. For 0 -> 50 workers sleep: what is measured is the way to YARN.
"""

from __future__ import annotations

import contextlib
import functools
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks import machine, probe, processes, yarn_calls
from benchmarks.figures import Samples, last_line, orders, table
from benchmarks.ours import PASSWORD, USER, OurGateway
from benchmarks.yarn_peer import MASTER_MB, SCHEDULER_MB, WORKER_MB, Skein
from gateway import Gateway, GatewayCluster
from tests.parts.yarn import Hadoop, running
from tests.parts.yarn.configuration import LEAST_MB

ROUNDS = 5
GROW_ROUNDS = 2
WORKERS = 50
IDLE_CLUSTERS, BATCH = 20, 4
IDLE_S = STOPPED_S = 60.0
LIMIT_S = 180.0  # for whatever is awaited
NODE = (40_960, 256)  # MiB and cores of the node: room for all, whatever the machine has
OURS, SKEIN = "ours", "skein"
CLUSTER, RESULT = "until the scheduler is there, s", "until a first result, s"
GROWN = f"0->{WORKERS} workers, s"
# Python of both sides: workers sleep while the file `sleep` is beside it
PYTHON = """#!/bin/sh
[ -e {sleep} ] && case " $* " in *" worker "*) exec sleep 3600;; esac
exec {python} "$@"
"""
CONFIG = """
import sys
sys.path.insert(0, {root!r})
from benchmarks import probe, yarn_calls
if 'serve' in sys.argv:
    probe.begin_with_uvloop({stall!r})
    yarn_calls.note({calls!r})
c.DaskGateway.backends = ['yarn']
c.YarnBackend.resourcemanager_urls = [{rm!r}]
c.YarnBackend.commands_directory = {commands!r}
c.YarnBackend.root = {directory!r}
c.YarnBackend.allocation_mb = {least}
c.YarnBackend.master_memory_mb = {master}
c.YarnBackend.local = True
c.ClusterConfig.python = [{python!r}]
c.ClusterConfig.scheduler_host = c.ClusterConfig.worker_host = '127.0.0.1'
c.ClusterConfig.scheduler_memory = '{scheduler} MiB'
c.ClusterConfig.worker_memory = '{worker} MiB'
c.ClusterConfig.worker_nanny = False
c.ClusterConfig.max_workers = 1000
"""


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    print(f"bench-yarn: {machine.described()}")
    print(f"Hadoop 3.4.2 and skein 0.8.2 on both sides, {rounds} interleaved rounds", flush=True)
    samples, figures = Samples(), {}
    with (
        processes.scratch() as directory,
        running(node=NODE) as hadoop,
        machine.watched() as load,
        our_gateway(directory / OURS, hadoop) as server,
        Skein(hadoop, directory, python_of(directory / OURS)) as peer,
    ):
        user = Gateway(server.address, auth=(USER, PASSWORD))
        starts(samples, hadoop, user, peer, rounds)
        grow(samples, hadoop, user, peer, directory / OURS)
        figures = idle(samples, hadoop, user, server)
    print(table(samples))
    print(f"the machine was busy with {load.cores:.2f} cores, this benchmark's own work included")
    figures |= {
        "start_vs_skein": samples.ratio(CLUSTER, OURS, SKEIN),
        "first_result_vs_skein": samples.ratio(RESULT, OURS, SKEIN),
        f"grow_{WORKERS}_vs_skein": samples.ratio(GROWN, OURS, SKEIN),
    }
    print(last_line("yarn", figures))


def python_of(directory: pathlib.Path) -> pathlib.Path:
    """Return the Python that schedulers and workers of both sides run."""
    return directory / "python"


@contextlib.contextmanager
def our_gateway(directory: pathlib.Path, hadoop: Hadoop) -> Iterator[OurGateway]:
    """Our server and edge on a Hadoop."""
    more = CONFIG.format(
        root=str(processes.ROOT),
        stall=str(directory / "stall"),
        calls=str(directory / "calls"),
        rm=hadoop.rm_url,
        commands=str(hadoop.bin),
        directory=str(directory / "yarn"),
        least=LEAST_MB,
        master=MASTER_MB,
        python=str(python_of(directory)),
        scheduler=SCHEDULER_MB,
        worker=WORKER_MB,
    )
    server = OurGateway(directory, noop=False, extra=more)
    python = python_of(directory)
    python.write_text(PYTHON.format(sleep=directory / "sleep", python=sys.executable))
    python.chmod(0o755)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def starts(samples: Samples, hadoop: Hadoop, user: Gateway, peer: Skein, rounds: int) -> None:
    """Measure a cluster, and a first result on one worker."""
    ways: dict[str, Callable[[], tuple[float, float]]] = {
        OURS: lambda: our_cluster(user),
        SKEIN: peer.cluster,
    }
    for number, order in enumerate(orders(rounds + 1, [OURS, SKEIN])):
        for whose in order:
            cluster_s, result_s = ways[whose]()
            quiet(hadoop)
            if number:  # the first round starts drivers and warms the page cache
                samples.add(CLUSTER, whose, cluster_s)
                samples.add(RESULT, whose, result_s)


def our_cluster(user: Gateway) -> tuple[float, float]:
    """Return the seconds until a cluster is active, and until a first result."""
    began = time.perf_counter()
    with GatewayCluster(gateway=user) as cluster:
        cluster_s = time.perf_counter() - began
        cluster.scale(1)
        with cluster.get_client() as client:
            assert client.submit(int, "7").result(timeout=LIMIT_S) == 7
        return cluster_s, time.perf_counter() - began


def grow(
    samples: Samples, hadoop: Hadoop, user: Gateway, peer: Skein, directory: pathlib.Path
) -> None:
    """Measure how long many workers take until the ResourceManager says that all run."""
    sleep = directory / "sleep"
    sleep.touch()
    for order in orders(GROW_ROUNDS, [OURS, SKEIN]):
        for whose in order:
            if whose == OURS:
                with GatewayCluster(gateway=user) as cluster:
                    began = time.perf_counter()
                    cluster.scale(WORKERS)
                    until_containers(hadoop, WORKERS + 2)
                    samples.add(GROWN, whose, time.perf_counter() - began)
            else:
                with peer.started() as application:
                    began = time.perf_counter()
                    application.scale("dask.worker", WORKERS)
                    until_containers(hadoop, WORKERS + 2)
                    samples.add(GROWN, whose, time.perf_counter() - began)
            quiet(hadoop)
    sleep.unlink()


def _has_grown(calls_file: pathlib.Path, begun: int) -> bool:
    return yarn_calls.count(calls_file) > begun


def idle(samples: Samples, hadoop: Hadoop, user: Gateway, server: OurGateway) -> dict[str, float]:
    """Measure what idle clusters cost, and how the server stands a ResourceManager that hangs."""
    for _ in range(0, IDLE_CLUSTERS, BATCH):
        for one in [user.submit() for _ in range(BATCH)]:
            user.wait(one.name, ("ACTIVE",), timeout_s=LIMIT_S)
    calls_file = server.directory / "calls"
    # the next listing looks for the last time at what has just begun: that is no idle time yet
    for _ in range(2):
        begun = yarn_calls.count(calls_file)
        wait(functools.partial(_has_grown, calls_file, begun), "the next listing")
        wait(lambda: yarn_calls.quiet_s(calls_file) > 3, "nothing is asked for 3 s")
    before = yarn_calls.count(calls_file)
    time.sleep(IDLE_S)
    calls = yarn_calls.count(calls_file) - before
    samples.add(f"calls in an idle minute of {IDLE_CLUSTERS} clusters", OURS, calls)
    probe.taken(server.stall_file)
    manager = hadoop.daemons["resourcemanager"]
    manager.send_signal(signal.SIGSTOP)
    try:
        ends = time.monotonic() + STOPPED_S
        user.submit()  # somebody wants a cluster just now
        while time.monotonic() < ends:
            user.list_clusters()
            time.sleep(1)
    finally:
        manager.send_signal(signal.SIGCONT)
    stall_ms, without_cpu_ms = probe.taken(server.stall_file)
    samples.add("stall while the ResourceManager hangs, ms", OURS, stall_ms)
    samples.add("  of it without a CPU, ms", OURS, without_cpu_ms)
    for cluster in user.list_clusters():
        user.stop_cluster(cluster.name)
    quiet(hadoop)
    return {
        "calls_per_cluster_minute": calls / IDLE_CLUSTERS * 60 / IDLE_S,
        "stall_ms": stall_ms,
    }


def until_containers(hadoop: Hadoop, count: int) -> None:
    """Wait until the only application has so many containers that run."""
    wait(
        lambda: [one["runningContainers"] for one in hadoop.applications()] == [count],
        f"{count} containers run",
        0.2,
    )


def quiet(hadoop: Hadoop) -> None:
    """Wait until no application is left."""
    wait(lambda: not hadoop.applications(), "no application is left")


def wait(holds: Callable[[], bool], what: str, every_s: float = 0.5) -> None:
    """Wait until something holds. TimeoutError."""
    ends = time.monotonic() + LIMIT_S
    while not holds():
        if time.monotonic() > ends:
            raise TimeoutError(f"not within {LIMIT_S:g} s: {what}")
        time.sleep(every_s)


if __name__ == "__main__":
    main()
