"""What a batch backend sees: one listing for all clusters, what accounting adds to it, and what it
says of each instance from both.

A listing is asked for by whoever finds the last one too old, once at a time.
"""

from __future__ import annotations

import asyncio
import getpass
import logging
import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from gateway.backends.batch import directories, logfiles, sight
from gateway.backends.batch.early import EarlyLooks
from gateway.backends.batch.identity import Identity
from gateway.backends.batch.ledger import Ledger, Listing
from gateway.backends.batch.logs import LogPlace
from gateway.backends.batch.settings import BatchSettings
from gateway.backends.batch.system import BatchSystem, Cancel, SubmitRefused
from gateway.backends.contract import BackendUnavailable, Instance, Observation, Phase, Target

logger = logging.getLogger(__name__)

LAST_WORDS_S = 5.0  # for those of one instance
# ended instances of one look whose last words are read; the others are told with the batch system's
# words alone
LAST_WORDS = 20


class Looking(BatchSettings):
    """The part of `base.BatchBackend` that looks, and what it remembers; `open` is the other
    part's."""

    who: Identity
    system: BatchSystem
    jobs_tag: str
    ledger: Ledger
    owners: dict[str, str]  # as whom each cluster (uid) runs
    _loop: asyncio.AbstractEventLoop
    _root: pathlib.Path
    _listing: asyncio.Task[Listing] | None
    _stopped: dict[Instance, float]  # whose end was asked for and answered, by when
    _asked: dict[Instance, float]  # whose end was asked for
    # whose end could not be asked for, as nothing was seen of them, by when
    _unseen: dict[Instance, float]
    _background: set[asyncio.Task[None]]
    _early: EarlyLooks

    def make_system(self) -> BatchSystem:
        """Return the batch system; called by `open`, when `self.who` is there."""
        raise NotImplementedError

    async def directory(self, template: str, uid: str, account: str) -> str:
        """Return a directory out of its template; empty if there is none."""
        chosen = self.default_log_directory(account) if template == "{default}" else template
        return await directories.filled(chosen, account=account, uid=uid, root=str(self._root))

    async def _log_place(self, uid: str) -> LogPlace:
        account = self.owners.get(uid) or self.who.account("nobody")
        prefix = logfiles.prefix(self.log_directory, uid)
        return LogPlace(
            self.who, account, await self.directory(self.log_directory, uid, account), prefix
        )

    def _account_of(self, target: Target, sighted: sight.Sight | None = None) -> str:
        if sighted is not None and sighted.job.user:
            return sighted.job.user
        if target.instance.uid in self.owners:
            return self.owners[target.instance.uid]
        return self.who.account(target.user) if target.user else self.who.account("nobody")

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
        owners = None if self.own_jobs_alone() else dict(self.owners)
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
        own = {self.who.account("")} if self.identity == "service" else set()
        return sorted(own | set(self.owners.values()))

    def own_jobs_alone(self) -> bool:
        """Whether all jobs are the gateway's own account's: no cluster that lives was started with
        another identity."""
        own = getpass.getuser()
        return self.identity == "service" and all(it == own for it in self.owners.values())

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

    def expect_ends(self, targets: Sequence[Target]) -> None:
        """Look at their jobs soon: nothing else tells of an end before the next listing."""
        self._early.expect(targets, (Phase.GONE,))

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
