"""What broken backends are made of: sound ones, and the list that each is entered in with the test
that is meant to notice it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from gateway.backends.contract import (
    Launch,
    Target,
)
from gateway.backends.local.backend import LocalBackend

Broken = tuple[str, type[Any]]
CONNECT_S = 5.0
BROKEN: list[Broken] = []  # the test that is meant to notice, and the backend


def noticed_by(test: str) -> Callable[[type[Any]], type[Any]]:
    """Enter a broken backend under the test that is meant to notice it."""

    def enter(made: type[Any]) -> type[Any]:
        BROKEN.append((test, made))
        return made

    return enter


class Local(LocalBackend):
    """Processes of this machine, which other faults are added to."""

    def alive(self, targets: Sequence[Target]) -> list[Target]:
        """Return the targets that run."""
        return [target for target in targets if target.instance in self._running]

    async def another(self, launch: Launch) -> None:
        """Start one more process of an instance, which nobody watches."""
        child = await asyncio.to_thread(self._spawn, launch)
        child.returncode = 0
        await asyncio.to_thread(_connected, child.pid)


def _connected(pid: int) -> None:
    """Wait until a process has its connection to the test, by which it is seen: on a busy machine
    that takes a while. At most CONNECT_S."""
    deadline = time.monotonic() + CONNECT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if any(
                os.readlink(entry).startswith("socket:")
                for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir()
            ):
                return
        time.sleep(0.01)
