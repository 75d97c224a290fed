"""What a listing of jobs tells of instances, and which jobs are doubled. Pure.

Two jobs of one instance can exist where a submission was answered too late or never, or a server
was killed in its midst: the one that runs counts, else the first that was submitted; the others are
to be cancelled.
"""

from __future__ import annotations

import re
import string
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.backends.batch.arrays import ranges
from gateway.backends.batch.names import parse_job_name
from gateway.backends.batch.system import Cancel, Job
from gateway.backends.contract import Instance, Observation, Phase
from gateway.wire import decimal

LIVE = (Phase.QUEUED, Phase.RUNNING)
MEMORY = re.compile(
    r"exceeded (job|step) memory limit|oom[-_ ]?kill|out of memory handler", re.IGNORECASE
)
OUTGREW_MEMORY = "it was killed for memory: it used more than its job was given"
# of an array: as many workers as a cluster may have; a larger one is nobody's but its user's
MAX_ELEMENTS = 100_000
_RANK = {Phase.RUNNING: 0, Phase.QUEUED: 1, Phase.EXITED: 2, Phase.GONE: 3}


@dataclass(frozen=True, slots=True)
class Sight:
    """The job, or the element of one, that stands for an instance."""

    job: Job
    index: int | None
    observation: Observation

    @property
    def live(self) -> bool:
        """Whether it runs or will run."""
        return self.observation.phase in LIVE


@dataclass(slots=True)
class Sights:
    """A listing as instances."""

    by_instance: dict[Instance, Sight] = field(default_factory=dict)
    # living jobs of instances that have a better one
    doubled: list[Cancel] = field(default_factory=list)
    # by id: jobs that ended as a whole, which may be arrays of which no element ran
    ended: dict[str, Job] = field(default_factory=dict)


def handle_of(job_id: str, index: int | None) -> str:
    """Return the handle of a job or of an element: `123` or `123/4`."""
    return job_id if index is None else f"{job_id}/{index}"


def parse_handle(handle: str) -> tuple[str, int | None]:
    """Return a handle's job and index."""
    job_id, slash, index = handle.rpartition("/")
    number = decimal(index) if slash else None
    return (handle, None) if number is None else (job_id, number)


def sights(tag: str, jobs: Iterable[Job], owners: Mapping[str, str] | None = None) -> Sights:
    """Return what jobs of this gateway tell. `owners`: as whom each cluster (uid) runs; another's
    job of that name counts for nothing."""
    found = Sights()
    for job in jobs:
        name = parse_job_name(job.name)
        if (
            name is None
            or name.tag != tag
            or (owners is not None and owners.get(name.uid, job.user) != job.user)
        ):
            continue
        if sum(map(len, job.indices)) > MAX_ELEMENTS:
            continue
        if job.phase is Phase.GONE and not job.indices:
            found.ended[job.id] = job
        indices = [index for run in job.indices for index in run] if job.indices else [None]
        for index in indices:
            _add(found, name.instance(index), job, index)
    return found


def _add(found: Sights, instance: Instance, job: Job, index: int | None) -> None:
    message = waiting_words(job) if job.phase is Phase.QUEUED else job.message
    seen = Observation(
        instance, job.phase, handle_of(job.id, index), job.exit_code, message, job.user
    )
    sight, known = Sight(job, index, seen), found.by_instance.get(instance)
    if known is None:
        found.by_instance[instance] = sight
        return
    better, worse = (sight, known) if _order(sight) < _order(known) else (known, sight)
    found.by_instance[instance] = better
    if worse.live and worse.job.id != better.job.id:
        found.doubled.append(
            Cancel(
                worse.job.id, worse.job.user, () if worse.index is None else ranges([worse.index])
            )
        )


def _order(sight: Sight) -> tuple[int, int, str]:
    """Return a key: least is best. Of living jobs the oldest, of ended ones the youngest."""
    digits = "".join(
        character for character in sight.job.id.partition(".")[0] if character in string.digits
    )
    number = decimal(digits) or 0
    return _RANK[sight.observation.phase], number if sight.live else -number, sight.job.id


def waiting_words(job: Job) -> str:
    """Return why and how long a job waits, as a sentence's part."""
    words = [job.message or "the batch system has told no reason yet"]
    if job.position:
        words.append(f"position {job.position} in the queue")
    if job.starts_at:
        words.append(
            "expected to start at "
            + time.strftime("%Y-%m-%d %H:%MZ", time.gmtime(job.starts_at // 1000))
        )
    return "; ".join([*(part.rstrip(" .;") for part in words[:-1]), words[-1]])


def explained(message: str, last_words: str) -> str:
    """Return why an instance ended, out of what the batch system says and the last words of its
    log.

    Where memory is watched by sampling, a job that outgrew its own is told as failed or cancelled,
    and only its log says why.
    """
    if MEMORY.search(last_words) and "memory" not in message:
        message = OUTGREW_MEMORY
    return "\n".join(part for part in (message, last_words) if part)


def merged(cancels: Iterable[Cancel]) -> list[Cancel]:
    """Return cancels with one entry for a job and user; a whole job swallows its elements."""
    whole: set[tuple[str, str]] = set()
    elements: dict[tuple[str, str], set[int]] = {}
    for cancel in cancels:
        key = (cancel.id, cancel.user)
        elements.setdefault(key, set())
        if cancel.indices:
            elements[key].update(index for run in cancel.indices for index in run)
        else:
            whole.add(key)
    return [
        Cancel(*key, () if key in whole else ranges(numbers)) for key, numbers in elements.items()
    ]
