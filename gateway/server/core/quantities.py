"""How amounts of memory and of time are written by people and read, and between which bounds any
amount must be."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

MIN_MEMORY_BYTES = 2**20  # of a process; 0 stands for none named
MAX_MEMORY_BYTES = 2**60
MIN_CORES, MAX_CORES = 0.01, 65_536.0  # of a process
MAX_THREADS = 65_536  # of a process
MAX_GPUS = 1_024  # of a process
MAX_NAMED = 16  # resources that a machine room names, of a process or in the limits of a cluster
MAX_AMOUNT = 1e9  # of one of them
MAX_RESOURCE_NAME = 128  # characters
MAX_DURATION_S = 10 * 365 * 86400.0
# JSON and protobuf's Struct tell whole numbers as floats, which are exact up to here
MAX_WHOLE = 2**53 - 1
MAX_COUNT = 2**31 - 1  # what protobuf's int32 holds

_UNITS = {"": 1, "B": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_UNITS |= {unit + "B": size for unit, size in list(_UNITS.items()) if unit not in ("", "B")}
_UNITS |= {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40, "PI": 2**50}
_UNITS |= {unit + "B": size for unit, size in list(_UNITS.items()) if unit.endswith("I")}
# such as fpga, gpu:a100 or example.com/fpga: nothing that separates words, or amounts from names
_RESOURCE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_./:-]*[A-Za-z0-9])?", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_GPUS = ("gpu", "gpus")
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", re.ASCII)


def parse_bytes(text: str | float) -> int:
    """Return bytes out of `4 GiB`, `512M` or a number; ValueError says what is wrong."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        if (isinstance(text, float) and not math.isfinite(text)) or text < 0:
            raise ValueError("must be a positive amount of memory")
        return _bounded(_whole(text))
    match = _AMOUNT.fullmatch(text) if isinstance(text, str) and len(text) <= 40 else None
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError("must be an amount of memory such as 4 GiB, 512 MB or 2000000000")
    return _bounded(_whole(float(match[1]) * _UNITS[match[2].upper()]))


def _whole(amount: float) -> int:
    """Return whole bytes; less than one is not none, which stands for no limit."""
    return int(amount) or int(amount > 0)


def _bounded(size: int) -> int:
    if size > MAX_MEMORY_BYTES:
        raise ValueError("must be at most 1 EiB")
    return size


def format_bytes(size: int) -> str:
    """Return an amount of memory as people read it."""
    if size > MAX_MEMORY_BYTES:  # as a damaged record may say; no float holds all of that
        return "more than 1 EiB"
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size} B"


def parse_named(value: object) -> dict[str, float]:
    """Return amounts of resources that a machine room names, without those of 0; ValueError says
    what is wrong."""
    if not isinstance(value, Mapping):
        raise ValueError("must map names of resources to amounts, such as fpga to 1")
    if len(value) > MAX_NAMED:
        raise ValueError(f"must have at most {MAX_NAMED} entries")
    found = {str(name): _amount_of(name, amount) for name, amount in value.items()}
    return {name: amount for name, amount in found.items() if amount}


def _amount_of(name: object, amount: object) -> float:
    if not isinstance(name, str) or len(name) > MAX_RESOURCE_NAME or not _RESOURCE.fullmatch(name):
        raise ValueError(f"{name!r:.140} is no name of a resource, such as fpga")
    if name.lower() in _GPUS:
        raise ValueError(f"{name!r}: GPUs are asked for by worker_gpus or scheduler_gpus")
    if isinstance(amount, str) and len(amount) <= 40 and _NUMBER.fullmatch(amount):
        amount = float(amount)
    number = isinstance(amount, int | float) and not isinstance(amount, bool)
    if not number or not 0 <= amount <= MAX_AMOUNT:  # type: ignore[operator]
        raise ValueError(f"{name}: must be a number between 0 and {MAX_AMOUNT:.0f}")
    return float(amount)  # type: ignore[arg-type]


def format_named(amounts: Mapping[str, float]) -> str:
    """Return amounts of named resources as people read them."""
    return ", ".join(f"{amount:.15g} {name}" for name, amount in sorted(amounts.items()))


def format_gpus(count: int) -> str:
    """Return a number of GPUs as people read it."""
    return f"{count} GPU" if count == 1 else f"{count} GPUs"


def exact_duration(seconds: float) -> str:
    """Return a bound of durations as people read it, to the second: `1 h 30 min`. It never says
    more than there is."""
    if seconds < 1:
        return f"{seconds:.3g} s"
    found, rest = [], int(seconds)
    for unit, factor in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, factor)
        if count:
            found.append(f"{count} {unit}")
    return " ".join(found)


def format_duration(seconds: float) -> str:
    """Return a duration as people read it."""
    for unit, factor in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= factor:
            return f"{seconds / factor:.4g} {unit}"
    return f"{seconds:.4g} s"
