"""What qstat tells of twice, or of several jobs under one name: asked for by identifier, before it
is believed.

Each identifier costs the server a request, so at most MAX_CONFIRMED are asked for after one
listing: those that were never asked for first, then those that were asked for longest ago. So
however many are in doubt, all have had their turn after a few listings; until then nothing is said
of those that have not, and what was told of the others stands until their next turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.backends.pbs.qstat import Job, JobId, Listing
from gateway.backends.pbs.states import alone, doubtful, suspects, tells_of_others

logger = logging.getLogger(__name__)

MAX_CONFIRMED = 100  # identifiers that are asked for after one listing, because they are in doubt

Ask = Callable[[Collection[JobId]], Awaitable[Listing]]  # tells of jobs by their identifiers


@dataclass(frozen=True, slots=True)
class Settled:
    """A listing without doubts."""

    listing: Listing
    # accounts of whose jobs some have not been asked for yet, with why
    untold: Mapping[str, str] = field(default_factory=dict)
    remembered: frozenset[JobId] = frozenset()  # what was told of these is of an earlier listing


class Doubts:
    """What is in doubt in the listings of one account, and what was told of it when it was last
    asked for."""

    def __init__(self) -> None:
        # of each whole job in doubt, what was asked for longest ago first
        self._told: dict[JobId, Mapping[JobId, Job]] = {}
        # whose text was seen to tell of other jobs, at the last look that had doubts
        self._liars: frozenset[JobId] = frozenset()

    async def settle(
        self, ask: Ask, listing: Listing, users: Collection[str], first: Collection[JobId] = ()
    ) -> Settled:
        """Return a listing in which nothing is in doubt. `first`: whole jobs that are asked for
        before all others, as far as in doubt."""
        doubts = doubtful(listing, users)
        if not doubts:
            self._told.clear()
            return Settled(listing)
        turns = {identity: turn for turn, identity in enumerate(self._told, 1)}
        due = sorted(
            doubts, key=lambda one: (one not in first, turns.get(one, 0), one.number, str(one))
        )[:MAX_CONFIRMED]
        sure = await ask(due)
        if sure.unclear or not set(due).issuperset(one.whole for one in sure.jobs):
            sure = await self._one_by_one(ask, due)  # one of those in doubt tells of others
        fresh: dict[JobId, dict[JobId, Job]] = {identity: {} for identity in due}
        for identity, job in sure.jobs.items():
            fresh[identity.whole][identity] = job
        kept = {
            identity: told
            for identity, told in self._told.items()
            if identity in doubts and identity not in fresh
        }
        self._told = {**kept, **fresh}
        known = {identity: job for told in self._told.values() for identity, job in told.items()}
        settled = Listing(
            {**{one: job for one, job in listing.jobs.items() if one.whole not in doubts}, **known},
            {},
            listing.order,
        )
        left = doubts - self._told.keys()
        return Settled(
            settled,
            await self._why(ask, listing, users, doubts, left) if left else {},
            frozenset(kept),
        )

    async def _one_by_one(self, ask: Ask, doubts: Sequence[JobId]) -> Listing:
        """Ask for each by itself: before a job's own words nothing can be told of it."""
        answers = await asyncio.gather(*(ask([asked]) for asked in doubts))
        sure = [alone(answer, asked) for asked, answer in zip(doubts, answers)]
        liars = {
            asked: sure[at][asked].owner
            for at, asked in enumerate(doubts)
            if asked in sure[at] and tells_of_others(answers[at], asked)
        }
        for liar in liars.keys() - self._liars:
            logger.warning(
                "variables of PBS job %s of %s are named so that qstat tells of other jobs",
                liar,
                liars[liar],
            )
        self._liars = (self._liars - set(doubts)) | liars.keys()
        return Listing({one: job for told_alone in sure for one, job in told_alone.items()})

    async def _why(
        self,
        ask: Ask,
        listing: Listing,
        users: Collection[str],
        doubts: set[JobId],
        left: set[JobId],
    ) -> dict[str, str]:
        """Return the accounts about whose jobs some cannot be told yet, with why, and which job is
        to blame if there is one."""
        words = (
            f"qstat tells of {len(doubts)} jobs twice or under one name, and {len(left)} of"
            f" them wait to be asked for one by one"
        )
        for asked in suspects(listing, doubts):
            answer = await ask([asked])
            if tells_of_others(answer, asked) and (head := alone(answer, asked).get(asked)):
                words += f": variables of job {asked} of {head.owner} are named so that it does"
                break
        tellings = [
            *listing.jobs.values(),
            *(job for twice in listing.unclear.values() for job in twice),
        ]
        owners = {job.owner.partition("@")[0] for job in tellings if job.id.whole in left}
        return dict.fromkeys(owners & set(users), words)
