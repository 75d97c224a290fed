"""What the agent counts in a real scheduler: clients are those who are connected, and nobody
else."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator

import pytest
from distributed import Client, Scheduler, Variable, Worker, fire_and_forget
from distributed.core import rpc

from gateway.agent import load
from tests.waiting import comes

# a scheduler of Dask's own leaves a socket behind now and then, whose end is not ours to see to
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

GO = threading.Event()  # scheduler and worker are in this process


def _wait() -> None:
    assert GO.wait(60)


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    """A scheduler with a worker."""
    made = Scheduler(dashboard_address="127.0.0.1:0", host="127.0.0.1", port=0)
    async with made, Worker(made.address, host="127.0.0.1", nthreads=1):
        yield made


async def test_who_follows_the_workers_is_no_client(scheduler: Scheduler) -> None:
    address = rpc(scheduler.address)
    comm = await address.live_comm()
    await comm.write({"op": "subscribe_worker_status"})
    await comm.read()
    assert load.clients(scheduler) == 0
    async with Client(scheduler.address, asynchronous=True):
        assert load.clients(scheduler) == 1
    await comes(lambda: load.clients(scheduler) == 0, timeout_s=30)
    await comm.close()
    await address.close_rpc()


@pytest.mark.parametrize("kept", ["published", "variable"])
async def test_what_is_kept_for_later_is_no_client_and_no_idleness(
    scheduler: Scheduler, kept: str
) -> None:
    async with Client(scheduler.address, asynchronous=True) as client:
        result = client.submit(sum, [1, 2])
        await result
        assert not load.holds_results(scheduler)
        if kept == "published":
            await client.publish_dataset(numbers=result)
        else:
            await Variable("numbers", client=client).set(result)
            await comes(lambda: load.holds_results(scheduler), timeout_s=30)
        del result
    await comes(lambda: load.clients(scheduler) == 0, timeout_s=30)
    assert load.holds_results(scheduler)


async def test_what_was_fired_and_forgotten_is_a_task_until_it_is_done(
    scheduler: Scheduler,
) -> None:
    async with Client(scheduler.address, asynchronous=True) as client:
        fire_and_forget(client.submit(_wait, pure=False))
        await comes(lambda: load.busy(scheduler), timeout_s=30)
    await comes(lambda: load.clients(scheduler) == 0, timeout_s=30)
    assert load.busy(scheduler)
    GO.set()
    await comes(lambda: not load.busy(scheduler), timeout_s=30)
    assert not load.holds_results(scheduler)
