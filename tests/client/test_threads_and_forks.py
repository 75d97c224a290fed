"""Clusters of a program's other threads end with it as well; in a child that was forked an object
of a cluster says whose it is, and ends nothing."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from gateway import Gateway
from tests.client.test_ownership import WORKS, end, script
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.waiting import until

pytestmark = pytest.mark.timeout(400)
THREADED = WORKS.format(
    made="""
def make():
    global cluster
    cluster = GatewayCluster()
thread = threading.Thread(target=make)
thread.start()
thread.join()
"""
)
FORKS = """
import os, sys
from distributed import Client
from gateway import GatewayCluster
def forked(work):
    pid = os.fork()
    if not pid:
        try:
            work()
            print("nothing said")
        except RuntimeError as error:
            print(error)
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
with GatewayCluster("forked", quiet=True) as cluster:
    forked(cluster.close)
    forked(lambda: cluster.__exit__(None, None, None))
    forked(lambda: repr(cluster))
    forked(cluster.shutdown)
    forked(lambda: cluster.scale(1))
    forked(lambda: Client(cluster))
    cluster.scale(0)
    print(cluster.status)
"""


def test_a_forked_child_is_told_whose_an_object_is_and_ends_nothing(
    served: GatewayProcess,
) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS],
        env=served.environment(),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ended.returncode == 0, ended.stderr
    *lines, last = ended.stdout.splitlines()
    words = (
        "this object of cluster forked is of the process that made it; a process that was forked"
    )
    assert [line[: len(words)] for line in lines] == ["nothing said"] * 3 + [words] * 3
    assert last == "Status.running"
    alice = Gateway(served.address, auth=(USER, PASSWORD))
    until(lambda: not alice.list_clusters(), "nothing is left")


def test_a_signal_stops_what_a_thread_has_made(served: GatewayProcess) -> None:
    alice = Gateway(served.address, auth=(USER, PASSWORD))
    process = script(served, THREADED)
    (cluster,) = alice.list_clusters()
    assert end(process, signal.SIGTERM) == -signal.SIGTERM
    ended = alice.wait(f"{USER}/{cluster.uid}", ("STOPPED",), timeout_s=60)
    assert ended.status.reason == "STOP_REQUESTED"
