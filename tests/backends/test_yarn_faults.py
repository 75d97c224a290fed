"""What happens to clusters on YARN when something dies: a master, the gateway at many points of its
work, the ResourceManager, a node."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pathlib
import pickle
import signal
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.backends.conformance import Room
from gateway.backends.conformance.room import OTHER_UID, UID
from gateway.backends.conformance.stall import longest_stall
from gateway.backends.contract import BackendUnavailable, Phase
from gateway.backends.yarn.backend import YarnBackend
from tests.backends.dying_yarn import Order
from tests.backends.test_yarn import room_of, settings
from tests.parts.yarn import Hadoop, running
from tests.waiting import comes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
# Where it dies, and what it was about to do; each is followed by the next on the same clusters.
BEFORE_IT_IS_SUBMITTED = ("keep.before", "keep.after", "submit.before", "submit.sent")
WHILE_IT_STARTS = ("submit.after", "named.after", "add.before", "add.sent", "add.after")
WHILE_IT_SHRINKS = ("kill.before", "kill.sent", "kill.after")
WHILE_IT_ENDS = {
    UID: ("shut_down.before", "shut_down.sent"),
    OTHER_UID: ("shut_down.after", "forget.before"),
}
LOOP_STALL_S = 0.05  # the longest that the event loop may stand still, whatever hangs
HUNG_S = 14.0  # much longer than a call may take
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
async def room(
    hadoop: Hadoop, tmp_path: pathlib.Path, request: pytest.FixtureRequest
) -> AsyncIterator[Room]:
    """A gateway on it; a test may have settings of its own."""
    room = room_of(hadoop, tmp_path, **getattr(request, "param", {}))
    await room.open()
    yield room
    await room.close()


@pytest.fixture
async def unopened(hadoop: Hadoop, tmp_path: pathlib.Path) -> AsyncIterator[Room]:
    """A gateway on it, which is not open: those that die have its directory."""
    room = room_of(hadoop, tmp_path / "root")
    await room.witness.open()
    yield room
    await room.leave()


def master_of(hadoop: Hadoop, application: str) -> int:
    """Return the process of an application's master, in Java."""
    for pid in hadoop.containers_of(application):
        words = [b""]
        with contextlib.suppress(OSError):  # it has ended meanwhile
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


async def dies(hadoop: Hadoop, place: pathlib.Path, point: str, **what: object) -> None:
    """Run a gateway that does something, and is killed at a point."""
    order = Order(settings(hadoop, place / "root"), point, **what)  # type: ignore[arg-type]
    path = place / "order"
    path.write_bytes(pickle.dumps(order))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.backends.dying_yarn", str(path))
    )
    try:
        assert await process.wait() == -signal.SIGKILL, point
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_gateway_killed_at_any_point_doubles_nothing_and_leaves_nothing(
    hadoop: Hadoop, unopened: Room, tmp_path: pathlib.Path
) -> None:
    room = unopened
    first = [room.launch("scheduler"), room.launch("default-0")]
    going = [room.launch(f"default-{number}", uid=OTHER_UID) for number in range(3)]
    second = [room.launch(name, uid=OTHER_UID) for name in ("scheduler", "default-3")]
    for point in BEFORE_IT_IS_SUBMITTED:
        await dies(hadoop, tmp_path, point, start=first)
    for point in WHILE_IT_STARTS:
        await dies(hadoop, tmp_path, point, start=[*second, *going])

    await room.backend.open(room.push)
    targets = await room.running(*first, *second, *going)
    room.one_alive(*targets)
    assert len(await asyncio.to_thread(hadoop.applications)) == 2
    await room.backend.close()

    kept, going_ = targets[: -len(going)], targets[-len(going) :]
    for point, target in zip(WHILE_IT_SHRINKS, going_, strict=True):
        await dies(hadoop, tmp_path, point, stop=[target])
    await room.backend.open(room.push)
    await room.backend.stop(going_)
    await room.until_gone(going_)
    await room.until(kept, Phase.RUNNING)
    room.one_alive(*kept)
    await room.backend.close()

    for uid, points in WHILE_IT_ENDS.items():
        for point in points:
            await dies(hadoop, tmp_path, point, cleanup=uid)
    await room.backend.open(room.push)
    for uid in (UID, OTHER_UID):
        await room.backend.cleanup(uid)
        await room.backend.purge(uid)
    for target in kept:
        await room.seen_dead(target.instance)
    assert await room.found() == []
    assert await asyncio.to_thread(hadoop.applications) == []
    assert not any((tmp_path / "root" / "applications").iterdir())
    assert not any((tmp_path / "root" / "logs").iterdir())
    await comes(lambda: not hadoop.listed("/user/root/.skein"), 150.0)


@pytest.mark.parametrize("room", [{"call_timeout_s": 6.0}], indirect=True)
async def test_a_resourcemanager_that_hangs_for_long_changes_nothing_and_stalls_nobody(
    hadoop: Hadoop, room: Room
) -> None:
    targets = await room.running(room.launch("scheduler"), room.launch())
    manager = hadoop.daemons["resourcemanager"]
    began = asyncio.get_running_loop().time()
    async with longest_stall(any_thread=True) as worst:
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
    async with longest_stall(any_thread=True) as worst:
        await asyncio.to_thread(hadoop.stop_daemon, "resourcemanager")
        assert isinstance(room.backend, YarnBackend)
        with pytest.raises(BackendUnavailable):
            await room.backend.listing(0.0)  # what was listed a moment ago serves others
        hadoop.node_expiry_s = LOST_AFTER_S  # for the test of a node that is lost
        hadoop.write_configuration()
        hadoop.start_daemon("resourcemanager")
        await asyncio.to_thread(hadoop.until_node_runs)
        await room.until(targets, Phase.RUNNING)
        late = await room.running(room.launch("default-1"))
    assert worst[0] < LOOP_STALL_S
    room.one_alive(*targets, *late)


@pytest.mark.parametrize("room", [{"end_s": 15.0}], indirect=True)
async def test_a_node_that_is_lost_is_the_reason(hadoop: Hadoop, room: Room) -> None:
    targets = await room.running(room.launch("scheduler"), room.launch())
    (application,) = await asyncio.to_thread(hadoop.applications)
    processes = hadoop.containers_of(application["id"])
    # the machine goes, with all that runs there
    await asyncio.to_thread(hadoop.stop_daemon, "nodemanager", signal.SIGKILL)
    try:
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        async with longest_stall(any_thread=True) as worst:
            seen = await room.until_gone(targets)
        assert worst[0] < LOOP_STALL_S
        for one in seen.values():
            assert "its node was lost" in one.message
    finally:
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
