"""Launches and jobs of a batch system."""

from __future__ import annotations

from gateway.backends.batch import arrays
from gateway.backends.batch.system import Job
from gateway.backends.contract import (
    Phase,
)

UID, OTHER = "c" + "a" * 20, "c" + "b" * 20


def job(
    name: str,
    phase: Phase = Phase.RUNNING,
    job_id: str = "7",
    indices: tuple[int, ...] = (),
    **fields: object,
) -> Job:
    """Return a job as it is listed."""
    return Job(job_id, name, "dgw", phase, arrays.ranges(indices), **fields)  # type: ignore[arg-type]
