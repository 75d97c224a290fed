"""A machine room of nothing: whatever is started runs at once, in memory. For benchmarks of the
server and for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from traitlets import Bool

from gateway.backends.base import BaseBackend
from gateway.backends.contract import (
    Instance,
    Launch,
    Observation,
    Phase,
    Resources,
    Started,
    StartOutcome,
    Target,
)


class NoopBackend(BaseBackend):
    """Starts nothing and says that it runs."""

    name = "noop"

    local = Bool(
        True, help="Whether what pretends to be a scheduler may be on the gateway's own machine."
    ).tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._running: set[Instance] = set()

    def objection(self, resources: Resources, settings: Mapping[str, object]) -> str:
        """Object to nothing."""
        return ""

    async def start(self, launches: Sequence[Launch]) -> Mapping[Instance, StartOutcome]:
        """Note that they run."""
        self._running |= {launch.instance for launch in launches}
        self.push(
            [Observation(launch.instance, Phase.RUNNING, handle="noop") for launch in launches]
        )
        return {launch.instance: Started("noop") for launch in launches}

    async def stop(self, targets: Sequence[Target]) -> None:
        """Note that they are gone."""
        self._running -= {target.instance for target in targets}
        self.push([Observation(target.instance, Phase.GONE) for target in targets])

    async def observations(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        """Say what was noted."""
        phases = {
            target.instance: Phase.RUNNING if target.instance in self._running else Phase.GONE
            for target in targets
        }
        return {
            instance: Observation(instance, phase, "noop") for instance, phase in phases.items()
        }

    async def find(self) -> Sequence[Observation]:
        """Return what was noted."""
        return [Observation(instance, Phase.RUNNING, "noop") for instance in sorted(self._running)]

    async def cleanup(self, uid: str) -> None:
        """Nothing is left behind."""

    async def purge(self, uid: str) -> None:
        """Nothing is kept."""

    async def logs(
        self, target: Target, *, tail_lines: int = 0, follow: bool = False
    ) -> AsyncIterator[str]:
        """Yield nothing."""
        nothing: tuple[str, ...] = ()
        for piece in nothing:
            yield piece
