"""skein's process and its driver, where they die, hang, or say what nobody understands. The driver
here is no Java, but a script; with a real one they are tried in test_yarn.py."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import subprocess
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.backends.contract import BackendUnavailable
from gateway.backends.local import proc
from gateway.backends.yarn import calls as calls_module
from gateway.backends.yarn import host
from gateway.backends.yarn.calls import Calls, HostSettings, NotAnswered
from gateway.files import write_kept
from tests.parts import executable
from tests.waiting import comes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SILENT = "exec cat"  # a driver that starts, never says where it is, and ends with its host
KILL = {"application": "application_1_0001", "user": ""}


@pytest.fixture
async def made(tmp_path: pathlib.Path) -> AsyncIterator[Callable[..., Calls]]:
    """Make a host's client, whose driver is a script."""
    opened = []

    def make(driver: str = SILENT, deadline_s: float = 60.0) -> Calls:
        (tmp_path / "bin").mkdir(exist_ok=True)
        executable(tmp_path / "bin/yarn", "#!/bin/sh\necho /nowhere\n")
        executable(tmp_path / "bin/java", f"#!/bin/sh\n{driver}\n")
        path = f"{tmp_path}/bin:{os.environ['PATH']}"
        variables = {"PATH": path, "JAVA_HOME": str(tmp_path)}
        calls = Calls(HostSettings(tmp_path, variables, deadline_s, deadline_s, 60.0))
        opened.append(calls)
        return calls

    yield make
    for calls in opened:
        await calls.close()


def host_of(calls: Calls) -> int:
    """Return the process of a host."""
    assert calls._running is not None
    return calls._running.process.pid


async def test_a_host_killed_while_fifty_calls_wait_tells_all_at_once_and_the_next_one_lives(
    made: Callable[..., Calls], tmp_path: pathlib.Path
) -> None:
    calls = made()
    await calls.call("credentials")
    first = host_of(calls)
    waiting = [asyncio.create_task(calls.call("kill_application", **KILL)) for _ in range(50)]
    running = calls._running
    assert running is not None
    await comes(lambda: len(running.waiting) == 50)
    os.kill(first, signal.SIGKILL)
    for answer in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(answer, NotAnswered)
        assert "skein's process has ended" in str(answer)
    await calls.call("credentials")
    assert host_of(calls) != first
    await calls.call("credentials")  # nobody who was late has ended it


async def test_who_waits_for_a_host_that_hangs_is_told_when_it_is_ended_and_ends_no_other(
    made: Callable[..., Calls], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = made()
    await calls.call("credentials")
    running = calls._running
    assert running is not None
    os.kill(host_of(calls), signal.SIGSTOP)
    late = asyncio.create_task(calls.call("kill_application", **KILL))
    await comes(lambda: bool(running.waiting))
    monkeypatch.setattr(calls_module, "PING_S", 0.1)
    monkeypatch.setattr(calls_module, "GRACE_S", 0.1)
    calls._settings.deadline_s = calls._settings.start_s = 0.1
    # by the time that the first is ended, another host may run, and have said so
    with subprocess.Popen(["sleep", "600"]) as another:  # noqa: ASYNC220 (vfork)
        try:
            write_kept(tmp_path / "host", str(proc.identify(another.pid)).encode())
            with pytest.raises(NotAnswered, match="did not answer"):
                await calls.call("credentials")
            with pytest.raises(NotAnswered, match="it was ended, for it did not answer"):
                await late
            assert another.poll() is None
        finally:
            another.kill()
    assert (tmp_path / "host").exists()


async def test_while_a_driver_is_started_again_calls_wait_as_long_as_for_the_first(
    made: Callable[..., Calls], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = made()
    await calls.call("credentials")
    running = calls._running
    assert running is not None
    running.warm = True  # a driver ran, and has died
    monkeypatch.setattr(calls_module, "GRACE_S", 0.1)
    calls._settings.deadline_s = 0.1
    with pytest.raises(BackendUnavailable):  # it was not begun, or not answered
        await calls.call("kill_application", **KILL)
    assert calls._running is running
    assert not running.warm


@pytest.mark.parametrize(
    ("driver", "told"),
    [
        (
            "printf 'no \\001\\377\\n<html>ticket\\n'; exit 1",
            r"its log ends with: no .*<html>ticket",
        ),
        ("exit 0", "its log is empty"),
        ("head -c 3000000 /dev/urandom; exit 3", "its log ends with: "),
    ],
)
async def test_a_driver_that_does_not_start_is_no_refusal_and_told_with_its_last_words(
    made: Callable[..., Calls], driver: str, told: str
) -> None:
    calls = made(driver)
    with pytest.raises(
        BackendUnavailable, match=rf"skein's driver does not start: .*{told}"
    ) as error:
        await calls.call("kill_application", **KILL)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("garbage", [b"[]\n", b"<html>\n"])
async def test_a_host_that_is_not_understood_is_ended_and_the_next_one_answers(
    made: Callable[..., Calls], garbage: bytes
) -> None:
    calls = made()
    await calls.call("credentials")
    running, first = calls._running, host_of(calls)
    assert running is not None
    assert running.reading is not None
    running.reading.cancel()
    await asyncio.gather(running.reading, return_exceptions=True)
    reader = asyncio.StreamReader()
    running.reading = asyncio.create_task(calls._read(running, reader))
    waiting = asyncio.create_task(calls.call("kill_application", **KILL))
    await comes(lambda: bool(running.waiting))
    reader.feed_data(garbage)
    with pytest.raises(NotAnswered):
        await waiting
    await calls.call("credentials")
    assert host_of(calls) != first


def test_what_waited_so_long_that_nobody_would_hear_of_it_is_not_begun() -> None:
    host._Timed.deadline_s, host._Timed.submit_s = 10.0, 60.0
    assert not host.too_late("kill", 5.0)
    assert host.too_late("kill", 4.9)
    assert host.too_late("submit", 29.0)
    assert not host.too_late("submit", 31.0)
    assert host.too_late("kill", -1.0)
