"""Backends that start twice, too much, under other names, or with secrets in sight."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.backends.contract import (
    Instance,
    Launch,
    Resources,
    Started,
    StartFailed,
    StartOutcome,
    Target,
)
from tests.backends.broken.base import Local, noticed_by
from tests.backends.pretend import PretendBackend


@noticed_by("test_its_settings_of_a_cluster_can_be_stored")
class SettingsOfObjects(Local):
    """Its settings of a cluster are nothing that can be stored."""

    def cluster_settings(self) -> Mapping[str, object]:
        return {"queue": {1, 2}}


@noticed_by("test_what_it_gives_is_never_less_than_what_is_asked_for")
class WholeCoresRoundedDown(Local):
    """Gives whole cores, and counts one too few."""

    def allots(self, resources: Resources) -> Resources:
        return replace(resources, cores=max(1.0, float(int(resources.cores))))


@noticed_by("test_what_it_gives_is_never_less_than_what_is_asked_for")
class GpusForgotten(Local):
    """Gives cores and memory, and counts none of the rest."""

    def allots(self, resources: Resources) -> Resources:
        return Resources(max(1.0, resources.cores), resources.memory_bytes)


@noticed_by("test_what_it_objects_to_is_said_and_plain_processes_are_not")
class ObjectsToMemory(Local):
    """Objects to what it is to give: cores and memory."""

    def objection(self, resources: Resources, settings: Mapping[str, object]) -> str:
        return "too much memory" if resources.memory_bytes > 2**36 else ""


@noticed_by("test_start_is_create_or_adopt")
class Doubles(Local):
    """Starts another process whenever it is asked, under the same name."""

    async def _start_one(self, launch: Launch) -> StartOutcome:
        if launch.instance in self._running:
            await self.another(launch)
            return Started(str(self._running[launch.instance].process))
        return await super()._start_one(launch)


@noticed_by("test_a_launch_given_twice_in_one_batch_is_one_instance")
class DoublesWithinABatch(Local):
    """Looks for what exists before a batch, and not within it."""

    async def start(self, launches: Sequence[Launch]) -> Mapping[Instance, StartOutcome]:
        fresh = [launch for launch in launches if launch.instance not in self._running]
        outcomes = dict(await super().start(launches))
        for launch in fresh[1:]:
            if launch.instance == fresh[0].instance:
                await self.another(launch)
        return outcomes


@noticed_by("test_starts_of_one_instance_at_the_same_time_make_one_process")
class DoublesAtTheSameTime(Local):
    """Looks for what exists, then waits, then starts."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._begun: dict[Instance, list[bool]] = {}

    async def _start_one(self, launch: Launch) -> StartOutcome:
        absent = launch.instance not in self._running
        outcome = await super()._start_one(launch)
        others = self._begun.setdefault(launch.instance, [])
        others.append(absent)
        if len(others) > 1 and absent:
            await self.another(launch)
        return outcome


@noticed_by("test_files_and_environment_reach_the_process_and_its_log_is_live")
class FilesForEverybody(Local):
    """Leaves secrets readable by everybody."""

    def _spawn(self, launch: Launch) -> Any:
        return super()._spawn(
            replace(
                launch, argv=("/bin/sh", "-c", 'chmod 644 ../*.pem; exec "$@"', "sh", *launch.argv)
            )
        )


@noticed_by("test_files_and_environment_reach_the_process_and_its_log_is_live")
class ByAShell(Local):
    """Lets a shell have the values of variables."""

    def _spawn(self, launch: Launch) -> Any:
        env = {
            key: value.replace("$HOME", os.environ.get("HOME", "/"))
            for key, value in launch.env.items()
        }
        return super()._spawn(replace(launch, env=env))


@noticed_by("test_secrets_are_in_no_argument_and_in_nothing_that_is_shown")
class SecretsInArguments(Local):
    """Passes secrets as arguments."""

    def _spawn(self, launch: Launch) -> Any:
        secret = b"".join(launch.files.values()).decode()
        return super()._spawn(replace(launch, argv=(*launch.argv, secret)))


@noticed_by("test_secrets_are_in_no_argument_and_in_nothing_that_is_shown")
class SecretsInALaunchersArguments(Local):
    """Starts processes by a shell that has their secrets among its words."""

    def _spawn(self, launch: Launch) -> Any:
        secret = b"".join(launch.files.values()).decode()
        return super()._spawn(
            replace(launch, argv=("/bin/sh", "-c", '"$@" & wait $!', secret, *launch.argv))
        )


@noticed_by("test_each_of_a_batch_knows_its_name_and_writes_a_log_of_its_own")
class OneLogForAll(Local):
    """Lets all of a cluster write one log."""

    async def logs(
        self, target: Target, *, tail_lines: int = 0, follow: bool = False
    ) -> AsyncIterator[str]:
        one = replace(target, instance=replace(target.instance, name="default-3"))
        async for piece in super().logs(one, tail_lines=tail_lines, follow=follow):
            yield piece


@noticed_by("test_each_of_a_batch_knows_its_name_and_writes_a_log_of_its_own")
class LosesLogs(Local):
    """Has no logs."""

    async def logs(
        self, target: Target, *, tail_lines: int = 0, follow: bool = False
    ) -> AsyncIterator[str]:
        nothing: tuple[str, ...] = ()
        for piece in nothing:
            yield piece


@noticed_by("test_a_refused_start_says_why_and_holds_up_no_other")
class RefusesWithoutAReason(PretendBackend):
    """Says nothing of why."""

    async def start(self, launches: Sequence[Launch]) -> Mapping[Instance, StartOutcome]:
        outcomes = await super().start(launches)
        return {
            one: StartFailed("") if isinstance(outcome, StartFailed) else outcome
            for one, outcome in outcomes.items()
        }


@noticed_by("test_a_refused_start_says_why_and_holds_up_no_other")
class RefusesAllForOne(PretendBackend):
    """Fails a whole batch for one refusal."""

    async def start(self, launches: Sequence[Launch]) -> Mapping[Instance, StartOutcome]:
        outcomes = await super().start(launches)
        failed = next(
            (outcome for outcome in outcomes.values() if isinstance(outcome, StartFailed)), None
        )
        return dict.fromkeys(outcomes, failed) if failed else outcomes


@noticed_by("test_a_program_that_is_not_there_is_told_and_leaves_nothing")
class StartsWhatIsNotThere(Local):
    """Says of everything that it was started."""

    async def _start_one(self, launch: Launch) -> StartOutcome:
        outcome = await super()._start_one(launch)
        return Started("1:1") if isinstance(outcome, StartFailed) else outcome
