"""Backends that take an outage for an end, forget with a restart, or hold up the event loop."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Launch,
    Observation,
    Phase,
    StartFailed,
    StartOutcome,
    Target,
)
from gateway.backends.local import proc
from tests.backends.broken.base import Local, noticed_by
from tests.backends.pretend import PretendBackend


@noticed_by("test_after_a_restart_what_runs_is_found_and_adopted")
class FindsNothingAfterARestart(Local):
    """Knows only what it has started itself."""

    def _scan(self) -> list[Any]:
        return []


@noticed_by("test_after_a_restart_what_runs_is_found_and_adopted")
class EndsAllWhenItCloses(Local):
    """Takes its processes with it."""

    async def close(self) -> None:
        for running in self._running.values():
            proc.send(running.process, signal.SIGKILL, group=True)
        await super().close()


@noticed_by("test_what_ended_while_nobody_looked_is_gone_after_a_restart")
class RemembersTheDeadAsRunning(Local):
    """Says of everything with a handle that it runs, without looking."""

    async def observations(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        return {
            target.instance: Observation(target.instance, Phase.RUNNING, target.handle)
            for target in targets
            if target.handle
        }


@noticed_by("test_an_outage_is_no_end_and_nothing_is_lost_or_doubled")
class AnOutageIsAnEnd(PretendBackend):
    """Takes no answer for an empty one."""

    async def observations(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        try:
            return await super().observations(targets)
        except BackendUnavailable:
            return {target.instance: Observation(target.instance, Phase.GONE) for target in targets}


@noticed_by("test_an_outage_is_no_end_and_nothing_is_lost_or_doubled")
class AnOutageFindsNothing(PretendBackend):
    """Finds nothing while nothing answers, and says that all is well."""

    async def find(self) -> Sequence[Observation]:
        try:
            return await super().find()
        except BackendUnavailable:
            return []


@noticed_by("test_an_outage_is_no_end_and_nothing_is_lost_or_doubled")
class AnOutageIsARefusal(PretendBackend):
    """Says of a start that nobody answered that it failed."""

    async def start(self, launches: Sequence[Launch]) -> Mapping[Instance, StartOutcome]:
        try:
            return await super().start(launches)
        except BackendUnavailable as error:
            return {launch.instance: StartFailed(str(error)) for launch in launches}


@noticed_by("test_an_outage_is_no_end_and_nothing_is_lost_or_doubled")
class HangsInAnOutage(PretendBackend):
    """Waits for an answer for ever."""

    async def find(self) -> Sequence[Observation]:
        while True:
            try:
                return await super().find()
            except BackendUnavailable:
                await asyncio.sleep(0.1)


@noticed_by("test_an_outage_is_no_end_and_nothing_is_lost_or_doubled")
class SaysNothingOfTheOutage(PretendBackend):
    """Has no words for it."""

    async def observations(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        try:
            return await super().observations(targets)
        except BackendUnavailable:
            raise BackendUnavailable from None


@noticed_by("test_a_stop_in_an_outage_fails_as_often_as_it_is_asked_for_and_is_done_afterwards")
class NotesWhatNobodyAnswered(PretendBackend):
    """Holds a stop that failed for one that was asked."""

    async def stop(self, targets: Sequence[Target]) -> None:
        self._tried: set[object] = getattr(self, "_tried", set())
        fresh = [target for target in targets if target.instance not in self._tried]
        self._tried |= {target.instance for target in targets}
        if fresh:
            await super().stop(fresh)


def _blocking(call: str, test: str = "test_no_call_holds_up_the_event_loop") -> None:
    """Enter a backend one of whose calls holds up the event loop."""

    async def blocks(self: Any, *args: Any) -> Any:
        time.sleep(0.4)  # noqa: ASYNC251 (which is the fault)
        return await getattr(Local, call)(self, *args)

    noticed_by(test)(
        type(
            f"Blocks{call.title()}",
            (Local,),
            {call: blocks, "__doc__": f"Holds up the event loop in {call}."},
        )
    )


for _call in ("start", "observations", "find", "stop", "cleanup", "purge"):
    _blocking(_call)


@noticed_by("test_no_call_holds_up_the_event_loop")
class BlocksLogs(Local):
    """Holds up the event loop in logs."""

    async def logs(
        self, target: Target, *, tail_lines: int = 0, follow: bool = False
    ) -> AsyncIterator[str]:
        time.sleep(0.4)  # noqa: ASYNC251 (which is the fault)
        async for piece in super().logs(target, tail_lines=tail_lines, follow=follow):
            yield piece
