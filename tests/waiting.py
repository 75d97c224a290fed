"""Waits for what no event tells of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def until(holds: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    """Look again and again until something holds; AssertionError with what was awaited if it never
    does."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.1)


async def comes(holds: Callable[[], object], timeout_s: float = 60.0) -> None:
    """The same on an event loop; TimeoutError if it never does."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
