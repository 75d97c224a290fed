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
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from gateway.backends.batch import arrays, directories, kept, logfiles, names, script, sight
from gateway.backends.batch.early import EarlyLooks
from gateway.backends.batch.ledger import Ledger, Listing, note
from gateway.backends.batch.logs import LogPlace
from gateway.backends.batch.settings import BatchSettings
from gateway.backends.batch.system import BatchSystem, Cancel, Order, SubmitRefused
from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Launch,
    Observation,
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
LAST_WORDS_S = 5.0  # for those of one instance
# ended instances of one look whose last words are read; the others are told with the batch system's
# words alone
LAST_WORDS = 20


class BatchBackend(BatchSettings):
    """Base of backends of batch systems."""

    def make_system(self) -> BatchSystem:
        """Return the batch system; called by `open`, when `self.who` is there."""
        raise NotImplementedError

    # Life

    async def open(self, push: Observe) -> None:
        """Make the directory, and read the tag and who owns which cluster."""
        if wrong := self.problems():
            raise BackendUnavailable("\n".join(wrong))
        await super().open(push)
        self._loop = asyncio.get_running_loop()
        self._root = pathlib.Path(os.path.expanduser(self.root)).absolute()  # noqa: ASYNC240 (once, at start)
        self.ledger = Ledger(self.absent_grace_s)
        self.owners: dict[str, str] = {}  # as whom each cluster (uid) runs
        self._listing: asyncio.Task[Listing] | None = None
        self._stopped: dict[Instance, float] = {}  # whose end was asked for and answered, by when
        self._asked: dict[Instance, float] = {}  # whose end was asked for
        # whose end could not be asked for, as nothing was seen of them, by when
        self._unseen: dict[Instance, float] = {}
        self._turns = Turns()
        self._background: set[asyncio.Task[None]] = set()
        self._setbacks = Setbacks()
        self.jobs_tag = await asyncio.to_thread(self._make_root)
        self.who = self.make_identity()
        self.system = self.make_system()
        self._early = EarlyLooks(
            self._look_anew, push, first_s=self.first_look_s, last_s=self.observe_interval_s
        )

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
                await self._own(launch.instance.uid, self.who.account(launch.user))
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
                outcomes[launch.instance] = Started(handle)
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
            if logs and self.makes_directories():
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
            started[one.instance] = Started(handle)
        return started

    async def _dialect(
        self, batch: arrays.Batch, account: str, settings: Mapping[str, object]
    ) -> script.Dialect:
        stage = await self.directory(self.staging_directory, batch.name.uid, account)
        if stage:
            stage = f"{stage}/{batch.name}"
            await self.who.write(account, stage, batch.launch.files)
        setup = settings.get("setup")
        lines = [str(line) for line in setup] if isinstance(setup, list | tuple) else []
        return script.Dialect(self.index_variable, self.shell, lines, self.scratch_directory, stage)

    async def directory(self, template: str, uid: str, account: str) -> str:
        """Return a directory out of its template; empty if there is none."""
        chosen = self.default_log_directory() if template == "{default}" else template
        return await directories.filled(chosen, account=account, uid=uid, root=str(self._root))

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

    def _account_of(self, target: Target, sighted: sight.Sight | None = None) -> str:
        if sighted is not None and sighted.job.user:
            return sighted.job.user
        if target.instance.uid in self.owners:
            return self.owners[target.instance.uid]
        return self.who.account(target.user) if target.user else self.who.account("nobody")

    # Look

    async def listing(self, max_age_s: float) -> Listing:
        """Return a listing that was asked for at most so long ago; a newer one is asked for if need
        be, one at a time."""
        asked = self._loop.time()
        while self.ledger.listing.asked_at < asked - max_age_s:
            if self._listing is None or self._listing.done():
                self._listing = self._loop.create_task(self._list())
            # one that had begun too early is followed by another
            await asyncio.shield(self._listing)
        return self.ledger.listing

    async def _list(self) -> Listing:
        asked_at = self._loop.time()
        listed = await self.system.jobs(self.accounts())
        owners = None if self.identity == "service" else dict(self.owners)
        found = await asyncio.to_thread(sight.sights, self.jobs_tag, listed.jobs, owners)
        for account in listed.untold.keys() - self.ledger.listing.untold.keys():
            logger.warning(
                "%s: jobs of %s are not listed, others are: %s",
                self.name,
                account,
                listed.untold[account],
            )
        listing = Listing(asked_at, found, listed.untold, listed.sure)
        self.ledger.listed(listing)
        if found.doubled:
            logger.warning("%s: cancelling %d doubled jobs", self.name, len(found.doubled))
            task = self._loop.create_task(self._cancel_doubled(found.doubled))
            self._background.add(task)
            task.add_done_callback(self._background.discard)
        return listing

    async def _cancel_doubled(self, cancels: Iterable[Cancel]) -> None:
        try:
            await self.system.cancel(sight.merged(cancels))
        except BackendUnavailable as error:
            logger.warning(
                "%s: doubled jobs were not cancelled: %s; trying again at the next look",
                self.name,
                error,
            )

    def accounts(self) -> Collection[str]:
        """Return the accounts whose jobs are listed."""
        return (
            sorted(set(self.owners.values()))
            if self.identity != "service"
            else [self.who.account("")]
        )

    async def observations(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        """Say where each target stands, as far as it can be told."""
        await self.listing(self.observe_interval_s / 2)
        before = set(self.ledger.ended)
        known, absent = self.ledger.judge(targets)
        absent = [
            target
            for target in absent
            if self._account_of(target) not in self.ledger.listing.untold
        ]
        if absent:
            known |= await self._absent(absent)
        ended = [
            seen
            for instance, seen in known.items()
            if seen.phase is Phase.GONE and instance not in before
        ]
        failed = [
            seen for seen in ended if seen.exit_code != 0 and seen.instance not in self._stopped
        ]
        told = await asyncio.gather(*(self._with_last_words(seen) for seen in failed[:LAST_WORDS]))
        known |= {seen.instance: seen for seen in told}
        return self.ledger.as_of_now(known, targets)

    async def _look_anew(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        await self.listing(0.0)
        return await self.observations(targets)

    async def _absent(self, targets: Sequence[Target]) -> dict[Instance, Observation]:
        """Ask accounting of what listings lack; what it does not know is gone after a while."""
        accounts = {self._account_of(target) for target in targets if target.handle}
        ids = sorted({sight.parse_handle(target.handle)[0] for target in targets if target.handle})
        found: dict[Instance, Observation] = {}
        answered = True
        if ids:
            try:
                jobs = await self.system.ended(ids, accounts)
            except BackendUnavailable as error:
                logger.warning("%s: accounting does not answer: %s", self.name, error)
                jobs, answered = [], False
            seen = sight.sights(
                self.jobs_tag, [job for job in jobs if job.id in set(ids)]
            ).by_instance
            told = {
                target.instance: seen[target.instance].observation
                for target in targets
                if target.instance in seen
            }
            # Only ends are believed: accounting that lost an end shows its job running for ever.
            found = {
                instance: observation
                for instance, observation in told.items()
                if observation.phase is Phase.GONE
            }
            for observation in found.values():
                self.ledger.remember_end(observation)
        unknown = [target for target in targets if target.instance not in found]
        unseen = self._unseen if answered else {}
        # how it ended may still be told
        unknown = unknown if answered else [replace(target, left=False) for target in unknown]
        return found | self.ledger.give_up(
            unknown, self._stopped, "the batch system knows nothing of its job any more", unseen
        )

    async def _with_last_words(self, seen: Observation) -> Observation:
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                words = await (await self._log_place(seen.instance.uid)).last_words(seen.instance)
        except (BackendUnavailable, OSError, ValueError, SubmitRefused, TimeoutError):
            words = ""
        if not words or words in seen.message:
            return seen
        told = Observation(
            seen.instance,
            seen.phase,
            seen.handle,
            seen.exit_code,
            sight.explained(seen.message, words),
            seen.user,
        )
        self.ledger.remember_end(told)
        return told

    async def find(self) -> Sequence[Observation]:
        """Return every living job of this gateway."""
        listing = await self.listing(self.observe_interval_s / 2)
        seen = {
            instance: found.observation
            for instance, found in listing.sights.by_instance.items()
            if found.live
        }
        for instance, submission in self.ledger.submitted.items():  # too young to be listed
            seen.setdefault(
                instance,
                Observation(
                    instance,
                    Phase.QUEUED,
                    submission.handle,
                    user=self.owners.get(instance.uid, ""),
                ),
            )
        return list(seen.values())

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

    async def _log_place(self, uid: str) -> LogPlace:
        account = self.owners.get(uid) or self.who.account("nobody")
        prefix = logfiles.prefix(self.log_directory, uid)
        return LogPlace(
            self.who, account, await self.directory(self.log_directory, uid, account), prefix
        )

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
