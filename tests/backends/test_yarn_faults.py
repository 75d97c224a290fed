"""What happens to clusters on YARN when a part of Hadoop dies: a master, the ResourceManager."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pathlib
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.backends.conformance import Room
from gateway.backends.conformance.stall import longest_stall
from gateway.backends.contract import BackendUnavailable, Phase
from tests.backends.test_yarn import room_of
from tests.parts.yarn import Hadoop, running
from tests.waiting import comes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]
LOOP_STALL_S = 0.05  # the longest that the event loop may stand still, whatever hangs
HUNG_S = 20.0  # much longer than a call may take
LOST_AFTER_S = 20.0  # a node that says nothing


@pytest.fixture(autouse=True)
def small_heap() -> Iterator[None]:
    """Keep Python's collector, which stops all threads, to what is new, as a server does."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def hadoop() -> Iterator[Hadoop]:
    """One Hadoop for the module, whose parts die."""
    with running() as made:
        yield made


@pytest.fixture
async def room(hadoop: Hadoop, tmp_path: pathlib.Path) -> AsyncIterator[Room]:
    """A gateway on it."""
    room = room_of(hadoop, tmp_path)
    await room.open()
    yield room
    await room.close()


def master_of(hadoop: Hadoop, application: str) -> int:
    """Return the process of an application's master, in Java."""
    for pid in hadoop.containers_of(application):
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"com.anaconda.skein.ApplicationMaster" in words and b"bash" not in words[0]:
            return pid
    raise AssertionError(f"{application} has no master")


async def test_a_master_that_dies_is_told_and_leaves_nothing(hadoop: Hadoop, room: Room) -> None:
    targets = await room.running(room.launch("scheduler"), room.launch())
    (application,) = await asyncio.to_thread(hadoop.applications)
    os.kill(master_of(hadoop, application["id"]), signal.SIGKILL)
    seen = await room.until_gone(targets)
    for one in seen.values():
        assert "its application master ended with code 137" in one.message
    assert "here is scheduler" in await room.log(targets[0])
    await comes(lambda: not hadoop.listed("/user/root/.skein"), 150.0)


async def test_a_resourcemanager_that_hangs_for_long_changes_nothing_and_stalls_nobody(
    hadoop: Hadoop, room: Room
) -> None:
    targets = await room.running(room.launch("scheduler"), room.launch())
    manager = hadoop.daemons["resourcemanager"]
    began = asyncio.get_running_loop().time()
    async with longest_stall() as worst:
        manager.send_signal(signal.SIGSTOP)
        try:
            # each is tried again and again, as the server does
            while asyncio.get_running_loop().time() < began + HUNG_S:
                with pytest.raises(BackendUnavailable, match="did not answer within 6 s"):
                    await room.backend.start([room.launch("default-1")])
                with pytest.raises(BackendUnavailable):
                    await room.backend.observations(targets)
                with pytest.raises(BackendUnavailable):
                    await room.backend.stop(targets)
        finally:
            manager.send_signal(signal.SIGCONT)
        late = await room.running(room.launch("default-1"))
    assert worst[0] < LOOP_STALL_S
    await room.until(targets, Phase.RUNNING)
    room.one_alive(*targets, *late)


async def test_a_resourcemanager_that_recovers_changes_nothing(hadoop: Hadoop, room: Room) -> None:
    targets = await room.running(room.launch("scheduler"), room.launch())
    async with longest_stall() as worst:
        await asyncio.to_thread(hadoop.stop_daemon, "resourcemanager")
        with pytest.raises(BackendUnavailable):
            await room.backend.find()
        hadoop.node_expiry_s = LOST_AFTER_S  # for the test of a node that is lost
        hadoop.write_configuration()
        hadoop.start_daemon("resourcemanager")
        await asyncio.to_thread(hadoop.until_node_runs)
        await room.until(targets, Phase.RUNNING)
        late = await room.running(room.launch("default-1"))
    assert worst[0] < LOOP_STALL_S
    room.one_alive(*targets, *late)


async def test_a_node_that_is_lost_is_the_reason(hadoop: Hadoop, room: Room) -> None:
    targets = await room.running(room.launch("scheduler"), room.launch())
    (application,) = await asyncio.to_thread(hadoop.applications)
    async with longest_stall() as worst:
        # the machine goes, with all that runs there
        hadoop.stop_daemon("nodemanager", signal.SIGKILL)
        for pid in hadoop.containers_of(application["id"]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        seen = await room.until_gone(targets)
    assert worst[0] < LOOP_STALL_S
    for one in seen.values():
        assert "its node was lost" in one.message
    hadoop.start_daemon("nodemanager")
    await asyncio.to_thread(hadoop.until_node_runs)
    await comes(lambda: not hadoop.listed("/user/root/.skein"), 150.0)


async def test_a_resourcemanager_that_forgets_is_the_reason(hadoop: Hadoop, room: Room) -> None:
    targets = await room.running(room.launch("scheduler"), room.launch())
    await asyncio.to_thread(hadoop.stop_daemon, "resourcemanager")
    hadoop.recovery = False
    hadoop.write_configuration()
    hadoop.start_daemon("resourcemanager")
    await asyncio.to_thread(hadoop.until_node_runs)
    for one in (await room.until_gone(targets)).values():
        assert "the ResourceManager does not know its application any more" in one.message
