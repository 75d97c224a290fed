"""The gateway is killed at many points of its work with YARN: nothing is doubled, nothing is left,
neither in YARN nor in HDFS nor here."""

from __future__ import annotations

import asyncio
import pathlib
import pickle
import signal
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.backends.conformance import Room
from gateway.backends.conformance.room import OTHER_UID, UID
from gateway.backends.contract import Phase
from tests.backends.dying_yarn import Order
from tests.backends.test_yarn import room_of, settings
from tests.parts.yarn import Hadoop, running
from tests.waiting import comes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]
# Where it dies, and what it was about to do; each is followed by the next on the same clusters.
BEFORE_IT_IS_SUBMITTED = ("keep.before", "keep.after", "submit.before", "submit.sent")
WHILE_IT_STARTS = ("submit.after", "named.after", "add.before", "add.sent", "add.after")
WHILE_IT_SHRINKS = ("kill.before", "kill.sent", "kill.after")
WHILE_IT_ENDS = {
    UID: ("shut_down.before", "shut_down.sent"),
    OTHER_UID: ("shut_down.after", "forget.before"),
}


@pytest.fixture(scope="module")
def hadoop() -> Iterator[Hadoop]:
    """One Hadoop for the module."""
    with running() as made:
        yield made


@pytest.fixture
async def room(hadoop: Hadoop, tmp_path: pathlib.Path) -> AsyncIterator[Room]:
    """A gateway on it, which is not open: those that die have its directory."""
    room = room_of(hadoop, tmp_path / "root")
    await room.witness.open()
    yield room
    await room.leave()


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
    hadoop: Hadoop, room: Room, tmp_path: pathlib.Path
) -> None:
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
