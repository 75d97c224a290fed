"""Slurm by its commands: sbatch, scancel, squeue and sacct. What is said and what answers mean is
`slurm_words` and `slurm_states`."""

from __future__ import annotations

import asyncio
import os
import secrets
import string
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from gateway.backends.as_user import LISTING_ENVIRONMENT
from gateway.backends.batch import commands
from gateway.backends.batch.identity import Identity
from gateway.backends.batch.system import (
    Cancel,
    Job,
    Listed,
    Order,
    SubmitRefused,
    answered,
    raise_first,
)
from gateway.backends.contract import BackendUnavailable, Phase
from gateway.backends.slurm import states as slurm_states
from gateway.backends.slurm import words as slurm_words
from gateway.wire import decimal

MAX_COMMANDS = 4  # at a time
POSITION_INTERVAL_S = 60.0  # between two looks at everybody's waiting jobs
NEW_POSITION_INTERVAL_S = 10.0  # the same, while a job of ours has no place yet
SACCT_CHUNK = 500  # ids in one sacct
SQUEUE_CHUNK = 500  # users in one squeue
PRIVACY_S = 600.0  # what Slurm hides is asked for again


@dataclass(frozen=True, slots=True)
class Programs:
    """What the commands are called."""

    directory: str = ""  # of all of them; empty: found by PATH
    json: bool = False  # whether squeue is asked for JSON
    accounting: bool = True  # whether sacct is asked
    positions: bool = True  # whether the place in the queue is looked up

    def path(self, name: str) -> str:
        """Return a command's word."""
        return os.path.join(self.directory, name) if self.directory else name


class SlurmCommands:
    """A batch_system.BatchSystem."""

    def __init__(
        self,
        who: Identity,
        programs: Programs,
        timeout_s: float,
        run: commands.Run,
        *,
        as_users: bool = False,
    ) -> None:
        self._who, self._programs, self._timeout_s, self._run = who, programs, timeout_s, run
        # whether jobs are of other accounts than the gateway's own, which may not be shown them
        self._as_users = as_users
        self._private, self._private_at = False, float("-inf")
        self._permits = asyncio.Semaphore(MAX_COMMANDS)
        self._positions: dict[str, int] = {}
        self._positions_at = float("-inf")

    async def _ask(
        self,
        words: Sequence[str],
        account: str = "",
        stdin: bytes = b"",
        env: dict[str, str] | None = None,
    ) -> commands.Answer:
        """Run a command, as the gateway itself if no account is given."""
        async with self._permits:
            if not account:
                return await self._run(words, deadline_s=self._timeout_s, stdin=stdin, env=env)
            answer = await self._run(
                self._who.words(account, words), deadline_s=self._timeout_s, stdin=stdin, env=env
            )
            return self._who.judged(account, answer)

    async def submit(self, order: Order) -> str:
        """One sbatch."""
        words = slurm_words.submit_words(self._programs.path("sbatch"), order)
        answer = await self._ask(words, order.user, order.script.encode())
        if answer.code != 0:
            if answer.killed or slurm_states.UNREACHABLE.search(answer.complaint):
                raise BackendUnavailable(f"sbatch: {answer.complaint}")
            message, hopeless = slurm_states.refusal(answer.complaint)
            raise SubmitRefused(f"Slurm refused the job: {message}", permanent=hopeless)
        lines = answer.out.strip().splitlines()
        # `id` or `id;cluster`; a wrapper may talk before it
        job_id = lines[-1].partition(";")[0] if lines else ""
        if decimal(job_id) is None:
            raise BackendUnavailable(f"sbatch answered what is no job's id: {answer.complaint}")
        return job_id

    async def cancel(self, cancels: Sequence[Cancel]) -> None:
        """One scancel a user, and SLURM_words.MAX_SCANCEL_WORDS jobs."""
        asked = [
            self._cancel(user, words)
            for user, theirs in slurm_words.by_user(cancels).items()
            for words in slurm_words.cancel_words(self._programs.path("scancel"), theirs)
        ]
        raise_first(await asyncio.gather(*asked, return_exceptions=True))

    async def _cancel(self, user: str, words: Sequence[str]) -> None:
        answer = await self._ask(words, user)
        if (
            answer.code != 0
            and "nvalid job id" not in answer.err
            and "already complet" not in answer.err
        ):
            raise BackendUnavailable(f"scancel: {answer.complaint}")

    async def _hides(self) -> bool:
        """Whether Slurm shows users their own jobs only (PrivateData=jobs): the gateway's account
        would be shown none, and no error."""
        if self._as_users and self._private_at + PRIVACY_S < time.monotonic():
            answer = await self._ask([self._programs.path("scontrol"), "show", "config"])
            if answer.code != 0:
                raise BackendUnavailable(f"scontrol: {answer.complaint}")
            self._private, self._private_at = slurm_states.hides_jobs(answer.out), time.monotonic()
        return self._private

    async def jobs(self, users: Collection[str]) -> Listed:
        """One squeue, or one a user where Slurm hides users' jobs; and from time to time one more
        for the place in the queue."""
        names = sorted(users)
        if await self._hides():
            lists, untold = await self._each(names)
        else:
            chunks = [
                names[start : start + SQUEUE_CHUNK] for start in range(0, len(names), SQUEUE_CHUNK)
            ]
            looks = [await self._chunk(chunk) for chunk in chunks]
            lists = [one for found, _ in looks for one in found]
            untold = {account: why for _, missed in looks for account, why in missed.items()}
        found = [entry for entries in lists for entry in entries]
        waiting = [entry for entry in found if entry[0].phase is Phase.QUEUED]
        if waiting and self._programs.positions:
            await self._look_up_positions(waiting)
        places = self._positions
        jobs = [
            replace(job, position=places.get(job.id, 0)) if job.phase is Phase.QUEUED else job
            for job, _, _ in found
        ]
        return Listed(jobs, untold)

    async def _chunk(
        self, users: Sequence[str]
    ) -> tuple[list[list[tuple[Job, str, int]]], dict[str, str]]:
        """Ask about several users at once; one by one if one of them is unknown, which squeue
        refuses as a whole."""
        try:
            return [await self._squeue(users)], {}
        except BackendUnavailable as error:
            if len(users) == 1 or "nvalid user" not in str(error):
                raise
        return await self._each(users)

    async def _each(
        self, users: Sequence[str]
    ) -> tuple[list[list[tuple[Job, str, int]]], dict[str, str]]:
        return answered(
            users,
            await asyncio.gather(
                *(self._squeue([user], user) for user in users), return_exceptions=True
            ),
        )

    async def _squeue(self, users: Sequence[str], account: str = "") -> list[tuple[Job, str, int]]:
        """Ask as the gateway itself, or as an account."""
        words = [self._programs.path("squeue"), "--states=all", f"--user={','.join(users)}"]
        mark = _mark()
        words += (
            ["--json"]
            if self._programs.json
            else ["--array-unique", f"--Format={slurm_states.squeue_format(mark)}"]
        )
        answer = await self._ask(words, account, env=LISTING_ENVIRONMENT)
        if answer.code != 0:
            raise BackendUnavailable(f"squeue: {answer.complaint}")
        if self._programs.json:
            found = await asyncio.to_thread(slurm_states.jobs_of_json, answer.out, "squeue")
            # versions before 23.02 ignore the filters
            return [entry for entry in found if entry[0].user in users]
        return await asyncio.to_thread(slurm_states.parse_squeue, answer.out, mark)

    async def _look_up_positions(self, waiting: Sequence[tuple[Job, str, int]]) -> None:
        """Look at everybody's waiting jobs, sooner if one of ours is new; where that is not
        permitted, places stay unknown."""
        new = any(job.id not in self._positions for job, _, _ in waiting)
        if time.monotonic() - self._positions_at < (
            NEW_POSITION_INTERVAL_S if new else POSITION_INTERVAL_S
        ):
            return
        self._positions_at = time.monotonic()
        mark = _mark()
        fields = ",".join(
            f"{field}:{mark}" for field in ("ArrayJobID", "Partition", "PriorityLong")
        )
        try:
            answer = await self._ask(
                [
                    self._programs.path("squeue"),
                    "--noheader",
                    "--states=PENDING",
                    f"--Format={fields}",
                ],
                env=LISTING_ENVIRONMENT,
            )
        except BackendUnavailable:
            return
        lines = [line.split(mark) for line in answer.out.splitlines()]
        queue = [
            (line[0], line[1], priority)
            for line in lines
            if len(line) == 4 and (priority := decimal(line[2])) is not None
        ]
        self._positions = await asyncio.to_thread(slurm_states.positions, waiting, queue)

    async def ended(self, ids: Collection[str], users: Collection[str]) -> Sequence[Job]:
        """One sacct for SACCT_CHUNK jobs."""
        if not self._programs.accounting:
            return []
        numbers = sorted(job_id for job_id in ids if decimal(job_id) is not None)
        if not await self._hides():
            return await self._sacct(numbers, users)
        names = sorted(users)
        lists, _ = answered(
            names,
            await asyncio.gather(
                *(self._sacct(numbers, [name], name) for name in names), return_exceptions=True
            ),
        )
        return [job for found in lists for job in found]

    async def _sacct(
        self, numbers: Sequence[str], users: Collection[str], account: str = ""
    ) -> list[Job]:
        found: list[Job] = []
        for start in range(0, len(numbers), SACCT_CHUNK):
            mark = _mark()
            words = [
                self._programs.path("sacct"),
                "--allocations",
                "--parsable2",
                f"--delimiter={mark}",
            ]
            words += [
                f"--format={','.join(slurm_states.ACCOUNTING_FIELDS)}",
                f"--jobs={','.join(numbers[start : start + SACCT_CHUNK])}",
            ]
            words += [f"--user={','.join(sorted(users))}"] if users else []
            answer = await self._ask(words, account, env=LISTING_ENVIRONMENT)
            if answer.code != 0:
                raise BackendUnavailable(f"sacct: {answer.complaint}")
            found += await asyncio.to_thread(slurm_states.parse_sacct, answer.out, mark)
        return found


def _mark() -> str:
    """Return what ends a field in one call: nobody can have put it into a job's name before."""
    return "|" + "".join(secrets.choice(string.ascii_lowercase) for _ in range(8)) + "|"
