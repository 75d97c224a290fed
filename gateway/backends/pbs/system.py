"""How PBS is asked: the four calls of batch.system.BatchSystem by qsub, qstat and qdel. Judges no
state; knows no Dask.

Listings are asked for in bulk: an identifier on the command line costs the server a request. What
is deleted was seen alive just before: naming an unknown job beside a known one has crashed servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pathlib
import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from gateway.backends.batch import commands
from gateway.backends.batch.commands import Answer
from gateway.backends.batch.identity import Identity
from gateway.backends.batch.system import Cancel, Job, Listed, Order, answered, raise_first
from gateway.backends.contract import BackendUnavailable, Phase, Role
from gateway.backends.pbs.commands import (
    FINISHED,
    NO_HISTORY,
    NO_SERVER,
    QSTAT_SERVER,
    UNKNOWN,
    Dialect,
    ServerFacts,
    asked_for,
    excerpt,
    parse_queue,
    parse_server,
    qdels,
    qstat,
    qstat_history,
    qstat_queue,
    qsub,
    refusal,
)
from gateway.backends.pbs.doubts import Doubts, Settled
from gateway.backends.pbs.qstat import Garbled, JobId, Listing, parse_id, parse_json, parse_text
from gateway.backends.pbs.states import PHASES, living, our_arrays, told

logger = logging.getLogger(__name__)

MAX_COMMANDS = 4  # at a time
# identifiers of one question to the history, and questions of one look
HISTORY_IDS, HISTORY_COMMANDS = 20, 10
ARRAYS_APART = 100  # arrays whose parts are asked for in one command
MAX_QUEUES = 1000  # of which it is remembered how long jobs may run; users may name any
MAX_ASKED = 100_000  # jobs of which it is known when the history was asked for them
# what is known of the server's set-up is asked for again; sooner when an answer contradicts it
FACTS_S = 600.0
EMPTY_S = 60.0  # the same while nothing at all is listed
# and before jobs are deleted together, which only a server with a history outlives
TOGETHER_S = 10.0


@dataclass(slots=True)
class PbsSystem:
    """PBS by its commands."""

    who: Identity
    dialect: Dialect = Dialect.PBS
    timeout_s: float = 60.0
    directory: str = ""  # of the commands; empty: they are found by PATH
    # whether the parts of arrays are asked for of our own arrays only, by their identifiers
    arrays_apart: bool = False
    # where Torque's scripts are laid down; OpenPBS reads standard input
    scripts: Callable[[str, str], Awaitable[str]] | None = None
    run: commands.Run = commands.run
    _facts: ServerFacts = field(default_factory=ServerFacts)
    _facts_at: float = float("-inf")
    # walltime that a queue takes, by when it was asked
    _longest: dict[str, tuple[str, float]] = field(default_factory=dict)
    _alive: set[JobId] = field(default_factory=set)  # our whole jobs that lived at the last look
    # by the account that listings are made as
    _doubts: dict[str, Doubts] = field(default_factory=dict)
    # for what the history was asked, longest ago first
    _history_asked: dict[JobId, None] = field(default_factory=dict)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_COMMANDS))

    async def _ask(self, argv: Sequence[str], account: str = "", stdin: str = "") -> Answer:
        """Run a command, as the gateway itself if no account is given."""
        words = [str(pathlib.PurePath(self.directory, argv[0])), *argv[1:]]
        async with self._slots:
            if not account:
                return await self.run(words, deadline_s=self.timeout_s, stdin=stdin.encode())
            answer = await self.run(
                self.who.words(account, words), deadline_s=self.timeout_s, stdin=stdin.encode()
            )
            return self.who.judged(account, answer)

    async def submit(self, order: Order) -> str:
        """Submit; return the identifier that qsub tells."""
        order = await self._timed(order)
        if self.dialect is Dialect.TORQUE:
            answer = await self._submit_file(order)
        else:
            answer = await self._ask(qsub(order, self.dialect), order.user, order.script)
        if answer.code != 0:
            raise refusal(answer.code, answer.out, answer.err, asked_for(qsub(order, self.dialect)))
        for word in reversed(answer.out.split()):  # a site's own words may stand before it
            if parse_id(word) is not None:
                return word
        raise BackendUnavailable(
            f"qsub told no job's identifier:"
            f" {excerpt(answer.out) or excerpt(answer.err) or 'nothing'}"
        )

    async def _timed(self, order: Order) -> Order:
        """Return an order; a scheduler's that says no walltime with the longest that its queue
        takes, as its default may be short."""
        if (
            order.role is not Role.SCHEDULER
            or order.settings.get("walltime")
            or self.dialect is not Dialect.PBS
        ):
            return order
        if any(
            "walltime=" in str(word)
            for word in (*_words(order, "resource_list"), *_words(order, "directives"))
        ):
            return order
        queue = str(order.settings.get("queue") or "") or (await self._server()).queue
        if not re.fullmatch(r"[\w.-]+", queue):  # one of another server, or none
            return order
        known, asked_at = self._longest.get(queue, ("", float("-inf")))
        if asked_at + FACTS_S <= time.monotonic():
            answer = await self._ask(qstat_queue(queue))
            # what is wrong with it qsub will say
            known = parse_queue(answer.out) if answer.code == 0 else ""
            if len(self._longest) >= MAX_QUEUES:
                self._longest.clear()
            self._longest[queue] = known, time.monotonic()
        return replace(order, settings={**order.settings, "walltime": known}) if known else order

    async def _submit_file(self, order: Order) -> Answer:
        assert self.scripts is not None
        directory = f"{await self.scripts(order.name.uid, order.user)}/{order.name}"
        await self.who.write(order.user, directory, {"job.sh": order.script.encode()})
        try:
            return await self._ask(qsub(order, self.dialect, f"{directory}/job.sh"), order.user)
        finally:
            with contextlib.suppress(OSError, BackendUnavailable):
                await self.who.remove(order.user, directory)

    async def jobs(self, users: Collection[str]) -> Listed:
        """List all jobs by one command; by one for each user where the server shows users their own
        only.

        Where jobs are missing that lived at the last look, the server is asked anew how it is set
        up: it may hide them now.
        """
        facts = await self._server()
        found, untold = await self._looks(users, facts)
        alive = {one for settled in found for one in living(settled.listing, users)}
        if self._alive - alive and not untold:
            before, facts = facts, await self._server(max_age_s=0.0)
            if facts.everybody != before.everybody:
                found, untold = await self._looks(users, facts)
                alive = {one for settled in found for one in living(settled.listing, users)}
        self._alive = alive
        jobs = [
            job
            for settled in found
            for job in await asyncio.to_thread(told, settled.listing, users, facts.history)
        ]
        return Listed(jobs, untold, await self._sure(facts, found))

    async def _looks(
        self, users: Collection[str], facts: ServerFacts
    ) -> tuple[list[Settled], dict[str, str]]:
        looks = [""] if facts.everybody else sorted(users)
        found, untold = answered(
            looks,
            await asyncio.gather(
                *(self._look(users, account) for account in looks), return_exceptions=True
            ),
        )
        return found, untold | {
            account: why for settled in found for account, why in settled.untold.items()
        }

    async def _sure(self, facts: ServerFacts, found: Sequence[Settled]) -> bool:
        """Whether a listing is all there is. One of no job at all is, if the server counts none
        either, just now."""
        if any(settled.listing.jobs for settled in found) or not facts.everybody:
            return True
        return (await self._server(max_age_s=EMPTY_S)).jobs == 0

    async def _server(self, max_age_s: float = FACTS_S) -> ServerFacts:
        """Return how the server is set up. One that does not tell is taken to keep no history and
        to hide nothing, as is Torque."""
        if self.dialect is Dialect.PBS and self._facts_at + max_age_s <= time.monotonic():
            answer = await self._ask(QSTAT_SERVER)
            if answer.code in NO_SERVER:
                raise _silent("qstat -B", answer)
            if answer.code != 0:
                logger.warning(
                    "%s; how jobs ended that are listed no more will not be known",
                    _silent("qstat -B", answer),
                )
            self._facts = parse_server(answer.out) if answer.code == 0 else ServerFacts()
            self._facts_at = time.monotonic()
        return self._facts

    async def _look(
        self, users: Collection[str], account: str = "", first: Collection[JobId] = ()
    ) -> Settled:
        """Return a listing in which nothing is in doubt; of what is, `first` are made sure of
        before others."""
        listing = await self._list(account, parts=not self.arrays_apart)
        if self.arrays_apart:
            arrays = sorted(our_arrays(listing, users), key=str)
            found = await asyncio.gather(
                *(self._list(account, chunk) for chunk in _chunked(arrays, ARRAYS_APART))
            )
            for apart, chunk in zip(found, _chunked(arrays, ARRAYS_APART)):
                parts = {one: job for one, job in apart.jobs.items() if one.whole in chunk}
                listing = Listing(
                    {**listing.jobs, **parts},
                    {**listing.unclear, **apart.unclear},
                    [*listing.order, *apart.order],
                )
        doubts = self._doubts.setdefault(account, Doubts())
        return await doubts.settle(lambda only: self._list(account, only), listing, users, first)

    async def _list(
        self, account: str = "", only: Collection[JobId] = (), parts: bool = True
    ) -> Listing:
        answer = await self._ask(qstat(self.dialect, only=only, parts=parts), account)
        read = parse_json if self.dialect is Dialect.PBS else parse_text
        try:
            return await self._read(answer, read, bool(only))
        except Garbled as error:
            if self.dialect is not Dialect.PBS:
                raise BackendUnavailable(str(error)) from None
            logger.warning("qstat's JSON cannot be read, asking for text: %s", error)
        answer = await self._ask(qstat(self.dialect, text=True, only=only, parts=parts), account)
        try:
            if not answer.out.strip():
                # as text it has no header: no jobs and no answer look the same
                raise Garbled("qstat said nothing")
            return await self._read(answer, parse_text, bool(only))
        except Garbled as error:
            raise BackendUnavailable(str(error)) from None

    async def _read(self, answer: Answer, read: Callable[[str], Listing], by_id: bool) -> Listing:
        """Return what an answer tells. By identifier, some may be unknown; in Torque's likeness
        nothing to tell is `unknown` too."""
        nothing = (
            answer.code == UNKNOWN
            and self.dialect is Dialect.TORQUE
            and not (answer.out + answer.err).strip()
        )
        if answer.code != 0 and not nothing and not (by_id and answer.code in (FINISHED, UNKNOWN)):
            raise _silent("qstat", answer)
        return await asyncio.to_thread(read, answer.out)

    async def ended(self, ids: Collection[str], users: Collection[str]) -> Sequence[Job]:
        """Return what the history knows; nothing if the server keeps none (asked for it, it would
        answer as if no job ran)."""
        facts = await self._server()
        if not facts.history:
            return []
        chunks = list(
            _chunked(
                self._turns(
                    {identity.whole for text in ids if (identity := parse_id(text)) is not None}
                ),
                HISTORY_IDS,
            )
        )
        looks = [""] if facts.everybody else sorted(users)
        found = await asyncio.gather(
            *(self._history(chunk, account) for chunk in chunks for account in looks)
        )
        return [job for listing in found for job in await asyncio.to_thread(told, listing, users)]

    def _turns(self, jobs: Collection[JobId]) -> list[JobId]:
        """Return whose turn it is to be asked for: who never was, then who was longest ago. So what
        it never knew hides nobody for long."""
        turns = {identity: turn for turn, identity in enumerate(self._history_asked, 1)}
        due = sorted(jobs, key=lambda one: (turns.get(one, 0), one.number, str(one)))[
            : HISTORY_IDS * HISTORY_COMMANDS
        ]
        for identity in due:
            self._history_asked.pop(identity, None)
            self._history_asked[identity] = None
        while len(self._history_asked) > MAX_ASKED:
            del self._history_asked[next(iter(self._history_asked))]
        return due

    async def _history(self, jobs: Sequence[JobId], account: str) -> Listing:
        answer = await self._ask(qstat_history(jobs), account)
        if answer.code not in (0, FINISHED, UNKNOWN):
            raise _silent("qstat -x", answer)
        if NO_HISTORY in answer.err:  # it had one when it was asked how it is set up
            self._facts_at = float("-inf")
            return Listing()
        try:
            return await asyncio.to_thread(parse_json, answer.out)
        except Garbled as error:
            raise BackendUnavailable(str(error)) from None

    async def cancel(self, cancels: Sequence[Cancel]) -> Collection[str]:
        """Delete what a fresh look shows alive; an array whose last living parts are meant is
        deleted as one. Return what it lacks.

        What is in doubt and was not asked for just now is lacking too: naming what has ended
        meanwhile could crash the server.
        """
        facts = await self._server(FACTS_S if len(cancels) == 1 else TOGETHER_S)
        by_user: dict[str, list[Cancel]] = {}
        for cancel in cancels:
            by_user.setdefault(cancel.user, []).append(cancel)
        asked: list[Awaitable[None]] = []
        unseen: set[str] = set()
        failures: list[BackendUnavailable] = []
        meant = {
            identity.whole for cancel in cancels if (identity := parse_id(cancel.id)) is not None
        }
        settled = await self._look(by_user.keys(), "", meant) if facts.everybody else None
        for user, theirs in by_user.items():
            try:
                now = settled or await self._look([user], user, meant)
            except BackendUnavailable as error:
                failures.append(error)
                continue
            seen = Listing(
                {
                    one: job
                    for one, job in now.listing.jobs.items()
                    if one.whole not in now.remembered
                }
            )
            there = {str(identity.whole) for identity in seen.jobs}
            unseen |= {cancel.id for cancel in theirs} - there
            alive, arrays = doomed(seen, theirs)
            words = await asyncio.to_thread(qdels, alive, arrays, together=facts.history)
            asked += [self._delete(argv, user) for argv in words]
        results = await asyncio.gather(*asked, return_exceptions=True)
        raise_first([*failures, *results])
        return unseen

    async def _delete(self, argv: Sequence[str], account: str) -> None:
        answer = await self._ask(argv, account)
        # Slurm's wrapper ends with the number of those that had ended already, and says nothing of
        # them.
        over = self.dialect is Dialect.TORQUE and not (answer.out + answer.err).strip()
        if answer.code not in (0, FINISHED, UNKNOWN) and not over:
            raise _silent("qdel", answer)


def doomed(listing: Listing, cancels: Sequence[Cancel]) -> tuple[set[JobId], set[JobId]]:
    """Return which jobs and parts are to be deleted of those that live, and which arrays as one."""
    living: dict[JobId, set[JobId]] = {}
    for job in listing.jobs.values():
        ending = (
            PHASES.get(job.state) is Phase.GONE
            or job.state == "E"
            or "terminated by" in job.comment
        )
        if not ending and (job.id.index is not None or not job.id.array):
            living.setdefault(job.id.whole, set()).add(job.id)
    alive: set[JobId] = set()
    arrays: set[JobId] = set()
    for cancel in cancels:
        whole = parse_id(cancel.id)
        lives = living.get(whole, set()) if whole is not None else set()
        if whole is None or not lives:
            continue
        meant = (
            lives
            & {replace(whole, array=True, index=index) for run in cancel.indices for index in run}
            if cancel.indices
            else lives
        )
        if whole.array and meant == lives:
            arrays.add(whole)
        else:
            alive |= meant
    return alive, arrays


def _words(order: Order, name: str) -> Sequence[object]:
    value = order.settings.get(name) or ()
    return value if isinstance(value, list | tuple) else (value,)


def _silent(command: str, answer: Answer) -> BackendUnavailable:
    said = excerpt(answer.err) or excerpt(answer.out) or "it said nothing"
    return BackendUnavailable(f"{command} failed with code {answer.code}: {said}")


def _chunked(jobs: Sequence[JobId], size: int) -> Iterator[Sequence[JobId]]:
    for start in range(0, len(jobs), size):
        yield jobs[start : start + size]
