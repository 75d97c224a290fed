"""Backends that tell of what is not, or not of what is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.backends.contract import (
    Instance,
    Observation,
    Phase,
    Role,
    Target,
)
from gateway.backends.local import proc
from tests.backends.broken.base import Local, noticed_by


@noticed_by("test_what_runs_is_told_to_run_at_every_look")
class GoneTooEarly(Local):
    """Says of what runs that it is gone, once in a while."""

    looks = 0

    async def observations(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        GoneTooEarly.looks += 1
        seen = dict(await super().observations(targets))
        if GoneTooEarly.looks % 7 == 0:
            seen[targets[-1].instance] = Observation(targets[-1].instance, Phase.GONE)
        return seen


@noticed_by("test_what_runs_is_told_to_run_at_every_look")
class PushesEnds(Local):
    """Tells unasked that something has ended which runs."""

    async def find(self) -> Sequence[Observation]:
        found = await super().find()
        self.push([Observation(seen.instance, Phase.GONE) for seen in found[1:2]])
        return found


@noticed_by("test_what_runs_is_told_to_run_at_every_look")
class Forgets(Local):
    """Forgets what it has found, after a while."""

    looks = 0

    async def find(self) -> Sequence[Observation]:
        self.looks += 1
        return (await super().find())[: 2 if self.looks > 4 else None]


@noticed_by("test_what_runs_is_told_to_run_at_every_look")
class TellsOfOthers(Local):
    """Tells of everything, whatever it is asked about."""

    async def observations(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        everybody = [*targets, Target(Instance("c" + "z" * 20, Role.WORKER, "default-0"))]
        return await super().observations(everybody)


@noticed_by("test_handles_are_told_alike_by_whoever_is_asked")
class HandlesOfItsOwn(Local):
    """Finds instances under other handles than those that it was started with."""

    async def find(self) -> Sequence[Observation]:
        return [replace(seen, handle=f"found-{seen.handle}") for seen in await super().find()]


@noticed_by("test_what_is_unknown_is_gone_before_long")
class RaisesForTheUnknown(Local):
    """Has no answer for what it does not know."""

    async def observations(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        for target in targets:
            if target.instance not in self._running and target.instance not in self._ended:
                raise KeyError(target.instance)
        return await super().observations(targets)


@noticed_by("test_what_is_unknown_is_gone_before_long")
class WaitsForTheUnknown(Local):
    """Leaves out for ever what it does not know."""

    async def observations(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        seen = await super().observations(targets)
        return {
            instance: one
            for instance, one in seen.items()
            if instance in self._running or instance in self._ended
        }


@noticed_by("test_what_exists_is_found_until_it_is_gone_and_nothing_else")
class FindsWhatIsGone(Local):
    """Finds what has ended, too."""

    async def find(self) -> Sequence[Observation]:
        return [
            *await super().find(),
            *(replace(seen, phase=Phase.RUNNING) for seen in self._ended.values()),
        ]


@noticed_by("test_what_exists_is_found_until_it_is_gone_and_nothing_else")
class FindsOneClusterOnly(Local):
    """Finds what is of the first cluster that it comes upon."""

    async def find(self) -> Sequence[Observation]:
        found = await super().find()
        return [seen for seen in found if seen.instance.uid == found[0].instance.uid]


@noticed_by("test_what_another_gateway_runs_is_neither_found_nor_adopted_nor_ended")
class TakesOthersForItsOwn(Local):
    """Knows processes by their cluster and name, whoever's they are."""

    def _scan(self) -> list[Any]:
        found = []
        for process, environment in proc.marked({"DASKGATEWAY_UID": "c" + "a" * 20}):
            if proc.leads_session(process):
                role = (
                    Role.SCHEDULER
                    if environment["DASKGATEWAY_ROLE"] == "scheduler"
                    else Role.WORKER
                )
                found.append(
                    (
                        Instance(
                            environment["DASKGATEWAY_UID"], role, environment["DASKGATEWAY_NAME"]
                        ),
                        process,
                    )
                )
        return found

    async def find(self) -> Sequence[Observation]:
        known = {seen.instance: seen for seen in await super().find()}
        return [
            *known.values(),
            *(
                Observation(one, Phase.RUNNING, str(process))
                for one, process in self._scan()
                if one not in known
            ),
        ]
