"""The YARN backend in a process that is killed at a point: `python -m tests.backends.dying_yarn
ORDER`, a pickled Order.

A point is `OPERATION.before`, `.sent` (the request has left, and no answer was read) or `.after`
of a call to skein's process, or a method of the records of applications, likewise `.before` or
`.after`.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import pickle
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from gateway.backends.contract import Launch, Target
from gateway.backends.yarn.backend import YarnBackend
from gateway.backends.yarn.calls import Calls
from gateway.backends.yarn.record import Records

ALIVE_S = 120.0  # that a process which does not come to its point lives


@dataclass(frozen=True)
class Order:
    """What a process is to do, and when it dies."""

    settings: Mapping[str, object]
    point: str
    start: Sequence[Launch] = ()
    stop: Sequence[Target] = ()
    cleanup: str = ""  # of the cluster with this uid


def die(*_: object) -> NoReturn:
    """End without a warning."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it lives on")


def arm_call(operation: str, when: str) -> None:
    """Have a call to skein's process kill this one."""
    asked: Any = Calls._ask

    async def ask(
        self: Calls, running: Any, deadline_s: float, asked_for: str, said: Mapping[str, object]
    ) -> Any:
        if asked_for != operation:
            return await asked(self, running, deadline_s, asked_for, said)
        if when == "before":
            die()
        work = asyncio.ensure_future(asked(self, running, deadline_s, asked_for, said))
        if when == "sent":
            await asyncio.sleep(0)  # the task writes in its first step
            die()
        await work
        die()

    setattr(Calls, "_ask", ask)  # noqa: B010 (a method is replaced)


def arm_record(name: str, when: str) -> None:
    """Have a method of the records kill this process."""
    done: Callable[..., Any] = getattr(Records, name)

    def called(self: Records, *given: object) -> NoReturn:
        if when == "after":
            done(self, *given)
        die()

    setattr(Records, name, called)


async def obey(order: Order) -> None:
    """Do what was ordered, and wait for the end."""
    name, _, when = order.point.partition(".")
    (arm_record if hasattr(Records, name) else arm_call)(name, when)
    backend = YarnBackend(**order.settings)
    await backend.open(lambda _: None)
    if order.start:
        await backend.start(order.start)
    if order.stop:
        await backend.stop(order.stop)
    if order.cleanup:
        await backend.cleanup(order.cleanup)
    await asyncio.sleep(ALIVE_S)


if __name__ == "__main__":
    asyncio.run(obey(pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())))
