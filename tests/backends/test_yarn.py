"""The YARN backend with a real Hadoop: ResourceManager, NodeManager and HDFS."""

from __future__ import annotations

import asyncio
import dataclasses
import getpass
import json
import logging
import pathlib
import shutil
import signal
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from gateway.backends.conformance import Conformance, Room
from gateway.backends.conformance.room import OTHER_UID
from gateway.backends.conformance.stall import MAX_STALL_S, longest_stall
from gateway.backends.contract import Backend, Phase, Resources, StartFailed
from gateway.backends.local import proc
from gateway.backends.yarn.backend import YarnBackend
from gateway.backends.yarn.calls import NotAnswered, Refused
from tests.parts.yarn import Hadoop, running
from tests.parts.yarn.configuration import LEAST_MB
from tests.waiting import comes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]


@pytest.fixture(scope="module")
def hadoop() -> Iterator[Hadoop]:
    """One Hadoop for the module."""
    with running() as made:
        yield made


def settings(hadoop: Hadoop, root: pathlib.Path) -> dict[str, object]:
    """Return the settings of a gateway on a Hadoop."""
    return {
        "root": str(root),
        "resourcemanager_urls": [hadoop.rm_url],
        "commands_directory": str(hadoop.bin),
        "allocation_mb": LEAST_MB,
        "observe_interval_s": 0.4,
        "call_timeout_s": 10.0,
        "end_s": 60.0,
        # a JVM that starts on a machine that does much else
        "driver_start_s": 240.0,
        "submit_timeout_s": 180.0,
        "master_memory_mb": 256,
    }


def room_of(hadoop: Hadoop, root: pathlib.Path, **more: object) -> Room:
    """Return a room; its backend is not open yet."""
    given = settings(hadoop, root) | more

    async def again() -> Backend:
        return YarnBackend(**given)

    async def stranger() -> Backend:
        return YarnBackend(**{**given, "root": f"{root}-another"})

    @asynccontextmanager
    async def outage() -> AsyncIterator[None]:
        manager = hadoop.daemons["resourcemanager"]
        manager.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            manager.send_signal(signal.SIGCONT)

    return Room(
        YarnBackend(**given),
        again=again,
        stranger=stranger,
        outage=outage,
        refused={"queue": "nosuch"},
        shown=lambda: json.dumps(hadoop.applications("RUNNING", "FINISHED", "KILLED")),
        look_s=0.3,
        patience_s=240.0,
        lag_s=5.0,
        lose_files=lambda uid: shutil.rmtree(root / "logs" / uid),
    )


class TestYarn(Conformance):
    """A real Hadoop."""

    @pytest.fixture
    async def room(self, hadoop: Hadoop, tmp_path: pathlib.Path) -> AsyncIterator[Room]:
        room = room_of(hadoop, tmp_path)
        await room.open()
        yield room
        await room.close()
        async with asyncio.timeout(150):
            while await asyncio.to_thread(hadoop.applications):  # noqa: ASYNC110
                await asyncio.sleep(0.3)


def pids(root: pathlib.Path) -> tuple[proc.ProcessId, proc.ProcessId]:
    """Return the host and its driver, as they are recorded."""
    host, driver = map(proc.parse_process_id, (root / "host").read_text().split())
    assert host is not None
    assert driver is not None
    return host, driver


async def gone(*processes: proc.ProcessId) -> None:
    """Wait until processes have ended."""
    await comes(lambda: not any(map(proc.alive, processes)), 60.0)


async def ask_driver(backend: YarnBackend) -> None:
    """Ask something that the driver alone answers; it refuses, for there is no such application."""
    with pytest.raises(Refused, match="application_1_0001"):
        await backend.calls.call("kill_application", application="application_1_0001", user="")


async def test_a_driver_or_host_that_is_killed_or_hangs_is_started_anew_and_stalls_nobody(
    hadoop: Hadoop, tmp_path: pathlib.Path
) -> None:
    given = settings(hadoop, tmp_path) | {"call_timeout_s": 6.0}
    backend = YarnBackend(**given)
    await backend.open(lambda _: None)
    try:
        await ask_driver(backend)
        host, driver = pids(tmp_path)
        async with longest_stall() as worst:
            proc.send(driver, signal.SIGKILL)
            with pytest.raises((NotAnswered, Refused)):
                await backend.calls.call(
                    "kill_application", application="application_1_0001", user=""
                )
            await ask_driver(backend)
            again, second = pids(tmp_path)
            assert (again, second != driver) == (host, True)
            proc.send(second, signal.SIGSTOP)
            for _ in range(2):
                with pytest.raises(NotAnswered, match="no answer within 6 s"):
                    await backend.calls.call(
                        "kill_application", application="application_1_0001", user=""
                    )
            await gone(second)
            await ask_driver(backend)
            host, third = pids(tmp_path)
            proc.send(host, signal.SIGKILL)
            await gone(host, third)
            await ask_driver(backend)
            host, fourth = pids(tmp_path)
            proc.send(host, signal.SIGSTOP)
            with pytest.raises(NotAnswered):
                await ask_driver(backend)
            await gone(host, fourth)
            await ask_driver(backend)
        assert worst[0] < MAX_STALL_S
    finally:
        left = pids(tmp_path)
        await backend.close()
        await gone(*left)


async def test_more_than_the_queue_gives_is_refused_with_its_number(
    hadoop: Hadoop, tmp_path: pathlib.Path
) -> None:
    backend = YarnBackend(**settings(hadoop, tmp_path))
    await backend.open(lambda _: None)
    room = room_of(hadoop, tmp_path)
    try:
        for fields, told in (
            ({"resources": Resources(1.0, 8 * 2**30)}, "8192 MiB of memory, and queue default"),
            ({"resources": Resources(5.0, 2**27)}, "5 cores, and queue default gives at most 4"),
            ({"resources": Resources(1.0, 2**27, 1)}, "1 gpus, and queue default gives none"),
            ({"options": {"queue": "stopped"}}, "queue stopped is stopped"),
            ({"options": {"queue": "nosuch"}}, "there is no queue nosuch"),
            ({"options": {"node_label": "fast"}}, "does not know its node label"),
        ):
            launch = room.launch(code="pass", **fields)
            outcome = (await backend.start([launch]))[launch.instance]
            assert isinstance(outcome, StartFailed)
            assert outcome.permanent
            assert told in outcome.message
        assert await asyncio.to_thread(hadoop.applications) == []
        assert not any((tmp_path / "applications").iterdir())
    finally:
        await backend.close()


async def test_files_that_take_long_to_come_are_told_and_no_failure(
    hadoop: Hadoop, tmp_path: pathlib.Path
) -> None:
    archive = tmp_path / "environment.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(__file__, "here.py")
    room = room_of(hadoop, tmp_path / "root", archives={"new": str(archive)}, archive="new")
    await room.open()
    try:
        backend = room.backend
        assert isinstance(backend, YarnBackend)
        data = hadoop.daemons["datanode"]
        asked = backend.calls.call

        async def call(operation: str, **said: object) -> dict[str, object]:
            if operation == "add":  # the application runs; its first container is about to come
                data.send_signal(signal.SIGSTOP)
            return await asked(operation, **said)

        backend.calls.call = call  # type: ignore[method-assign]
        try:
            (target,) = await room.start(room.launch())

            async def told() -> str:
                seen = (await room.look([target])).get(target.instance)
                assert seen is None or seen.phase is Phase.QUEUED
                return "" if seen is None else seen.message

            async with asyncio.timeout(240):
                while "its files are being brought to node" not in await told():  # noqa: ASYNC110
                    await asyncio.sleep(room.look_s)
        finally:
            data.send_signal(signal.SIGCONT)
        await room.until([target], Phase.RUNNING)
        await room.seen_alive(target.instance)
    finally:
        await room.close()


async def test_files_that_cannot_be_unpacked_are_the_reason(
    hadoop: Hadoop, tmp_path: pathlib.Path
) -> None:
    archive = tmp_path / "environment.tar.gz"
    archive.write_text("no archive at all")
    room = room_of(hadoop, tmp_path / "root", archives={"new": str(archive)}, archive="new")
    await room.open()
    try:
        targets = await room.start(room.launch("scheduler"), room.launch())
        for one in (await room.until_gone(targets)).values():
            assert "its files could not be brought to the node" in one.message
    finally:
        await room.close()


async def test_a_file_that_is_not_there_is_the_reason(
    hadoop: Hadoop, tmp_path: pathlib.Path
) -> None:
    room = room_of(hadoop, tmp_path / "root", files={"model": "hdfs:///nowhere/model.bin"})
    await room.open()
    try:
        launch = room.launch("scheduler")
        outcome = (await room.backend.start([launch]))[launch.instance]
        assert isinstance(outcome, StartFailed)
        assert outcome.permanent
        assert "a file to localise is not there: " in outcome.message
        assert "/nowhere/model.bin" in outcome.message
    finally:
        await room.close()


async def test_a_queue_that_runs_as_many_applications_as_it_may_is_told_until_one_ends(
    hadoop: Hadoop, tmp_path: pathlib.Path
) -> None:
    # a tenth of the node; of that, eight tenths for masters of 256 MiB
    room = room_of(hadoop, tmp_path / "root", queue="small", detail_interval_s=1.0)
    await room.open()
    try:
        first, other = "c" + "d" * 20, "c" + "e" * 20
        one = await room.start(room.launch("scheduler", uid=first))
        await room.until(one, Phase.RUNNING)
        uids = [other, "c" + "f" * 20]
        more = [(await room.start(room.launch("scheduler", uid=uid)))[0] for uid in uids]
        words = (
            "queue small runs as many applications as it may (its limit for application masters"
            " is reached)"
        )

        async def waits() -> bool:
            seen = await room.look(more)
            return any(words in told.message for told in seen.values())

        async with asyncio.timeout(240):
            while not await waits():  # noqa: ASYNC110
                await asyncio.sleep(room.look_s)
        await room.backend.stop([*one, *more])
        await room.until_gone([*one, *more])
    finally:
        for uid in (first, *uids):
            await room.backend.cleanup(uid)
        await room.close()


async def test_applications_are_their_users_own_and_small_workers_come_at_once(
    hadoop: Hadoop, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where Hadoop lets the gateway act for its users; with two sizes, of which skein would lose
    the first worker."""
    caplog.set_level(logging.INFO)
    await asyncio.to_thread(hadoop.make_directory, "/user/alice", "700", "alice")
    large, small = Resources(1.0, 3 * LEAST_MB * 2**20), Resources(1.0, LEAST_MB * 2**20)
    sizes = {
        f"{role}_{what}": value
        for role, size in (("scheduler", large), ("worker", small))
        for what, value in (("memory", size.memory_bytes), ("cores", 1))
    }
    room = room_of(hadoop, tmp_path / "root", identity="proxy")
    await room.open()
    try:
        targets = await room.running(room.launch("scheduler", resources=large, options=sizes))
        names = ("default-0", "default-1")
        targets += await room.running(
            *(room.launch(name, resources=small, options=sizes) for name in names)
        )
        room.one_alive(*targets)
        assert "asking again" not in caplog.text
        (application,) = await asyncio.to_thread(hadoop.applications)
        assert application["user"] == "alice"
        assert {seen.user for seen in await room.backend.find()} == {"alice"}
        assert await asyncio.to_thread(hadoop.listed, "/user/alice/.skein")
        assert "here is default-0" in await room.log_with(targets[1], "here is")
        await room.backend.stop(targets)
        await room.until_gone(targets)
        for user, told in (
            ("bob", "HDFS does not let bob write to"),  # there is no /user/bob
            ("eve", f"Hadoop does not let the gateway ({getpass.getuser()}) act for eve"),
        ):
            launch = dataclasses.replace(room.launch(uid=OTHER_UID), user=user)
            outcome = (await room.backend.start([launch]))[launch.instance]
            assert isinstance(outcome, StartFailed)
            assert told in outcome.message
    finally:
        await room.close()
    await comes(lambda: not hadoop.listed("/user/alice/.skein"), 150.0)
