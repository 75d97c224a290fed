"""The backend of a batch system: contract.Backend over a `system.BatchSystem`.

A subclass gives `make_system` (and, if need be, `make_identity`), the class attributes
`index_variable` and `contiguous`, traits for its own cluster settings, and their names in
`setting_names`. One listing serves all clusters: it is asked for by whoever finds the last one too
old, once at a time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from gateway.backends.batch import arrays, directories, kept, logfiles, names, script, sight
from gateway.backends.batch.early import EarlyLooks
from gateway.backends.batch.ledger import Ledger, note
from gateway.backends.batch.looking import Looking
from gateway.backends.batch.system import Cancel, Order, SubmitRefused
from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Launch,
    Observe,
    Phase,
    Role,
    Started,
    StartFailed,
    StartOutcome,
    Target,
)
from gateway.backends.one_at_a_time import Turns
from gateway.backends.setbacks import Setbacks

logger = logging.getLogger(__name__)

# a cancel is not repeated sooner: the batch system itself uses force after a while
STOP_AGAIN_S = 30.0
# accounts of clusters of another identity that are tried at the start: a sudo or a token each
TRIED = 5


class BatchBackend(Looking):
    """Base of backends of batch systems."""

    # Life

    async def open(self, push: Observe) -> None:
        """Make the directory, and read the tag and who owns which cluster."""
        if wrong := self.problems():
            raise BackendUnavailable("\n".join(wrong))
        await super().open(push)
        self._loop = asyncio.get_running_loop()
        self._root = pathlib.Path(os.path.expanduser(self.root)).absolute()  # noqa: ASYNC240 (once, at start)
        self.ledger = Ledger(self.absent_grace_s)
        self.owners = {}
        self._listing = None
        self._stopped, self._asked, self._unseen = {}, {}, {}
        self._turns = Turns()
        self._background = set()
        self._setbacks = Setbacks()
        self.jobs_tag = await asyncio.to_thread(self._make_root)
        self.who = self.make_identity()
        self.system = self.make_system()
        self._tell_otherwise()
        self._early = EarlyLooks(
            self._look_anew, push, first_s=self.first_look_s, last_s=self.observe_interval_s
        )

    def _tell_otherwise(self) -> None:
        """Say which clusters were started with another identity, and what cannot be done as whom
        they run: an administrator may have changed that without knowing of them."""
        words, accounts = self.otherwise(self.owners)
        if not words:
            return
        logger.warning("%s", words)

        async def tried(account: str) -> None:
            if why := await self.cannot_act_as(account):
                logger.warning("clusters that run as %s cannot be stopped now: %s", account, why)

        for account in accounts[:TRIED]:
            task = self._loop.create_task(tried(account))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    def _make_root(self) -> str:
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._root / "owners").mkdir(mode=0o700, exist_ok=True)
            self.owners = kept.kept_owners(self._root / "owners")
            return self.tag or kept.kept_tag(self._root / "tag")
        except OSError as error:
            raise BackendUnavailable(
                f"c.{type(self).__name__}.root: {error.filename}: {error.strerror}"
            ) from None
        except ValueError as error:
            raise BackendUnavailable(f"c.{type(self).__name__}.root: {error}") from None

    async def close(self) -> None:
        """Let go of everything but the jobs."""
        await self._early.close()
        tasks: list[asyncio.Task[Any]] = [
            *self._background,
            *([self._listing] if self._listing else []),
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def place(self) -> Mapping[str, str]:
        """Return what begins the names of jobs; known once it is open."""
        return {f"c.{type(self).__name__}.tag": self.jobs_tag}

    # Start

    async def start(self, launches: Sequence[Launch]) -> Mapping[Instance, StartOutcome]:
        """Adopt what exists, submit the rest in as few jobs as possible. One call at a time for a
        cluster: none repeats another."""
        async with AsyncExitStack() as turns:
            for uid in sorted({launch.instance.uid for launch in launches}):
                await turns.enter_async_context(self._turns.of(uid))
            return await self._start(launches)

    async def _start(self, launches: Sequence[Launch]) -> Mapping[Instance, StartOutcome]:
        outcomes: dict[Instance, StartOutcome] = {}
        possible: list[Launch] = []
        for launch in {launch.instance: launch for launch in launches}.values():
            try:
                uid = launch.instance.uid
                await self._own(uid, self.owners.get(uid) or self.who.account(launch.user))
                names.job_name(self.jobs_tag, launch.instance)
                possible.append(launch)
            except ValueError as error:
                outcomes[launch.instance] = StartFailed(str(error), permanent=True)
        accounts = {self.owners[launch.instance.uid] for launch in possible}
        if (
            self.ledger.needs_listing(launch.instance for launch in possible)
            or self.ledger.listing.untold.keys() & accounts
        ):
            untold = (await self.listing(0.0)).untold
            # a job of an earlier submission may be among theirs
            if unknown := sorted(untold.keys() & accounts):
                raise BackendUnavailable(untold[unknown[0]])
        absent = []
        for launch in possible:
            handle = self.ledger.existing(launch.instance)
            if handle is not None:
                outcomes[launch.instance] = self._started(handle)
            else:
                absent.append(launch)
        size, contiguous = self.max_array_size, self.contiguous
        made = await asyncio.to_thread(
            lambda: arrays.batches(self.jobs_tag, absent, max_size=size, contiguous=contiguous)
        )
        results = await asyncio.gather(
            *(self._submit(batch) for batch in made), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                # what was accepted is in the ledger, and adopted when the start is repeated
                raise result
            outcomes |= result
            begun = (
                Target(instance, one.handle)
                for instance, one in result.items()
                if isinstance(one, Started)
            )
            self._early.expect(begun, (Phase.RUNNING, Phase.GONE))
        return outcomes

    async def _own(self, uid: str, account: str) -> None:
        """Keep, before anything is submitted, as whom a cluster runs: its jobs are looked for among
        that account's."""
        if self.owners.get(uid) != account:
            await asyncio.to_thread(kept.keep_owner, self._root / "owners", uid, account)
            self.owners[uid] = account

    async def _submit(self, batch: arrays.Batch) -> dict[Instance, StartOutcome]:
        launch = batch.launch
        uid, account = launch.instance.uid, self.owners[launch.instance.uid]
        settings = {
            name: launch.options.get(name, value) for name, value in self.cluster_settings().items()
        }
        if launch.instance.role is Role.SCHEDULER:
            settings |= self.scheduler_settings
        instances = [one.instance for one in batch.launches]
        try:
            logs = await self.directory(self.log_directory, uid, account)
            if logs and self.makes_directories(account):
                await self.who.write(account, logs, {})
            log_path = (
                f"{logs}/{logfiles.file_name(batch, logfiles.prefix(self.log_directory, uid))}"
                if logs
                else ""
            )
            dialect = await self._dialect(batch, account, settings)
            text = script.job_script(
                batch, replace(dialect, log_path=log_path) if self.script_logs else dialect
            )
            order = Order(
                batch.name,
                account,
                launch.instance.role,
                text,
                batch.indices,
                launch.resources,
                settings,
                launch.user,
                log_path,
            )
            job_id = await self.system.submit(order)
        except SubmitRefused as error:
            return {
                instance: StartFailed(str(error), permanent=error.permanent)
                for instance in instances
            }
        except OSError as error:
            return {
                instance: StartFailed(f"{error.filename}: {error.strerror}")
                for instance in instances
            }
        except (BackendUnavailable, asyncio.CancelledError):
            self.ledger.doubt(instances, self._loop.time())
            raise
        started: dict[Instance, StartOutcome] = {}
        for one in batch.launches:
            handle = sight.handle_of(job_id, batch.index_of(one))
            self.ledger.accept(one.instance, handle, self._loop.time())
            started[one.instance] = self._started(handle)
        return started

    def _started(self, handle: str) -> Started:
        """Return what is said of an accepted job until it is first seen: alike for all elements of
        an array."""
        job_id = sight.parse_handle(handle)[0]
        return Started(handle, f"submitted to {self.title or self.name} as job {job_id}")

    async def _dialect(
        self, batch: arrays.Batch, account: str, settings: Mapping[str, object]
    ) -> script.Dialect:
        stage = await self.directory(self.staging_directory, batch.name.uid, account)
        stage = stage if self.makes_directories(account) else ""
        if stage:
            stage = f"{stage}/{batch.name}"
            await self.who.write(account, stage, batch.launch.files)
        setup = settings.get("setup")
        lines = [str(line) for line in setup] if isinstance(setup, list | tuple) else []
        return script.Dialect(self.index_variable, self.shell, lines, self.scratch_directory, stage)

    # Stop

    async def stop(self, targets: Sequence[Target]) -> None:
        """Cancel jobs and elements, in as few commands as possible; what is known to have ended is
        told."""
        now = self._loop.time()
        due = [
            target
            for target in targets
            if self._asked.get(target.instance, float("-inf")) + STOP_AGAIN_S <= now
        ]
        if any(
            not target.handle and self.ledger.existing(target.instance) is None for target in due
        ):
            await self.listing(0.0)
        cancels, over = [], []
        meant: dict[Instance, str] = {}
        for target in due:
            handle = self.ledger.existing(target.instance) or target.handle
            sighted = self.ledger.listing.sights.by_instance.get(target.instance)
            if sighted is not None and not sighted.live and handle == sighted.observation.handle:
                over.append(sighted.observation)
            elif handle:
                job_id, index = sight.parse_handle(handle)
                account = self._account_of(target, sighted)
                meant[target.instance] = job_id
                cancels.append(
                    Cancel(job_id, account, () if index is None else arrays.ranges([index]))
                )
        # while it is being asked, another step need not ask as well
        note(self._asked, [target.instance for target in due], now)
        unseen: frozenset[str] = frozenset()
        try:
            if cancels:
                unseen = frozenset(await self.system.cancel(sight.merged(cancels)) or ())
        except BaseException:
            # or the next step had nothing to do, and the outage were over to it
            self._not_asked(target.instance for target in due)
            raise
        lacking = [instance for instance, job_id in meant.items() if job_id in unseen]
        self._not_asked(lacking)
        note(self._unseen, lacking, now)
        note(
            self._stopped,
            [target.instance for target in due if meant.get(target.instance) not in unseen],
            now,
        )
        self.push(over)
        self._early.expect(
            [
                target
                for target in due
                if target.instance in self._stopped or target.instance in self._unseen
            ],
            (Phase.GONE,),
        )

    def _not_asked(self, instances: Iterable[Instance]) -> None:
        for instance in instances:
            self._asked.pop(instance, None)

    # What is left behind

    async def cleanup(self, uid: str) -> None:
        """Remove what was staged."""
        account = self.owners.get(uid)
        self.ledger.forget(uid)
        self._stopped = {
            instance: at for instance, at in self._stopped.items() if instance.uid != uid
        }
        self._asked = {instance: at for instance, at in self._asked.items() if instance.uid != uid}
        self._unseen = {
            instance: at for instance, at in self._unseen.items() if instance.uid != uid
        }
        if account is not None:
            await self._setbacks.attempt(
                f"cleanup {uid}", lambda: directories.told(self._remove_stage(uid, account))
            )

    async def _remove_stage(self, uid: str, account: str) -> None:
        if stage := await self.directory(self.staging_directory, uid, account):
            mine = "" if "{uid}" in self.staging_directory else f"{self.jobs_tag}-{uid}-"
            await directories.remove(self.who, account, stage, mine)

    async def _remove_logs(self, uid: str) -> None:
        if (place := await self._log_place(uid)).directory:
            await place.remove()

    async def purge(self, uid: str) -> None:
        """Remove the logs, and the record of whose they are."""
        if uid in self.owners:
            await self._setbacks.attempt(
                f"purge {uid}", lambda: directories.told(self._remove_logs(uid))
            )
        self.owners.pop(uid, None)
        await asyncio.to_thread((self._root / "owners" / uid).unlink, missing_ok=True)

    # Logs

    async def logs(
        self, target: Target, *, tail_lines: int = 0, follow: bool = False
    ) -> AsyncIterator[str]:
        """Yield an instance's log."""
        place = await self._log_place(target.instance.uid)
        if not place.directory:
            return

        async def runs() -> bool:
            await self.listing(self.observe_interval_s)
            return self.ledger.existing(target.instance) is not None

        async for piece in place.pieces(target.instance, tail_lines, follow, runs):
            yield piece
