"""Counts from within what a server asks of Hadoop: its requests to web services, and its calls to
skein's process. Each is a byte in a file, so another process can count them."""

from __future__ import annotations

import pathlib
import time
from typing import Any


def note(path: str) -> None:
    """Note every request and call of this process from now on: for the configuration file of a
    server under test."""
    from gateway.backends.yarn.calls import Calls
    from gateway.backends.yarn.rest import Rest

    file = pathlib.Path(path).open("ab", buffering=0)  # noqa: SIM115 (as long as the process)
    asked: Any = Rest._once
    called: Any = Calls.call

    async def get(self: Rest, *given: Any) -> Any:
        file.write(b"r")
        return await asked(self, *given)

    async def call(self: Calls, operation: str, **said: Any) -> Any:
        file.write(b"s")
        return await called(self, operation, **said)

    setattr(Rest, "_once", get)  # noqa: B010 (a method is replaced)
    setattr(Calls, "call", call)  # noqa: B010


def count(path: pathlib.Path) -> int:
    """Return how many there were."""
    return path.stat().st_size if path.exists() else 0


def quiet_s(path: pathlib.Path) -> float:
    """Return for how many seconds there has been none."""
    return time.time() - path.stat().st_mtime if path.exists() else 0.0
