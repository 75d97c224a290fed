"""A client that nobody uses any more is closed, and so its cluster; what is in use, by whatever
holds it, is not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.e2e.gateway_process import GatewayProcess

pytestmark = pytest.mark.timeout(400)

BEGIN = """
import asyncio, contextlib, functools, gc, time
from dask.distributed import Client
from daskgateway import Gateway, GatewayCluster
from gateway.client.dask import ownership, unheld
unheld.LOOK_S = 0.0  # looks are made by hand here
ownership.regularly = lambda work: None
looks = unheld.close_unused
def gone(name):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        looks()
        states = {one.id: str(one.state) for one in Gateway().list_clusters()}
        if states.get(name) != "ACTIVE":
            return True
        time.sleep(0.1)
    return False
def open_clients():
    looks(); looks(); looks()
    return sum(one.status == "running" for one in list(Client._instances))
"""


def said(served: GatewayProcess, code: str) -> list[str]:
    """Return what a program prints."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", BEGIN + code],
        env=served.environment(),
        capture_output=True,
        text=True,
        timeout=360,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split()


def test_a_cell_that_is_run_again_leaves_no_cluster_behind(served: GatewayProcess) -> None:
    code = """
for name in ("first", "second"):
    client = Client(GatewayCluster(name))
print(gone("first"), open_clients(), client.status)
del client  # it is the one that Dask takes by default
print(open_clients())
"""
    assert said(served, code) == ["True", "1", "running", "1"]


def test_whatever_holds_a_client_keeps_it_and_what_nothing_holds_is_closed(
    served: GatewayProcess,
) -> None:
    code = """
client = Client(GatewayCluster("used", n_workers=1), set_as_default=False)
holds = [
    lambda client: client,
    lambda client: client.submit(sum, [1, 2]),
    lambda client: client.submit,
    lambda client: client.datasets,
    lambda client: client.cluster,
    lambda client: {"a": [client]},
    lambda client: functools.partial(print, client),
    lambda client: (value for value in [client]),
]
for hold in holds:
    held, client = hold(client), None
    print(open_clients())
    (client,) = Client._instances
    del held
def running(used):
    global client
    client = None
    print(open_clients(), used.status)
running(client)
print(gone("used"), open_clients())
"""
    assert said(served, code) == ["1"] * 8 + ["1", "running", "True", "0"]
