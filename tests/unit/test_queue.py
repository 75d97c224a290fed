"""The reconciler's queue holds each key once, gives it out when it is due, and to one at a time."""

from __future__ import annotations

import asyncio

from gateway.server.reconcile.queue import SLACK, KeyedQueue


async def test_keys_come_when_they_are_due_and_each_once() -> None:
    queue = KeyedQueue()
    queue.add("later", 0.02)
    queue.add("now")
    queue.add("now")
    assert await queue.take() == "now"
    async with asyncio.timeout(10):
        assert await queue.take() == "later"
    assert len(queue) == 0


async def test_a_key_that_is_held_is_given_to_nobody_else() -> None:
    queue = KeyedQueue()
    queue.add("one")
    held = await queue.take()
    queue.add("one")
    second = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    assert not second.done()
    queue.done(held)
    async with asyncio.timeout(10):
        assert await second == "one"


async def test_a_far_deadline_that_is_renewed_for_ever_takes_no_memory() -> None:
    """A cluster with a lifetime of days is looked at whenever its agent reports."""
    queue = KeyedQueue()
    for _ in range(2000):
        queue.add("cluster")
        assert await queue.take() == "cluster"
        queue.done("cluster")
        queue.add("cluster", 86400.0)
    assert len(queue._heap) <= SLACK + 2


async def test_every_key_is_taken_though_one_change_wakes_one_taker() -> None:
    queue = KeyedQueue()
    taken: list[str] = []

    async def work() -> None:
        while True:
            key = await queue.take()
            taken.append(key)
            await asyncio.sleep(0)
            queue.done(key)

    workers = [asyncio.create_task(work()) for _ in range(4)]
    await asyncio.sleep(0)
    queue.add("later", 0.05)
    for number in range(20):
        queue.add(f"now-{number}")
        if number % 7 == 0:
            await asyncio.sleep(0)
    queue.add("now-3")
    async with asyncio.timeout(5):
        while not {"later", *(f"now-{number}" for number in range(20))} <= set(taken):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    queue.add("last")
    workers.pop().cancel()  # a taker that sleeps is no longer there: the next one takes
    async with asyncio.timeout(5):
        while "last" not in taken:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


async def test_a_dropped_key_is_not_taken() -> None:
    queue = KeyedQueue()
    queue.add("a")
    queue.add("b")
    queue.drop("a")
    assert await queue.take() == "b"
    assert len(queue) == 0
