"""Which job is which instance: a job's name says it, so that a job is found again with no record at
all. Pure.

    {tag}-{uid}-s                   a scheduler
    {tag}-{uid}-w-{group}-{base}    workers: element `i` of the array is `{group}-{base + i}`;
                                    a job that is no array is the worker `{group}-{base}`

`tag` tells one gateway's jobs from another's on the same batch system.
Schedulers of earlier builds are named `…-s0`, and are found as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.backends.contract import SCHEDULER_NAME, Instance, Role

TAG = re.compile(r"[a-z][a-z0-9]{0,15}")
# Anybody may call his job so: a number has ASCII digits and no zero before them, so that an
# instance has one name only.
_WORKER = re.compile(r"(?P<group>[a-z][a-z0-9-]{0,31})-(?P<number>0|[1-9][0-9]{0,8})")
_JOB = re.compile(
    rf"(?P<tag>[a-z][a-z0-9]{{0,15}})-(?P<uid>c[a-z2-7]{{20}})-(?:s0?|w-{_WORKER.pattern})"
)


@dataclass(frozen=True, slots=True)
class JobName:
    """The parts of a job's name; a scheduler's has no group."""

    tag: str
    uid: str
    group: str = ""
    number: int = 0  # base of the workers

    def __str__(self) -> str:
        return f"{self.tag}-{self.uid}-" + (f"w-{self.group}-{self.number}" if self.group else "s")

    def instance(self, index: int | None = None) -> Instance:
        """Return the instance that a job, or an element of an array, is."""
        if not self.group:
            return Instance(self.uid, Role.SCHEDULER, SCHEDULER_NAME)
        return Instance(self.uid, Role.WORKER, f"{self.group}-{self.number + (index or 0)}")


def parse_job_name(text: str) -> JobName | None:
    """Return the parts of a job's name, None if it is none of a gateway's."""
    match = _JOB.fullmatch(text)
    if match is None:
        return None
    if match["group"] is None:
        return JobName(match["tag"], match["uid"])
    return JobName(match["tag"], match["uid"], match["group"], int(match["number"]))


def split_worker(name: str) -> tuple[str, int]:
    """Return group and number of a worker's name; ValueError if it is not made of them."""
    match = _WORKER.fullmatch(name)
    if match is None:
        raise ValueError(f"a worker's name is its group, a hyphen and a number, not {name!r}")
    return match["group"], int(match["number"])


def job_name(tag: str, instance: Instance) -> JobName:
    """Return the name of the job that holds this instance alone, or as its first element."""
    if instance.role is Role.SCHEDULER:
        return JobName(tag, instance.uid)
    group, sequence = split_worker(instance.name)
    return JobName(tag, instance.uid, group, sequence)
