"""The edge dies and comes back under live clients; the server is down and what runs goes on."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from distributed import Client, Variable

from gateway import Gateway, GatewayCluster
from gateway.wire import server_name
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.e2e.test_main_job import until
from tests.ports import free_port


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """What Dask's broken connections leave behind is found by the test that broke them, not by the
    next one."""
    yield
    gc.collect()


def edge_pid(served: GatewayProcess) -> int:
    """Return the pid of the edge that the server started."""
    return int(json.loads((served.directory / "state" / "edge.json").read_text())["pid"])


def computes(client: Client) -> bool:
    """Whether a task gets its result; while the way is broken Dask raises one thing or another."""
    try:
        return bool(client.submit(lambda: 1, pure=False).result(timeout=5) == 1)
    except Exception:
        return False


def handshake(port: int, uid: str) -> bool:
    """Whether a cluster's scheduler answers TLS through an edge."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 1.0) as raw,
            context.wrap_socket(raw, server_hostname=server_name(uid)),
        ):
            return True
    except (OSError, ssl.SSLError):
        return False


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.filterwarnings("ignore")  # Dask's own, while its connections break
def test_clients_are_back_soon_after_the_edge_was_killed_and_after_the_server_too(
    tmp_path: pathlib.Path,
) -> None:
    served = GatewayProcess(tmp_path)
    served.start()
    try:
        gateway = Gateway(served.address, auth=(USER, PASSWORD))
        cluster = GatewayCluster("lives", gateway=gateway, n_workers=1)
        with Client(cluster) as client:
            client.wait_for_workers(1, timeout=60)
            client.publish_dataset(kept=client.submit(sum, [20, 22]))
            flag = Variable("seconds-passed", client=client)
            flag.set(0)
            first = edge_pid(served)
            os.kill(first, signal.SIGKILL)
            began = time.monotonic()
            until(lambda: computes(client), "the client computes again")
            assert time.monotonic() - began < 15  # 0.6 s where nothing else runs
            assert edge_pid(served) != first
            # what the scheduler keeps is there still
            assert client.get_dataset("kept").result(timeout=20) == 42
            cluster.scale(2)
            until(
                lambda: len(cluster.scheduler_info["workers"]) == 2,
                "the cluster object follows its workers again",
            )

            served.kill()  # the server is down
            assert client.submit(lambda: 2, pure=False).result(timeout=20) == 2
            with Client(
                cluster.scheduler_address,
                security=cluster.security,
                timeout=20,
                set_as_default=False,
            ) as another:
                assert another.submit(sum, [1, 2]).result(timeout=20) == 3
            cold_edge_answers(served, cluster.uid)
            assert client.submit(lambda: 3, pure=False).result(timeout=20) == 3
            served.start()
        cluster.close(timeout=60)
        gateway.wait(f"{USER}/lives", ("STOPPED",), timeout_s=60)
    finally:
        served.stop()


def cold_edge_answers(served: GatewayProcess, uid: str) -> None:
    """Start another edge from the last known routes; a known cluster is reached at once."""
    state, own = served.directory / "state", served.directory / "cold"
    own.mkdir(mode=0o700)
    shutil.copy(state / "edge" / "routes.json", own)  # what is in there may be another account's
    port = free_port()
    words = {
        "address": f"127.0.0.1:{port}",
        "state_dir": own,
        "token_file": state / "edge.token",
        "server_address": f"unix:{state}/server.sock",
    }
    command = [
        sys.executable,
        "-m",
        "gateway",
        "proxy",
        *(f"--Proxy.{name}={value}" for name, value in words.items()),
    ]
    began = time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as cold:
        try:
            until(lambda: handshake(port, uid), "a known cluster answers through a cold edge")
            assert time.monotonic() - began < 10  # 0.3 s where nothing else runs
        finally:
            cold.terminate()


def edges_of(directory: pathlib.Path) -> set[int]:
    """Return the pids of the edges that were started in an environment with this mark."""
    found = set()
    for link in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = link.read_bytes().split(b"\0")
            environment = link.with_name("environ").read_bytes().split(b"\0")
            if b"proxy" in words and f"DASKGATEWAY_TEST_ROOM={directory}".encode() in environment:
                found.add(int(link.parent.name))
    return found


@pytest.mark.timeout(120)
@pytest.mark.parametrize("when", ["told", "ready"])
def test_an_edge_whose_server_was_killed_while_it_started_is_not_in_the_next_ones_way(
    tmp_path: pathlib.Path, when: str
) -> None:
    port = free_port()
    served = GatewayProcess(tmp_path, f"c.Proxy.address = '127.0.0.1:{port}'")
    marked = {"DASKGATEWAY_TEST_ROOM": str(tmp_path)}  # by which the test finds the edges
    words = [
        sys.executable,
        "-m",
        "tests.e2e.dying_server",
        "serve",
        "--config",
        str(served.config),
    ]
    environment = os.environ | marked | {"DASKGATEWAY_TEST_FAILPOINT": when}
    try:
        # no pipes: the edge has them too
        with (tmp_path / "died.out").open("w") as out, (tmp_path / "server.log").open("a") as log:
            died = subprocess.run(words, env=environment, stdout=out, stderr=log, timeout=60)
        assert died.returncode == -signal.SIGKILL
        assert (tmp_path / "died.out").read_text() == (
            f"ready 127.0.0.1:{port}\n" if when == "ready" else ""
        )
        if when == "ready":
            assert len(edges_of(tmp_path)) == 1  # it runs, and holds the port
        served.start(environment=marked)
        assert edges_of(tmp_path) == {edge_pid(served)}
        assert Gateway(served.address, auth=(USER, PASSWORD)).list_clusters() == []
        assert served.stop() == 0
        assert edges_of(tmp_path) == set()
    finally:
        for pid in edges_of(tmp_path):
            os.kill(pid, signal.SIGKILL)


DOWN_S = 60


def slowly(number: int) -> tuple[int, int]:
    """Take a second; return the number and in which process it was."""
    time.sleep(1)
    return number, os.getpid()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_server_that_is_down_for_a_minute_disturbs_no_computation(tmp_path: pathlib.Path) -> None:
    served = GatewayProcess(tmp_path)
    served.start()
    try:
        gateway = Gateway(served.address, auth=(USER, PASSWORD))
        cluster = GatewayCluster("stays", gateway=gateway, n_workers=1)
        with Client(cluster) as client:
            client.wait_for_workers(1, timeout=60)
            work = client.map(slowly, range(DOWN_S), pure=False)
            served.kill()
            began = time.monotonic()
            newcomers = 0
            while time.monotonic() - began < DOWN_S - 5:
                with Client(
                    cluster.scheduler_address,
                    security=cluster.security,
                    timeout=20,
                    set_as_default=False,
                ) as another:
                    assert another.submit(sum, [1, 2], priority=10).result(timeout=20) == 3
                newcomers += 1
                time.sleep(4)  # a newcomer every few seconds; nothing is awaited
            results = client.gather(work)
            assert time.monotonic() - began >= DOWN_S - 2
            assert [number for number, _ in results] == list(range(DOWN_S))
            # the worker is the same from first to last
            assert len({process for _, process in results}) == 1
            assert newcomers >= 10
            served.start()
            gateway.wait(f"{USER}/stays", ("ACTIVE",), timeout_s=60)
            assert client.submit(slowly, 1).result(timeout=20)[1] == results[0][1]
        cluster.close(timeout=60)
        gateway.wait(f"{USER}/stays", ("STOPPED",), timeout_s=60)
    finally:
        served.stop()
