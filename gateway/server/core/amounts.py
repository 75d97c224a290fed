"""How much a process is given: read out of settings, checked, and as the machine room really gives
it, so that limits count what runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.backends.contract import Resources
from gateway.server.core.errors import Violation
from gateway.server.core.model import Limits
from gateway.server.core.quantities import (
    MAX_CORES,
    MAX_GPUS,
    MAX_THREADS,
    MIN_CORES,
    MIN_MEMORY_BYTES,
    parse_bytes,
    parse_named,
)

Allot = Callable[[Resources], Resources]  # of what is asked for: what the machine room gives
# of what is given, and the settings: why the machine room cannot give it
Objection = Callable[[Resources, Mapping[str, object]], str]
MEMORY = ("worker_memory", "scheduler_memory")
CORES = ("worker_cores", "scheduler_cores")
GPUS = ("worker_gpus", "scheduler_gpus")
NAMED = ("worker_resources", "scheduler_resources")
# settings that are read and judged here, whatever else a setting's own rule is
READ_HERE = (*MEMORY, *CORES, *GPUS, *NAMED, "worker_threads")


def as_asked(resources: Resources) -> Resources:
    """Return what a machine room gives that gives exactly what is asked for."""
    return resources


def as_it_is(given: Resources, settings: Mapping[str, object]) -> str:
    """Object to nothing: the machine room gives whatever is asked for."""
    return ""


def read(
    settings: Mapping[str, object], base: Mapping[str, object], limits: Limits, path: str
) -> tuple[dict[str, object], list[Violation]]:
    """Return settings with their amounts of memory in bytes, and what is wrong with any amount,
    under the field path `path`. `base`: the settings as the administrator has them."""
    found, violations = dict(settings), []
    for name in MEMORY:
        try:
            size = parse_bytes(settings.get(name, 0))  # type: ignore[arg-type]
            _check_memory(size, limited=name in settings and limits.memory_bytes is not None)
        except ValueError as error:
            violations.append(Violation(f"{path}.{name}", str(error)))
        else:
            found[name] = size
    for name in CORES:
        if not _are_cores(settings.get(name, 1.0)):
            words = f"must be a number between {MIN_CORES:g} and {MAX_CORES:g}"
            violations.append(Violation(f"{path}.{name}", words))
    for name in GPUS:
        if not _are_gpus(settings.get(name, 0)):
            words = f"must be a whole number between 0 and {MAX_GPUS}"
            violations.append(Violation(f"{path}.{name}", words))
    for name in NAMED:
        try:
            if name in settings:
                found[name] = _named(settings[name], limits)
        except ValueError as error:
            violations.append(Violation(f"{path}.{name}", str(error)))
    violations += _check_threads(settings, base, limits, path)
    return found, violations


def resources(settings: Mapping[str, object], role: str, allot: Allot) -> Resources:
    """Return what a process of a role (`worker`, `scheduler`) is given; whatever, where the
    settings are wrong, which was told."""
    cores, memory = settings.get(f"{role}_cores", 1.0), settings.get(f"{role}_memory", 0)
    gpus, named = settings.get(f"{role}_gpus", 0), settings.get(f"{role}_resources", {})
    if not _are_cores(cores) or not isinstance(memory, int) or not _are_gpus(gpus):
        return Resources()
    try:
        others = parse_named(named)
    except ValueError:
        return Resources()
    return allot(Resources(float(cores), memory, gpus, others))  # type: ignore[arg-type]


def objections(
    settings: Mapping[str, object], given: Resources, role: str, why: Objection, path: str
) -> list[Violation]:
    """Return why a process of a role cannot be given GPUs or named resources, under the setting
    that asks for them."""
    words = why(given, settings) if given.gpus or given.named else ""
    name = "gpus" if given.gpus and why(replace(given, named={}), settings) else "resources"
    return [Violation(f"{path}.{role}_{name}", words)] if words else []


def _are_gpus(value: object) -> bool:
    plain = isinstance(value, int) and not isinstance(value, bool)
    return plain and 0 <= value <= MAX_GPUS  # type: ignore[operator]


def _named(value: object, limits: Limits) -> dict[str, float]:
    """Return amounts of named resources; ValueError if one is none, or none that a cluster may
    have."""
    found = parse_named(value)
    unknown = sorted(found.keys() - limits.named.keys()) if limits.named else []
    if unknown:
        there = ", ".join(sorted(limits.named))
        raise ValueError(f"{unknown[0]} is none that a cluster may have; there are {there}")
    return found


def _are_cores(value: object) -> bool:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and MIN_CORES <= value <= MAX_CORES  # type: ignore[operator]


def _check_memory(size: int, *, limited: bool) -> None:
    """Raise ValueError if a process cannot be given so much: what is as good as nothing would pass
    by the limit of a cluster, and so would no amount, which is no limit to a worker."""
    if not size and limited:
        raise ValueError("must be more than 0: the memory of one cluster is limited")
    if 0 < size < MIN_MEMORY_BYTES:
        raise ValueError("must be 0 or at least 1 MiB")


def _check_threads(
    settings: Mapping[str, object], base: Mapping[str, object], limits: Limits, path: str
) -> list[Violation]:
    """Return what is wrong with a worker's threads. Where cores are limited nobody but the
    administrator may have more threads than cores: each would take a core of its own."""
    threads, cores = settings.get("worker_threads", 0), settings.get("worker_cores", 1.0)
    path = f"{path}.worker_threads"
    if not isinstance(threads, int) or isinstance(threads, bool) or not 0 <= threads <= MAX_THREADS:
        return [Violation(path, f"must be a whole number between 0 and {MAX_THREADS}")]
    if limits.cores is None or threads == base.get("worker_threads", 0) or not _are_cores(cores):
        return []
    most = max(1, math.ceil(cores))  # type: ignore[call-overload]
    if threads <= most:
        return []
    words = f"must be at most {most}, a thread a core: the cores of one cluster are limited"
    return [Violation(path, words)]
