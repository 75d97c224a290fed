"""Recorded answers of a real PBS, and orders for one."""

from __future__ import annotations

from gateway.backends.batch.names import JobName
from gateway.backends.batch.system import Order
from gateway.backends.contract import Resources, Role
from gateway.backends.pbs.qstat import (
    Job,
    JobId,
    parse_id,
    parse_json,
)
from tests.parts.pbs_cases import case

UID = "c" + "a" * 20
JOB, ARRAY = JobName("dgw", UID, "default", 4), JobName("dgw", UID, "default", 0)


def job(case_name: str, identity: str) -> Job:
    """Return a recorded job."""
    found = parse_id(identity)
    assert found is not None
    return parse_json(case(case_name).out).jobs[found]


# Telling


def order(name: JobName = JOB, count: int = 1, **settings: object) -> Order:
    """Return a submission of some workers."""
    return Order(
        name,
        "alice",
        Role.WORKER,
        "#!/bin/sh\n",
        (range(count),) if count > 1 else (),
        Resources(3.5, 3 * 2**30),
        settings,
        "bob",
    )


def parts(*indices: int, number: int = 12) -> set[JobId]:
    """Return parts of an array."""
    return {JobId(number, "h", True, index) for index in indices}
