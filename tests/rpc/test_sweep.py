"""A sweep reads no record anew of what the poll knows and nothing has changed since, and still ends
what nobody intends."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.backends.contract import SCHEDULER_NAME, Instance, Launch, Role
from gateway.server.core.model import Cluster, Launching, Scheduler, Spec, State
from gateway.server.keeping.doubts import Doubts
from gateway.server.reconcile.sweep import Watcher
from gateway.server.store.memory import MemoryStore
from tests.rpc.harness import PretendBackend

UID = "c" + "a" * 20
SCHEDULER = Instance(UID, Role.SCHEDULER, SCHEDULER_NAME)
RUNNING = Scheduler(launching=Launching.RUNNING, handle="handle")
LIVING = Cluster(UID, "alice", "etl", Spec("pretend"), state=State.ACTIVE, scheduler=RUNNING)


class CountingStore(MemoryStore):
    """Counts what is read."""

    reads = 0

    async def read(self, work: Callable[..., Any]) -> Any:
        self.reads += 1
        return await super().read(work)


class Room:
    """A living cluster, whose scheduler runs."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.store, self.backend = CountingStore(), PretendBackend()
        self.backend.push = lambda _: None
        self.run(SCHEDULER)
        self.doubts = Doubts(directory, directory / "gateway.db", self.store, "", ["pretend"])
        self.watcher = Watcher(self.store, "pretend", self.backend, lambda _: None, self.doubts)

    def run(self, instance: Instance) -> None:
        self.backend.running[instance] = Launch(instance, "alice", ())


@pytest.fixture
async def room(tmp_path: pathlib.Path) -> AsyncIterator[Room]:
    made = Room(tmp_path)
    await made.store.open()
    await made.store.transact(lambda tx: tx.put_cluster(LIVING))
    await made.doubts.open()
    await made.watcher.poll()
    yield made
    await made.doubts.close()
    await made.store.close()


async def test_what_has_not_changed_is_not_read_again(room: Room) -> None:
    """Also found: 10,000 idle clusters were read once a minute, which took a second of CPU."""
    before = room.store.reads
    await room.watcher.sweep()
    assert room.store.reads == before
    assert list(room.backend.running) == [SCHEDULER]


async def test_a_stranger_in_a_known_cluster_is_looked_at(room: Room) -> None:
    before = room.store.reads
    room.run(Instance(UID, Role.WORKER, "default-0"))
    await room.watcher.sweep()
    assert room.store.reads == before + 1


@pytest.mark.parametrize("polled", [False, True])
async def test_what_has_ended_since_is_ended(room: Room, polled: bool) -> None:
    present = room.store.view.cluster(UID)
    assert present is not None
    ended = replace(present, state=State.STOPPED, scheduler=Scheduler())
    await room.store.transact(lambda tx: tx.put_cluster(ended))
    if polled:
        await room.watcher.poll()
    await room.watcher.sweep()
    assert not room.backend.running
