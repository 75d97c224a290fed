"""What benchmarks measure of an event loop's stalls is the stall of the time that is meant."""

from __future__ import annotations

import asyncio
import pathlib
import time

from benchmarks import probe

STALL_S = 2.0  # no machine is ever so late by itself


async def test_a_stall_counts_for_the_time_in_which_it_was(tmp_path: pathlib.Path) -> None:
    """The one before was noted after it had been taken, and so counted for what followed."""
    path = tmp_path / "stall"
    probe.begin(asyncio.get_running_loop(), str(path))
    await asyncio.sleep(0)
    time.sleep(STALL_S)  # noqa: ASYNC251 (it is what is measured)
    before_ms, _ = await probe.settled(path)
    assert before_ms > STALL_S * 900
    after_ms, _ = await probe.settled(path)
    assert after_ms < STALL_S * 900
