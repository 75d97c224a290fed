"""An event loop whose clock jumps to whatever is due next: minutes pass in no time, and always
alike.

For code that knows no other clock than its loop's, and waits for nothing from outside.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Jump(selectors.SelectSelector):
    """Lets no time pass: tells the loop that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events:
            assert timeout is not None, "everybody waits for what will never come"
            self.now += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run work to its end on such a loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work)
