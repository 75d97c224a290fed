"""What ends: an application that is asked to, a container that has ended, of which the log is kept
and which is told to be gone once its node says so."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

from gateway.backends.batch import commands
from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Observation,
    Phase,
)
from gateway.backends.yarn import staging
from gateway.backends.yarn.calls import Calls, NotAnswered, Refused
from gateway.backends.yarn.held import Container, Held
from gateway.backends.yarn.logs import Logs
from gateway.backends.yarn.record import Record, Records
from gateway.backends.yarn.rest import Rest
from gateway.backends.yarn.settings import YarnSettings

logger = logging.getLogger(__name__)

SNAPSHOT_S = 5.0  # that a stop waits for logs, before what wrote them goes
KEPT_ENDS = 10_000
AGAIN_S = 0.3  # between two questions to a node whether a container is gone


class YarnEnding(YarnSettings):
    """The part of the backend that ends, and holds what is known."""

    calls: Calls
    rest: Rest
    keeper: Logs
    records: Records
    gateway_tag: str

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.held: dict[str, Held] = {}  # by application
        self._ended: dict[Instance, Observation] = {}
        self._endings: dict[Instance, asyncio.Task[None]] = {}
        self._collecting: dict[str, asyncio.Task[dict[Instance, int | None]]] = {}
        self._asked_at = float("-inf")
        self._listing: asyncio.Task[None] | None = None
        self._doubles: dict[str, asyncio.Task[None]] = {}  # that are ended, by application
        self._submitting: set[str] = set()  # nonces
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[Any]] = set()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Do something beside the calls of the server; what it raises is told in the log."""
        task: asyncio.Task[Any] = self._loop.create_task(work)
        self._background.add(task)

        def over(done: asyncio.Task[Any]) -> None:
            self._background.discard(done)
            if not done.cancelled() and (error := done.exception()) is not None:
                level = logging.DEBUG if isinstance(error, BackendUnavailable) else logging.ERROR
                logger.log(level, "yarn: %s", error, exc_info=level == logging.ERROR)

        task.add_done_callback(over)
        return task

    def master(self, held: Held) -> dict[str, Any]:
        """Return by what an application's master is reached."""
        assert held.record is not None
        return {
            "application": held.id,
            "address": held.said.address,
            "security": held.record.security(),
        }

    # Containers

    def _ends(self, held: Held, instance: Instance, container: Container, reason: str) -> None:
        if instance in self._ended or (
            (task := self._endings.get(instance)) is not None and not task.done()
        ):
            return
        asked = instance in held.stopping or held.ending
        self._endings[instance] = self._spawn(
            self._end(held, instance, container, reason, asked=asked)
        )

    async def _end(
        self, held: Held, instance: Instance, container: Container, reason: str, *, asked: bool
    ) -> None:
        """Wait until nothing of a container runs, keep its log, and tell that it is gone."""
        code, presumed, logged = None, False, False
        try:
            presumed = not await self._until_dead(container)
            # a node that has said nothing so far is not waited for as long as its line is
            patience_s = SNAPSHOT_S if presumed else None
            with contextlib.suppress(BackendUnavailable, TimeoutError):
                async with asyncio.timeout(patience_s):
                    logged = await self.keeper.pull(instance, container)
                    code = await self.keeper.exit_code(container)
            if not logged and held.said.ended and not asked:
                code = (await self._collected(held)).get(instance)
        finally:
            words_ = [] if asked or code == 0 else [self.keeper.last_words(instance)]
            message = "\n".join(filter(None, [reason, *words_]))
            self._note(
                Observation(
                    instance,
                    Phase.GONE,
                    held.handle(instance),
                    exit_code=None if asked and code != 0 else code,
                    message=message,
                    user=held.said.user,
                    presumed=presumed and not asked,
                )
            )

    async def _until_dead(self, container: Container) -> bool:
        """Wait until a container's node says that nothing of it runs; False if it does not say so
        in time."""
        if not container.container or not container.node:
            return True
        try:
            async with asyncio.timeout(self.end_s):
                while True:
                    with contextlib.suppress(BackendUnavailable):
                        if not await self.rest.container_runs(container.node, container.container):
                            return True
                    await asyncio.sleep(AGAIN_S)
        except TimeoutError:
            return False

    async def _collected(self, held: Held) -> dict[Instance, int | None]:
        task = self._collecting.get(held.id)
        if task is None:
            task = self._collecting[held.id] = self._spawn(
                self.keeper.collected(held, self.variables(), self.command_timeout_s, self.end_s)
            )
        try:
            return await asyncio.shield(task)
        except BackendUnavailable as error:
            logger.warning("yarn: logs of %s are not to be had: %s", held.id, error)
            return {}

    def _note(self, seen: Observation) -> None:
        self._ended[seen.instance] = seen
        self._endings.pop(seen.instance, None)
        while len(self._ended) > KEPT_ENDS:
            del self._ended[next(iter(self._ended))]
        self.push([seen])

    # Applications

    async def _snapshot(self, held: Held, named: set[Instance]) -> None:
        """Keep the logs of what is about to go."""
        pulls = [
            self._loop.create_task(self._quiet_pull(instance, held.containers[instance]))
            for instance in named & held.containers.keys()
        ]
        if pulls:
            _, late = await asyncio.wait(pulls, timeout=SNAPSHOT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _quiet_pull(self, instance: Instance, container: Container) -> None:
        try:
            await self.keeper.pull(instance, container)
        except BackendUnavailable as error:
            logger.debug("yarn: log of %s: %s", instance, error)

    async def _end_application(
        self, held: Held, text: str, named: set[Instance] | None = None
    ) -> None:
        """End an application: by its master, which clears up behind it, or by the
        ResourceManager."""
        await self._snapshot(held, named or set())
        again = held.ending  # the master has not done it
        held.ending = True
        account = held.record.shape.account if held.record is not None else ""
        try:
            if held.reachable and not again:
                try:
                    await self.calls.call(
                        "shut_down", **self.master(held), status="SUCCEEDED", text=text
                    )
                    return
                except (NotAnswered, Refused) as error:
                    logger.debug("yarn: %s: %s", held.id, error)
            await self.calls.call("kill_application", application=held.id, user=account)
        except Refused as error:
            logger.warning("yarn: %s is not ended: %s", held.id, error)
        except BackendUnavailable:
            held.ending = again
            raise

    async def sweep(self, held: Held) -> None:
        """Remove what an application whose master died has left in HDFS. BackendUnavailable if that
        cannot be; then its cluster's cleanup does it."""
        held.unswept = True
        account = held.record.shape.account if held.record is not None else ""
        try:
            await staging.remove(held.id, account, self.variables(), self.command_timeout_s)
        except commands.CannotRun as error:
            logger.warning("yarn: %s/%s is left in HDFS: %s", staging.DIRECTORY, held.id, error)
        except BackendUnavailable as error:
            logger.warning("yarn: %s", error)
            raise
        held.unswept = False

    async def sweep_unnamed(self, record: Record) -> None:
        """Remove what a submission has left in HDFS of which nobody knows what came of it.
        BackendUnavailable if that cannot be, or if it became an application."""
        account, given = record.shape.account, (self.variables(), self.command_timeout_s)
        try:
            found = await staging.holder(self.records.key_path(record).name, account, *given)
        except commands.CannotRun:
            return
        if not found:
            return
        last = await self.rest.application(found)
        if last is not None and not last.ended:
            raise BackendUnavailable(f"{found} was submitted after all, and is about to be ended")
        await staging.remove(found, account, *given)
