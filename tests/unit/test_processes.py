"""Processes that are kept running: heard, waited for, and started again not too often."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys

import pytest

from gateway import processes


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("ready 127.0.0.1:8000\n", "127.0.0.1:8000"),
        ("ready [::1]:8000", "[::1]:8000"),
        ("", ""),
        ("ready", ""),
        ("ready \n", ""),
        ("already 127.0.0.1:8000\n", ""),
        ("Traceback (most recent call last):\n", ""),
    ],
)
def test_a_process_is_ready_once_it_says_where_it_listens(line: str, address: str) -> None:
    assert processes.ready_address(line) == address
    if address:
        assert processes.ready_address(processes.ready_line(address).decode()) == address


async def test_a_line_is_read_up_to_its_end_or_that_of_who_writes_it() -> None:
    for said, heard in ((b"ready a:1\nmore", "ready a:1\nmore"), (b"half", "half"), (b"", "")):
        reading, writing = os.pipe()
        try:
            os.write(writing, said)
            os.close(writing)
            assert await asyncio.wait_for(processes.read_line(reading), 30) == heard
        finally:
            os.close(reading)


async def test_the_end_of_a_process_is_waited_for_and_of_another_of_its_number_is_not() -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "input()", stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        waiting = asyncio.ensure_future(processes.ended(child.pid))
        await asyncio.wait_for(processes.ended(child.pid, lambda: False), 30)
        assert not waiting.done()
        assert child.stdin is not None
        child.stdin.close()
        await asyncio.wait_for(waiting, 30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
    await processes.ended(child.pid)  # it is gone altogether


def test_pauses_grow_to_a_bound_and_begin_anew_after_a_stable_run() -> None:
    now = [0.0]
    pauses = processes.Pauses(0.5, lambda: now[0])
    assert [pauses.next_s() for _ in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]
    pauses.began()
    now[0] += processes.STABLE_S
    assert pauses.next_s() == 10  # not longer than that
    pauses.began()
    now[0] += processes.STABLE_S + 1
    assert [pauses.next_s(), pauses.next_s()] == [0.5, 0.5]
