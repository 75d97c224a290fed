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
MAKES = """
def make():
    global cluster
    cluster = GatewayCluster()
thread = threading.Thread(target=make)
thread.start()
thread.join()
"""
# what it says about signals
TELLS = """
import logging, signal
told = []
class Kept(logging.Handler):
    def emit(self, record):
        if "signals" in record.getMessage():
            told.append(record.levelname)
logging.getLogger("distributed.deploy.gateway").setLevel("DEBUG")
logging.getLogger("distributed.deploy.gateway").addHandler(Kept())
"""
IMPORTS = """
import signal, threading
numbers = (signal.SIGTERM, signal.SIGHUP)
from daskgateway import AsyncGatewayCluster, Gateway, GatewayCluster
Gateway("http://127.0.0.1:1")
print([signal.getsignal(number) is signal.SIG_DFL for number in numbers])
def elsewhere():
    try:
        GatewayCluster.heed_signals()
    except RuntimeError as error:
        print(error)
thread = threading.Thread(target=elsewhere)
thread.start()
thread.join()
signal.signal(signal.SIGHUP, signal.SIG_IGN)
GatewayCluster.heed_signals()
print([getattr(signal.getsignal(number), "__name__", "SIG_IGN") for number in numbers])
"""
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


def test_an_import_leaves_signals_alone_and_only_the_main_thread_may_heed_them() -> None:
    ended = subprocess.run(
        ["env", "--default-signal=HUP,TERM", sys.executable, "-c", IMPORTS],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.stdout.splitlines() == [
        "[True, True]",
        "heed_signals must be called in the main thread of the program",
        "['_end_by_signal', 'SIG_IGN']",
    ], ended.stderr


def test_a_signal_stops_what_a_thread_has_made_where_the_program_heeds_it(
    served: GatewayProcess,
) -> None:
    alice = Gateway(served.address, auth=(USER, PASSWORD))
    heeds = f"{TELLS}GatewayCluster.heed_signals()\n{MAKES}assert told == [], told\n"
    process = script(served, WORKS.format(made=heeds))
    (cluster,) = alice.list_clusters()
    assert end(process, signal.SIGTERM) == -signal.SIGTERM
    ended = alice.wait(f"{USER}/{cluster.uid}", ("STOPPED",), timeout_s=60)
    assert ended.status.reason == "STOP_REQUESTED"


def test_a_cluster_of_a_thread_alone_says_that_signals_leave_it_to_its_keepalive_timeout(
    served: GatewayProcess,
) -> None:
    alice = Gateway(served.address, auth=(USER, PASSWORD))
    tells = f"{TELLS}{MAKES}assert told == ['DEBUG'], told\n"
    process = script(
        served, WORKS.format(made=tells), DASK_GATEWAY__CLUSTER__KEEPALIVE_TIMEOUT="12s"
    )
    (cluster,) = alice.list_clusters()
    assert end(process, signal.SIGTERM) == -signal.SIGTERM
    ended = alice.wait(f"{USER}/{cluster.uid}", ("STOPPED",), timeout_s=120)
    assert ended.status.reason == "NOT_KEPT_ALIVE", ended.status
