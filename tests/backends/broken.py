"""Backends that each break one promise: what the conformance suite must notice. Each is a sound one but for that.

`BROKEN` tells of each how it is made and which test is meant to notice it.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.backends import proc
from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Launch,
    Observation,
    Phase,
    Role,
    Started,
    StartFailed,
    StartOutcome,
    Target,
)
from gateway.backends.local import LocalBackend
from tests.backends.pretend import PretendBackend

Broken = tuple[str, type[Any]]
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


# Starting


@noticed_by("test_its_settings_of_a_cluster_can_be_stored")
class SettingsOfObjects(Local):
    """Its settings of a cluster are nothing that can be stored."""

    def cluster_settings(self) -> Mapping[str, object]:
        return {"queue": {1, 2}}


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
        return super()._spawn(replace(launch, argv=("/bin/sh", "-c", 'chmod 644 ../*.pem; exec "$@"', "sh", *launch.argv)))


@noticed_by("test_files_and_environment_reach_the_process_and_its_log_is_live")
class ByAShell(Local):
    """Lets a shell have the values of variables."""

    def _spawn(self, launch: Launch) -> Any:
        env = {key: value.replace("$HOME", os.environ.get("HOME", "/")) for key, value in launch.env.items()}
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
        return super()._spawn(replace(launch, argv=("/bin/sh", "-c", '"$@" & wait $!', secret, *launch.argv)))


@noticed_by("test_each_of_a_batch_knows_its_name_and_writes_a_log_of_its_own")
class OneLogForAll(Local):
    """Lets all of a cluster write one log."""

    async def logs(self, target: Target, *, tail_lines: int = 0, follow: bool = False) -> AsyncIterator[str]:
        one = replace(target, instance=replace(target.instance, name="default-3"))
        async for piece in super().logs(one, tail_lines=tail_lines, follow=follow):
            yield piece


@noticed_by("test_each_of_a_batch_knows_its_name_and_writes_a_log_of_its_own")
class LosesLogs(Local):
    """Has no logs."""

    async def logs(self, target: Target, *, tail_lines: int = 0, follow: bool = False) -> AsyncIterator[str]:
        for piece in ():
            yield piece


@noticed_by("test_a_refused_start_says_why_and_holds_up_no_other")
class RefusesWithoutAReason(PretendBackend):
    """Says nothing of why."""

    async def start(self, launches: Sequence[Launch]) -> Mapping[Instance, StartOutcome]:
        outcomes = await super().start(launches)
        return {one: StartFailed("") if isinstance(outcome, StartFailed) else outcome for one, outcome in outcomes.items()}


@noticed_by("test_a_refused_start_says_why_and_holds_up_no_other")
class RefusesAllForOne(PretendBackend):
    """Fails a whole batch for one refusal."""

    async def start(self, launches: Sequence[Launch]) -> Mapping[Instance, StartOutcome]:
        outcomes = await super().start(launches)
        failed = next((outcome for outcome in outcomes.values() if isinstance(outcome, StartFailed)), None)
        return dict.fromkeys(outcomes, failed) if failed else outcomes


@noticed_by("test_a_program_that_is_not_there_is_told_and_leaves_nothing")
class StartsWhatIsNotThere(Local):
    """Says of everything that it was started."""

    async def _start_one(self, launch: Launch) -> StartOutcome:
        outcome = await super()._start_one(launch)
        return Started("1:1") if isinstance(outcome, StartFailed) else outcome


# Ending


@noticed_by("test_what_is_gone_is_dead")
class EndsNothing(Local):
    """Only notes that it was asked."""

    async def stop(self, targets: Sequence[Target]) -> None:
        for target in self.alive(targets):
            running = self._running.pop(target.instance)
            self._let_go(running)
            if running.child is not None:
                running.child.returncode = 0
            self._end(target.instance, None)


@noticed_by("test_what_is_gone_is_dead")
class EndsNothingAndForgetsNothing(Local):
    """Its command to end is refused, and it does not look."""

    async def stop(self, targets: Sequence[Target]) -> None:
        pass


@noticed_by("test_what_is_gone_is_dead")
class EndsLate(Local):
    """Says that they are gone, and ends them a while later."""

    async def stop(self, targets: Sequence[Target]) -> None:
        self.push([Observation(target.instance, Phase.GONE) for target in self.alive(targets)])
        self._loop.call_later(5.0, lambda: self._loop.create_task(super(EndsLate, self).stop(targets)))


@noticed_by("test_what_is_gone_is_dead")
class EndsTheFirstOnly(Local):
    """Ends the first of those that it is asked for, and says that all are gone."""

    async def stop(self, targets: Sequence[Target]) -> None:
        await super().stop(targets[:1])
        self.push([Observation(target.instance, Phase.GONE) for target in targets[1:]])


@noticed_by("test_of_a_batch_with_gaps_those_end_that_were_named_and_no_others")
class EndsTheWholeBatch(Local):
    """Ends everything of a cluster that something is to be ended of."""

    async def stop(self, targets: Sequence[Target]) -> None:
        uids = {target.instance.uid for target in targets}
        await super().stop([*targets, *(Target(one) for one in self._running if one.uid in uids)])


@noticed_by("test_of_a_batch_with_gaps_those_end_that_were_named_and_no_others")
class EndsARangeWithItsGaps(Local):
    """Ends from the least to the greatest number that it is asked for, and what lies between them; or counts from where it should not."""

    async def stop(self, targets: Sequence[Target]) -> None:
        numbers = [int(target.instance.name.rpartition("-")[2]) for target in targets if target.instance.role is Role.WORKER]
        shifted = [one for one in self._running if numbers and one.name == f"default-{max(numbers) + 2}"]
        await super().stop([*targets, *(Target(one) for one in shifted)])


@noticed_by("test_of_a_batch_with_gaps_those_end_that_were_named_and_no_others")
class SwapsNames(Local):
    """Mistakes one instance of a batch for another: its processes have other names than it says."""

    def _spawn(self, launch: Launch) -> Any:
        swapped = {"default-2": "default-7", "default-7": "default-2"}.get(launch.instance.name, launch.instance.name)
        return super()._spawn(replace(launch, argv=tuple(swapped if word == "{name}" else word for word in launch.argv)))


@noticed_by("test_what_ignores_being_asked_is_ended_by_force")
class NeverUsesForce(Local):
    """Asks, and asks again."""

    async def stop(self, targets: Sequence[Target]) -> None:
        for target in self.alive(targets):
            proc.send(self._running[target.instance].process, signal.SIGTERM, group=True)


@noticed_by("test_what_a_process_has_started_ends_with_it")
class LeavesChildren(Local):
    """Ends the process that it has started, and not what that has started."""

    async def stop(self, targets: Sequence[Target]) -> None:
        for target in self.alive(targets):
            proc.send(self._running[target.instance].process, signal.SIGTERM)

    def _over(self, instance: Instance, running: Any) -> None:
        self._let_go(running)
        self._running.pop(instance, None)
        self._end(instance, running.child.wait())


@noticed_by("test_stopping_what_is_gone_is_no_error")
class ComplainsOfWhatIsGone(Local):
    """Raises for what it does not know any more."""

    async def stop(self, targets: Sequence[Target]) -> None:
        for target in targets:
            self._running[target.instance]
        await super().stop(targets)


@noticed_by("test_stopping_needs_no_handle")
class NeedsAHandle(Local):
    """Passes over what comes without a handle."""

    async def stop(self, targets: Sequence[Target]) -> None:
        await super().stop([target for target in targets if target.handle])


@noticed_by("test_clusters_do_not_mix")
class MixesClusters(Local):
    """Knows instances by their names alone."""

    async def stop(self, targets: Sequence[Target]) -> None:
        names = {target.instance.name for target in targets}
        await super().stop([Target(one) for one in self._running if one.name in names])


@noticed_by("test_a_failure_is_told_with_its_code_and_last_words")
class LosesExitCodes(Local):
    """Does not say how it ended."""

    def _end(self, instance: Instance, code: int | None) -> None:
        super()._end(instance, None if code else code)


@noticed_by("test_a_failure_is_told_with_its_code_and_last_words")
class LosesLastWords(Local):
    """Does not say why it ended."""

    def _last_words(self, instance: Instance) -> str:
        return ""


@noticed_by("test_a_good_end_is_told_as_such")
class EveryEndIsAFailure(Local):
    """Says of a good end that it was none."""

    def _end(self, instance: Instance, code: int | None) -> None:
        super()._end(instance, 1)


@noticed_by("test_stopping_works_with_the_files_gone")
class NeedsItsFiles(Local):
    """Reads from the cluster's directory what it is to end."""

    async def stop(self, targets: Sequence[Target]) -> None:
        await super().stop([target for target in targets if self._files(target.instance).exists()])

    def _files(self, instance: Instance) -> pathlib.Path:
        return self._directories.root / "clusters" / instance.uid / instance.name


# Seeing


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
        return {instance: one for instance, one in seen.items() if instance in self._running or instance in self._ended}


@noticed_by("test_what_exists_is_found_until_it_is_gone_and_nothing_else")
class FindsWhatIsGone(Local):
    """Finds what has ended, too."""

    async def find(self) -> Sequence[Observation]:
        return [*await super().find(), *(replace(seen, phase=Phase.RUNNING) for seen in self._ended.values())]


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
                role = Role.SCHEDULER if environment["DASKGATEWAY_ROLE"] == "scheduler" else Role.WORKER
                found.append((Instance(environment["DASKGATEWAY_UID"], role, environment["DASKGATEWAY_NAME"]), process))
        return found

    async def find(self) -> Sequence[Observation]:
        known = {seen.instance: seen for seen in await super().find()}
        return [*known.values(), *(Observation(one, Phase.RUNNING, str(process)) for one, process in self._scan() if one not in known)]


# What is left


@noticed_by("test_logs_outlive_the_instance_and_end_with_the_purge")
class LogsEndWithTheProcess(Local):
    """Removes logs too early."""

    async def cleanup(self, uid: str) -> None:
        await super().cleanup(uid)
        await super().purge(uid)


@noticed_by("test_logs_outlive_the_instance_and_end_with_the_purge")
class PurgesNothing(Local):
    """Keeps logs for ever."""

    async def purge(self, uid: str) -> None:
        pass


@noticed_by("test_a_long_log_comes_whole_in_pieces_and_its_end_alone_if_wished")
class LogInOnePiece(Local):
    """Yields a log however long it is."""

    async def logs(self, target: Target, *, tail_lines: int = 0, follow: bool = False) -> AsyncIterator[str]:
        yield "".join([piece async for piece in super().logs(target, tail_lines=tail_lines, follow=follow)])


@noticed_by("test_a_long_log_comes_whole_in_pieces_and_its_end_alone_if_wished")
class LosesTheEndOfLogs(Local):
    """Yields the first piece of a log alone."""

    async def logs(self, target: Target, *, tail_lines: int = 0, follow: bool = False) -> AsyncIterator[str]:
        async for piece in super().logs(target, tail_lines=tail_lines, follow=follow):
            yield piece
            return


@noticed_by("test_a_long_log_comes_whole_in_pieces_and_its_end_alone_if_wished")
class BreaksCharacters(Local):
    """Cuts logs within characters."""

    async def logs(self, target: Target, *, tail_lines: int = 0, follow: bool = False) -> AsyncIterator[str]:
        async for piece in super().logs(target, tail_lines=tail_lines, follow=follow):
            raw = piece.encode()
            for start in range(0, len(raw), 1001):
                yield raw[start : start + 1001].decode(errors="replace")


@noticed_by("test_secrets_are_removed_with_their_cluster")
class KeepsSecrets(Local):
    """Leaves the cluster's files."""

    async def cleanup(self, uid: str) -> None:
        pass


@noticed_by("test_the_directory_of_an_instance_is_its_own_and_goes_with_it")
class DirectoriesForEverybody(Local):
    """Lets everybody look into what an instance's directory has."""

    def _spawn(self, launch: Launch) -> Any:
        return super()._spawn(replace(launch, argv=("/bin/sh", "-c", 'chmod 755 ..; exec "$@"', "sh", *launch.argv)))


@noticed_by("test_the_directory_of_an_instance_is_its_own_and_goes_with_it")
class LeavesDirectories(Local):
    """Removes secrets, and nothing else of what there was."""

    async def cleanup(self, uid: str) -> None:
        for path in (self._directories.root / "clusters" / uid).glob("*/*.pem"):
            path.unlink()


@noticed_by("test_cleaning_up_one_cluster_touches_no_other")
class CleansUpEverything(Local):
    """Removes every cluster's logs with one's."""

    async def purge(self, uid: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._directories.root / "logs")


@noticed_by("test_forgetting_is_no_error_however_often")
class CannotForgetTwice(Local):
    """Raises for a cluster that it does not know."""

    async def purge(self, uid: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._directories.root / "logs" / uid)


# Faults


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
        return {target.instance: Observation(target.instance, Phase.RUNNING, target.handle) for target in targets if target.handle}


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
        self._tried = getattr(self, "_tried", set())
        fresh = [target for target in targets if target.instance not in self._tried]
        self._tried |= {target.instance for target in targets}
        if fresh:
            await super().stop(fresh)


def _blocking(call: str, test: str = "test_no_call_holds_up_the_event_loop") -> None:
    """Enter a backend one of whose calls holds up the event loop."""

    async def blocks(self: Any, *args: Any) -> Any:
        time.sleep(0.4)  # noqa: ASYNC251 (which is the fault)
        return await getattr(Local, call)(self, *args)

    noticed_by(test)(type(f"Blocks{call.title()}", (Local,), {call: blocks, "__doc__": f"Holds up the event loop in {call}."}))


for _call in ("start", "observations", "find", "stop", "cleanup", "purge"):
    _blocking(_call)


@noticed_by("test_no_call_holds_up_the_event_loop")
class BlocksLogs(Local):
    """Holds up the event loop in logs."""

    async def logs(self, target: Target, *, tail_lines: int = 0, follow: bool = False) -> AsyncIterator[str]:
        time.sleep(0.4)  # noqa: ASYNC251 (which is the fault)
        async for piece in super().logs(target, tail_lines=tail_lines, follow=follow):
            yield piece
