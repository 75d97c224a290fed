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


MANY = """
import weakref
from dask.distributed import LocalCluster, Variable
gc.disable()  # what is collected is collected by the looks alone
mine = Client(GatewayCluster("ruled", n_workers=0), set_as_default=False)
def made():
    return Client(mine.cluster, set_as_default=False)
def others():
    return [one for one in list(Client._instances) if one is not mine and one.status == "running"]
def until(holds):  # a look errs on the side of use: Dask itself may be at work with a client
    end = time.monotonic() + 120
    while not holds() and time.monotonic() < end:
        looks()
        time.sleep(0.1)
    return holds()
"""


def test_each_use_by_itself_keeps_a_client(served: GatewayProcess) -> None:
    code = """
def closed_though(hold):
    held = hold(made())
    looks(); looks(); looks()
    left = others()
    for one in left:
        one._asynchronous = False
        one.close()
    if hasattr(held, "close"):
        held.close()
    return not left
async def coroutine(client):
    client.ncores()
class Datasets:  # as a class of Dask's is called
    def __init__(self, client):
        self.client = client
class Its:
    def _handle_it(self):
        return self
def method(client):
    one = Its()
    one.client = client
    return one._handle_it
async def _handle_report(client):
    client.ncores()
holds = {
    "datasets": lambda client: client.datasets,
    "tuple": lambda client: (client,),
    "coroutine": coroutine,
    "coroutine of that name": _handle_report,
    "class of Dask": lambda client: Variable("v", client=client),
    "class of that name": Datasets,
    "object of a method of that name": method,
    "topic": lambda client: client.subscribe_topic("mine", print),
    "event loop of the user": lambda client: setattr(client, "_asynchronous", True),
}
print([what for what, hold in holds.items() if closed_though(hold)])
def running(cluster):
    looks(); looks(); looks()
    print(len(others()))
made()
running(mine.cluster)
print(until(lambda: not others()))
"""
    assert said(served, MANY + code) == ["[]", "1", "True"]


def test_two_looks_in_a_row_close_a_client_and_whatever_else_becomes_of_it_is_borne(
    served: GatewayProcess,
) -> None:
    code = """
def statuses():
    return [one.status for one in others()]
made()
looks()
(client,) = others()
looks()  # it is used meanwhile
client = None
looks()
print(*statuses())
print(until(lambda: not others()))
unheld.LOOK_S = 3600.0
looks()  # the next is late
made(); looks(); looks(); looks()
print(*statuses())
unheld.LOOK_S, unheld._next_look = 0.0, 0.0
print(until(lambda: not others()))

with LocalCluster(n_workers=0, processes=False, dashboard_address=None) as of_another:
    Client(of_another, set_as_default=False)
    looks(); looks(); looks()
    print(*statuses())
    others()[0].close()

def raises(timeout):
    raise ValueError("not now")
first, second = made(), made()
close, first.close = first.close, raises
first = second = close = None
print(until(lambda: len(others()) == 1), *statuses())
del others()[0].close
print(until(lambda: not others()))

cluster = weakref.ref(mine.cluster)
mine.cluster.adapt(0, 2)  # Dask's own knob is no use of it
mine = None
print(until(lambda: cluster() is None), len(others()))
"""
    assert said(served, MANY + code) == [
        *("running", "True", "running", "True", "running"),
        *("True", "running", "True", "True", "0"),
    ]
