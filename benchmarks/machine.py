"""What machine a benchmark ran on, and how much of it was at others' service meanwhile."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

PACKAGES = ("grpcio", "uvloop", "SQLAlchemy", "dask", "distributed")
TICK_HZ = os.sysconf("SC_CLK_TCK")


def described() -> str:
    """Return the machine in one line."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in _lines("/proc/cpuinfo")
            if line.startswith("model name")
        ),
        "unknown CPU",
    )
    memory = next(
        (int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0
    )
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return (
        f"{os.cpu_count()} CPUs ({model}), {memory / 2**20:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {versions}, {time.strftime('%Y-%m-%d')}"
    )


def _lines(path: str) -> list[str]:
    try:
        return pathlib.Path(path).read_text().splitlines()
    except OSError:
        return []


def busy_s() -> float:
    """Return the CPU time that the whole machine has spent since it began, in seconds of one
    core."""
    fields = [int(field) for field in _lines("/proc/stat")[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICK_HZ


def cpu_s(pids: Sequence[int]) -> float:
    """Return the CPU time of processes that run, all threads together, in seconds."""
    total = 0.0
    for pid in pids:
        lines = _lines(f"/proc/{pid}/stat")
        if lines:
            fields = lines[0].rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / TICK_HZ
    return total


@dataclass(slots=True)
class Load:
    """How busy the machine was over some time, in cores."""

    cores: float = 0.0


@contextmanager
def watched() -> Iterator[Load]:
    """Measure how busy the machine is meanwhile, the benchmark's own work included."""
    load, began, busy = Load(), time.perf_counter(), busy_s()
    try:
        yield load
    finally:
        load.cores = (busy_s() - busy) / max(1e-9, time.perf_counter() - began)
