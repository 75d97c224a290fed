"""How amounts of memory and of time are written by people and read, and between which bounds any
amount must be."""

from __future__ import annotations

import math
import re

MIN_MEMORY_BYTES = 2**20  # of a process; 0 stands for none named
MAX_MEMORY_BYTES = 2**60
MIN_CORES, MAX_CORES = 0.01, 65_536.0  # of a process
MAX_THREADS = 65_536  # of a process
MAX_DURATION_S = 10 * 365 * 86400.0
# JSON and protobuf's Struct tell whole numbers as floats, which are exact up to here
MAX_WHOLE = 2**53 - 1
MAX_COUNT = 2**31 - 1  # what protobuf's int32 holds

_UNITS = {"": 1, "B": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_UNITS |= {unit + "B": size for unit, size in list(_UNITS.items()) if unit not in ("", "B")}
_UNITS |= {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40, "PI": 2**50}
_UNITS |= {unit + "B": size for unit, size in list(_UNITS.items()) if unit.endswith("I")}
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


def format_duration(seconds: float) -> str:
    """Return a duration as people read it."""
    for unit, factor in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= factor:
            return f"{seconds / factor:.4g} {unit}"
    return f"{seconds:.4g} s"
