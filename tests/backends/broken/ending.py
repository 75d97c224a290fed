"""Backends that end nothing, too much, too late, or without a word of why."""

from __future__ import annotations

import asyncio
import pathlib
import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gateway.backends.contract import (
    Instance,
    Launch,
    Observation,
    Phase,
    Role,
    Target,
)
from gateway.backends.local import proc
from tests.backends.broken.base import Local, noticed_by


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
        self._loop.call_later(
            5.0, lambda: self._loop.create_task(super(EndsLate, self).stop(targets))
        )


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
    """Ends from the least to the greatest number that it is asked for, and what lies between them;
    or counts from where it should not."""

    async def stop(self, targets: Sequence[Target]) -> None:
        numbers = [
            int(target.instance.name.rpartition("-")[2])
            for target in targets
            if target.instance.role is Role.WORKER
        ]
        shifted = [
            one for one in self._running if numbers and one.name == f"default-{max(numbers) + 2}"
        ]
        await super().stop([*targets, *(Target(one) for one in shifted)])


@noticed_by("test_of_a_batch_with_gaps_those_end_that_were_named_and_no_others")
class EndsAnotherALittleLater(Local):
    """Ends one too many, which dies when those that were named are gone."""

    async def stop(self, targets: Sequence[Target]) -> None:
        await super().stop(targets)
        named = {target.instance for target in targets}
        for running in [held for one, held in self._running.items() if one not in named][-1:]:
            asyncio.get_running_loop().call_later(0.3, proc.send, running.process, signal.SIGKILL)


@noticed_by("test_of_a_batch_with_gaps_those_end_that_were_named_and_no_others")
class SwapsNames(Local):
    """Mistakes one instance of a batch for another: its processes have other names than it says."""

    def _spawn(self, launch: Launch) -> Any:
        swapped = {"default-2": "default-7", "default-7": "default-2"}.get(
            launch.instance.name, launch.instance.name
        )
        return super()._spawn(
            replace(
                launch, argv=tuple(swapped if word == "{name}" else word for word in launch.argv)
            )
        )


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
