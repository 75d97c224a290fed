"""Orders for Slurm, and lines of its answers."""

from __future__ import annotations

from gateway.backends.batch.names import JobName

UID = "c" + "a" * 20
NAME = JobName("dgw1", UID, "default", 40)
