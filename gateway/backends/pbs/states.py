"""What a PBS job's state means: where it stands, how it ended, why it waits. Pure; every state has
its row, and so has none.

States and exit statuses as in `man pbs_job_attributes` and as recorded of a server 23.06.
Exit_status is also shown for jobs that live again after a rerun, so the state is looked at first.
"""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from gateway.backends.batch import system
from gateway.backends.batch.names import parse_job_name
from gateway.backends.contract import Phase
from gateway.backends.pbs.qstat import Job, JobId, Listing

# The letter of a state → where it stands. What is in no row is QUEUED: it is there, and nothing may
# be made of it.
PHASES: dict[str, Phase] = {
    "Q": Phase.QUEUED,
    "H": Phase.QUEUED,
    "W": Phase.QUEUED,
    "T": Phase.QUEUED,  # on its way to a queue or an execution host
    "M": Phase.QUEUED,  # moved to another server, which alone knows more
    "B": Phase.QUEUED,  # an array of which something has run; its parts say more
    "R": Phase.RUNNING,
    "S": Phase.RUNNING,
    "U": Phase.RUNNING,  # suspended while its workstation's owner is at it
    "E": Phase.RUNNING,  # its output is being delivered, or it is being requeued
    "X": Phase.GONE,  # a part of an array, ended while others go on
    "F": Phase.GONE,
    "C": Phase.GONE,  # Torque's word for it
}
TOLD = {
    "T": "it is being moved",
    "M": "it was moved to another PBS server",
    "S": "it is suspended",
    "U": "it is suspended: its workstation is in use",
    "E": "it is ending",
}
# What the execution host or the server says of a job that it could not run to its end.
ENDED_BY_PBS = {
    -1: "it could not be started; PBS gave up",
    -2: "it could not be started: the prologue or the set-up of its files failed",
    -3: "it could not be started and is tried again",
    -4: "PBS's execution daemon was started anew and ended it",
    -5: "PBS's execution daemon was started anew and ended it",
    -6: "PBS's execution daemon was started anew and ended it",
    -11: "it was requeued",
    -20: "its node was lost",
    -27: "killed for memory: it used more than it had asked for",
    -28: "it used more processor time than it had asked for",
    -29: "it ran for longer than its walltime",
}
HELD_BY = {
    "u": "by its user",
    "o": "by an operator",
    "s": "by the system",
    "p": "by PBS: a bad password",
}
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CTIME = re.compile(
    r"\w{3} (?P<month>\w{3}) +(?P<day>\d{1,2}) (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
    r" (?P<year>\d{4})",
    re.ASCII,
)
SENT, NEVER_RAN, DELETED = 41, 70, 91  # substates
SUSPECTED_ROWS, SUSPECTED_JOBS = 3, 4  # each of these costs a question
QDEL_STATUS = 256 + signal.SIGTERM


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a job stands."""

    phase: Phase
    exit_code: int | None = None
    message: str = ""


def standing(job: Job, history: bool = True) -> Standing:
    """Return where a job or a part of an array stands. `history`: whether the server keeps how jobs
    ended."""
    phase = PHASES.get(job.state, Phase.QUEUED)
    if phase is Phase.GONE:
        return _ended(job, history)
    if job.state in ("Q", "H", "W"):
        return Standing(Phase.QUEUED, None, _waiting(job))
    if job.state == "R":
        return _running(job)
    return Standing(
        phase, None, TOLD.get(job.state) or f"PBS says state {job.state or 'nothing'!r}"
    )


def _running(job: Job) -> Standing:
    if "was sent for execution" in job.comment or job.substate == SENT:
        # Its node has not taken it yet, and may refuse. A server that is started anew now puts it
        # back into the queue, -r n or not.
        return Standing(Phase.QUEUED, None, "it is being started")
    return Standing(
        Phase.RUNNING, None, "it is being deleted" if "terminated by" in job.comment else ""
    )


def _waiting(job: Job) -> str:
    # A waiting part of an array has the array's comment: when its first part began, not why this
    # one waits.
    why = (
        job.comment if job.comment and not job.comment.startswith("Job Array Began") else _why(job)
    )
    return (
        f"{why.rstrip('.')}; it had been started and was put back into the queue"
        if job.runs
        else why
    )


def _why(job: Job) -> str:
    """Return why a job waits of which PBS does not say it: comments are written by a scheduling
    cycle, and not for every state."""
    if job.state == "H":
        by = ", ".join(HELD_BY[letter] for letter in job.holds if letter in HELD_BY)
        return f"held {by}" if by else "held"
    if job.state == "W":
        return "it waits for its start time"
    return f"waiting in queue {job.queue}"


def _ended(job: Job, history: bool) -> Standing:
    status = job.exit_status
    if job.id.index is not None and job.comment == "Subjob finished":
        # the server has forgotten the part, and tells of all that have ended alike: the status is
        # the array's
        if not history:
            return Standing(
                Phase.GONE, None, "it ended; PBS keeps no job history and does not know how"
            )
        # Written over when its array ended: the status is the array's.
        never = job.substate == NEVER_RAN
        return Standing(
            Phase.GONE,
            None,
            "it was deleted before it ran" if never else "it ended; PBS did not keep how",
        )
    if status is None:
        why = (
            "it was deleted before it ran"
            if job.substate == DELETED
            else "it ended without having run"
        )
        return Standing(Phase.GONE, None, why if job.state != "C" else "")
    if status < 0:
        return Standing(
            Phase.GONE,
            None,
            _with(ENDED_BY_PBS.get(status, f"PBS ended it with status {status}"), job.comment),
        )
    if status == 0 and job.substate != DELETED:
        return Standing(Phase.GONE, 0)
    if status == QDEL_STATUS or job.substate == DELETED:
        return Standing(
            Phase.GONE,
            128 + signal.SIGTERM if status > 255 else status,
            _with("it was deleted", job.comment),
        )
    number = status - 256 if status > 256 else status - 128
    if 0 < number < signal.NSIG:
        return Standing(
            Phase.GONE, 128 + number, _with(f"killed by {_signal(number)}", job.comment)
        )
    return Standing(Phase.GONE, status)


def _with(words: str, comment: str) -> str:
    return f"{words} ({comment})" if comment else words


def starts_at(job: Job) -> int:
    """Return when PBS expects a job to start, in ms since the epoch; 0 if it does not say.
    ctime(3), English whatever the locale."""
    match = _CTIME.fullmatch(job.estimated_start)
    if match is None or match["month"] not in MONTHS:
        return 0
    day, hour, minute, second, year = (
        int(match[name]) for name in ("day", "hour", "minute", "second", "year")
    )
    try:
        return (
            int(
                time.mktime(
                    (year, MONTHS.index(match["month"]) + 1, day, hour, minute, second, 0, 0, -1)
                )
            )
            * 1000
        )
    except (ValueError, OverflowError):
        return 0


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def told(listing: Listing, users: Collection[str], history: bool = True) -> list[system.Job]:
    """Return the jobs of some users, an entry for each part of an array; a whole array says nothing
    of its own."""
    place = places(listing.jobs.values())
    found: list[system.Job] = []
    for job in listing.jobs.values():
        user = job.owner.partition("@")[0]
        if user not in users or (job.id.array and job.id.index is None):
            continue
        index = job.id.index
        indices = () if index is None else (range(index, index + 1),)
        now = standing(job, history)
        starts = starts_at(job) if now.phase is Phase.QUEUED else 0
        found.append(
            system.Job(
                str(job.id.whole),
                job.name,
                user,
                now.phase,
                indices,
                now.message,
                now.exit_code,
                starts,
                place.get(job.id, 0),
            )
        )
    return found


def doubtful(listing: Listing, users: Collection[str]) -> set[JobId]:
    """Return what should be asked for by identifier: a gateway's jobs of these users that are told
    of twice, and living ones of one name.

    Others may be told of as somebody's text will have it: they count for nothing.
    """

    def ours(job: Job) -> bool:
        return job.owner.partition("@")[0] in users and parse_job_name(job.name) is not None

    names: dict[str, set[JobId]] = {}
    for job in listing.jobs.values():
        if PHASES.get(job.state) is not Phase.GONE and ours(job):
            names.setdefault(job.name, set()).add(job.id.whole)
    unclear = [job for tellings in listing.unclear.values() for job in tellings if ours(job)]
    for job in unclear:
        names.setdefault(job.name, set()).add(job.id.whole)
    twice = {identity for alike in names.values() if len(alike) > 1 for identity in alike}
    return twice | {job.id.whole for job in unclear}


def alone(listing: Listing, asked: JobId) -> dict[JobId, Job]:
    """Return what an answer about one job tells of it, and of its parts if it is an array.

    A job's own words come before its text can make up any. Its parts have its name and owner,
    whatever its text tells of them.
    """
    told = {
        **listing.jobs,
        **{identity: tellings[0] for identity, tellings in listing.unclear.items()},
    }
    head = told.get(asked)
    if head is None:
        return {}
    return {
        identity: replace(job, name=head.name, owner=head.owner)
        for identity, job in told.items()
        if identity.whole == asked
    }


def tells_of_others(listing: Listing, asked: JobId) -> bool:
    """Whether an answer about one job tells of other jobs too, which only its text can have made
    up."""
    return any(identity.whole != asked for identity in listing.order)


def suspects(listing: Listing, doubts: Collection[JobId]) -> list[JobId]:
    """Return whose text may tell of most of these jobs, the likeliest first: one before a long row
    of them, or one that begins it."""
    rows: list[list[JobId]] = [[]]  # of doubted ones, each row behind the one that stands before it
    for identity in (identity.whole for identity in listing.order):
        if identity not in doubts:
            rows.append([])
        rows[-1].append(identity)
    rows.sort(key=len, reverse=True)
    chosen = [row[:1] for row in rows[:SUSPECTED_ROWS]] + [
        row[1:SUSPECTED_JOBS] for row in rows[:SUSPECTED_ROWS]
    ]
    return list(dict.fromkeys(identity for row in chosen for identity in row))


def our_arrays(listing: Listing, users: Collection[str]) -> set[JobId]:
    """Return the arrays that are a gateway's, by their names and owners."""
    arrays = (job for job in listing.jobs.values() if job.id.array and job.id.index is None)
    return {
        job.id
        for job in arrays
        if job.owner.partition("@")[0] in users and parse_job_name(job.name) is not None
    }


def living(listing: Listing, users: Collection[str]) -> set[JobId]:
    """Return the whole jobs of these users that have not ended and are a gateway's by their
    names."""
    alive = (job for job in listing.jobs.values() if PHASES.get(job.state) is not Phase.GONE)
    return {
        job.id.whole
        for job in alive
        if job.owner.partition("@")[0] in users and parse_job_name(job.name) is not None
    }


def places(jobs: Iterable[Job]) -> Mapping[JobId, int]:
    """Return the place of each waiting job in its queue, from 1, in the order of their numbers and
    indices."""
    waiting = sorted(
        (
            job
            for job in jobs
            if job.state == "Q" and (job.id.index is not None or not job.id.array)
        ),
        key=_order,
    )
    before: Counter[str] = Counter()
    found: dict[JobId, int] = {}
    for job in waiting:
        before[job.queue] += 1
        found[job.id] = before[job.queue]
    return found


def _order(job: Job) -> tuple[int, int]:
    return job.id.number, -1 if job.id.index is None else job.id.index
