"""A worker that was put back into the queue comes back under its name, also where its scheduler has
not heard of its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from distributed import Client, Scheduler, Worker
from distributed.diagnostics.plugin import SchedulerPlugin

from gateway.agent.rejoining import let_rejoin


class Heard(SchedulerPlugin):
    """What a plugin, as the agent is one, hears."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def add_worker(self, scheduler: Any, worker: str) -> None:
        self.said.append(("joined", worker))

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        self.said.append(("left", worker))


@asynccontextmanager
async def a_scheduler(*, rejoin: bool = True) -> AsyncIterator[tuple[Scheduler, Heard]]:
    """Return a scheduler and what its plugins hear."""
    heard = Heard()
    async with Scheduler(
        port=0, dashboard_address="127.0.0.1:0", protocol="tcp", host="127.0.0.1"
    ) as scheduler:
        scheduler.add_plugin(heard, name="heard")
        if rejoin:
            let_rejoin(scheduler)
        yield scheduler, heard


def a_worker(scheduler: Scheduler, name: str) -> Worker:
    """Return a worker that is not started yet."""
    return Worker(scheduler.address, name=name, nthreads=1, dashboard=False, host="127.0.0.1")


async def test_a_name_that_a_lost_process_has_is_its_successors() -> None:
    async with a_scheduler() as (scheduler, heard):
        lost = await a_worker(scheduler, "default-5")
        back = await a_worker(scheduler, "default-5")
        try:
            assert list(scheduler.workers) == [back.address]
            assert scheduler.aliases["default-5"] == back.address
            assert heard.said == [
                ("joined", lost.address),
                ("left", lost.address),
                ("joined", back.address),
            ]
            async with Client(scheduler.address, asynchronous=True) as client:
                assert await asyncio.wait_for(client.submit(sum, [20, 22]), 30) == 42
        finally:
            await asyncio.gather(lost.close(), back.close())


async def test_names_that_the_gateway_did_not_give_are_daskss_own_affair() -> None:
    async with a_scheduler() as (scheduler, _):
        first = await a_worker(scheduler, "Mine")
        second = a_worker(scheduler, "Mine")
        try:
            with pytest.raises((ValueError, RuntimeError)):
                await second
            assert list(scheduler.workers) == [first.address]
        finally:
            await asyncio.gather(first.close(), second.close())


async def test_without_it_dask_refuses_the_name() -> None:
    """What is mended here: the worker ended for it, and another was started in its place."""
    async with a_scheduler(rejoin=False) as (scheduler, _):
        lost = await a_worker(scheduler, "default-5")
        back = a_worker(scheduler, "default-5")
        try:
            with pytest.raises((ValueError, RuntimeError)):
                await back
        finally:
            await asyncio.gather(lost.close(), back.close())


async def test_workers_of_other_names_join_beside_it() -> None:
    async with a_scheduler() as (scheduler, _):
        workers = [await a_worker(scheduler, f"default-{number}") for number in range(2)]
        try:
            assert len(scheduler.workers) == 2
        finally:
            await asyncio.gather(*(worker.close() for worker in workers))
