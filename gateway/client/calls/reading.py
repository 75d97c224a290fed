"""How the client reads what people write: numbers, sizes, durations, names and texts, wherever
they are given. Pure.

A number may be one of numpy's or a text such as "2"; what would change its value is refused. Every
error is a ValueError of one line: what was given where, and what would be right.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from numbers import Real
from typing import Any

from dask.utils import parse_bytes

from gateway.printable import quoted

MAX_DEPTH = 32  # mappings and lists in each other
MAX_PATH = 300  # characters of what a value in mappings is called
MOST = 2**31 - 1  # of what the protocol counts
LONGEST_S = 315_576_000_000  # what a protobuf Duration holds: about 10,000 years
SECONDS = {
    "w": 604800.0,
    "week": 604800.0,
    "d": 86400.0,
    "day": 86400.0,
    "h": 3600.0,
    "hr": 3600.0,
    "hour": 3600.0,
    "m": 60.0,
    "min": 60.0,
    "minute": 60.0,
    "": 1.0,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "ms": 1e-3,
    "millisecond": 1e-3,
    "us": 1e-6,
    "microsecond": 1e-6,
    "ns": 1e-9,
    "nanosecond": 1e-9,
}
NEVER = ("never", "none", "off", "forever")
_SPAN = re.compile(r"(?:(\d+(?:\.\d*)?|\.\d+)|\b(?=[a-z]))\s*([a-z]*)\s*")
_BOUNDS = re.compile(r"\s*(\d+)\s*-\s*(\d+)\s*")


def shown(value: object) -> str:
    """Return a value as an error quotes it: in one line, and not for pages."""
    return quoted(value)


def meant(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` for a name that is none of those known; empty if none is like
    it."""
    there, like = {one.replace("-", "_"): one for one in known}, name.lower().replace("-", "_")
    longer = [one for one in there if len(like) > 2 and one.startswith(like)]
    close = longer or difflib.get_close_matches(like, list(there), n=1, cutoff=0.6)
    return f"; did you mean {there[close[0]]}?" if close else ""


def plain(value: Any) -> Any:
    """Return one of numpy's numbers as Python's own; everything else as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value


def finite(value: Any) -> int | float | None:
    """Return a number as Python counts with it; None if it is none, or larger than any that the
    protocol carries."""
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return None
    try:
        found = float(value)
    except (OverflowError, ValueError):  # 10**400, a signalling NaN
        return None
    if not math.isfinite(found):
        return None
    return value if isinstance(value, int) else found


def number(value: Any, what: str, right: str = "a number") -> int | float:
    """Return a finite number."""
    found = plain(value)
    if isinstance(found, str):
        text = found.strip()
        try:
            found = int(text)
        except ValueError:
            try:
                found = float(text)
            except ValueError:
                found = None
    told = finite(found)
    if told is None:
        raise ValueError(f"{what} must be {right}, not {shown(value)}")
    return told


def count(value: Any, what: str, *, least: int = 0) -> int:
    """Return a whole number of things; 2.0 is one, 1.9 is not."""
    right = f"a whole number from {least} to {MOST}"
    found = number(value, what, right)
    if found != int(found) or not least <= found <= MOST:
        raise ValueError(f"{what} must be {right}, not {shown(value)}")
    return int(found)


def sizing(value: Any, what: str = "n_workers") -> int | tuple[int, int]:
    """Return a number of workers, or the two bounds of an adaptive group: `(0, 10)` or "0-10"."""
    if isinstance(value, str) and (match := _BOUNDS.fullmatch(value)):
        value = (match[1], match[2])
    if getattr(value, "shape", None) == (2,):  # of numpy's arrays
        value = value.tolist()
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return count(value, what)
    if len(value) != 2:
        raise ValueError(
            f"{what} must be a number of workers, or two bounds (minimum, maximum), not"
            f" {shown(value)}"
        )
    low, high = count(value[0], f"the minimum of {what}"), count(value[1], f"the maximum of {what}")
    if high < max(1, low):
        raise ValueError(
            f"{what}: adapting needs 0 <= minimum <= maximum and maximum >= 1, not {low} and {high}"
        )
    return low, high


def seconds(value: Any, what: str) -> float:
    """Return a duration in seconds: a number of them, a timedelta, "1 hour 30 min" or "never",
    which is 0."""
    found, wrong = _span_of_numpy(value), ""
    if isinstance(found, timedelta):
        found = found.total_seconds()
    elif isinstance(found, str):
        found = _spelt(found)
    nan = isinstance(found, Decimal) and found.is_nan()
    if isinstance(found, bool) or not isinstance(found, Real | Decimal) or nan or found != found:
        wrong = 'a number of seconds or a duration such as "30 minutes"'
        if isinstance(plain(value), str):
            wrong += " (units are weeks, days, hours, minutes and seconds)"
    elif not 0.0 <= (float(found) if finite(found) is not None else math.inf) <= LONGEST_S:
        wrong = "a duration from 0, which is never, to 10,000 years"
    if wrong:
        raise ValueError(f"{what} must be {wrong}, not {shown(value)}")
    return float(found)


def _span_of_numpy(value: Any) -> Any:
    """Return one of numpy's durations in seconds, whatever it counts; None for one of months, whose
    length nobody knows. Everything else as `plain` does."""
    if not str(getattr(value, "dtype", "")).startswith("timedelta64"):
        return plain(value)
    try:
        return float(value / type(value)(1, "s"))
    except TypeError:
        return None


def _spelt(words: str) -> float | None:
    """Return the seconds that words such as `1 h 30 min` or `hour` tell, None if they tell none."""
    text = words.strip().lower()
    if text in NEVER:
        return 0.0
    try:
        return float(text)  # 1e3 too
    except ValueError:
        pass
    total, at = 0.0, 0
    while at < len(text):
        match = _SPAN.match(text, at)
        if match is None or match.end() == at:
            return None
        unit = match[2] if match[2] in SECONDS else match[2].removesuffix("s")
        if not unit or unit not in SECONDS:
            return None
        total, at = total + float(match[1] or 1) * SECONDS[unit], match.end()
    return total if text else None


TRUTHS = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def truth(value: Any, what: str) -> bool:
    """Return whether a value says yes: true or false, also as a text or as 1 or 0."""
    found = plain(value)
    if isinstance(found, bool):
        return found
    if isinstance(found, str | int) and str(found).strip().lower() in TRUTHS:
        return TRUTHS[str(found).strip().lower()]
    raise ValueError(f"{what} must be true or false, not {shown(value)}")


def amount(value: Any, what: str) -> float:
    """Return an amount of cores or of bytes: a number, or a text such as "64 GiB"."""
    try:
        # which makes 1 B of an empty text
        text = isinstance(value, str) and bool(value.strip())
        found = number(parse_bytes(value) if text else value, what)
    except (ValueError, OverflowError):
        found = -1
    if found < 0:
        raise ValueError(
            f'{what} must be a number from 0, or a text such as "64 GiB", not {shown(value)}'
        )
    return float(found)


def text(value: Any, what: str) -> str:
    """Return a text."""
    found = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(found, str) or not _sendable(found):
        raise ValueError(f"{what} must be a text, not {shown(value)}")
    return found


def _sendable(text: str) -> bool:
    """Whether a text is Unicode: half a character is not, such as a file's name may hold."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def names(value: Any, what: str) -> list[str]:
    """Return names out of several, or out of one by itself."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, Iterable):
        raise ValueError(f"{what} must be names, not {shown(value)}")
    return [text(one, f"a name in {what}") for one in value]


def texts(value: Any, what: str) -> dict[str, str]:
    """Return texts by name; numbers are taken as they are written."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} must map names to texts, not {shown(value)}")
    found = {}
    for name, one in value.items():
        one = plain(one)
        if isinstance(one, int | float) and not isinstance(one, bool):
            one = str(one)
        found[text(name, f"a name in {what}")] = text(one, f"{what}[{shown(name)}]")
    return found


def mapping(value: Any, what: str) -> dict[str, Any]:
    """Return a mapping with texts as its keys."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} must map names to values, not {shown(value)}")
    return {text(name, f"a name in {what}"): one for name, one in value.items()}


def option(value: Any, what: str, depth: int = 0) -> Any:
    """Return the value of an option as the protocol carries it, which is as JSON does."""
    if depth > MAX_DEPTH:
        raise ValueError(f"{what} must not be nested more than {MAX_DEPTH} deep")
    found = plain(value)
    if found is None or isinstance(found, bool):
        return found
    if isinstance(found, str | os.PathLike):
        return text(found, what)
    if isinstance(found, Real | Decimal):
        if (told := finite(found)) is None:
            raise ValueError(f"{what} must be finite, not {shown(value)}")
        return told
    if isinstance(found, Mapping):
        return {
            text(name, f"a name in {what}"): option(one, _within(what, name), depth + 1)
            for name, one in found.items()
        }
    if isinstance(found, Sequence) and not isinstance(found, bytes | bytearray):
        return [option(one, what, depth + 1) for one in found]
    raise ValueError(f"{what} must be a number, a text, true or false, not {shown(value)}")


def _within(what: str, name: object) -> str:
    """Return what a value is called in a mapping; of one far below, how that begins."""
    inner = f"{what}[{shown(name)}]"
    return inner if len(inner) <= MAX_PATH else what if what.endswith("…") else f"{what}[…"


_CLUSTER = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


def no_cluster_name(name: str, what: str = "name") -> str:
    """Return what a cluster may be called, with what was nearly right."""
    near = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-")
    return (
        f"{what} must be small letters, digits and hyphens, 63 at most, with a letter first and no"
        f" hyphen last, not {shown(name)}"
        + (f"; did you mean {near!r}?" if near[:1].isalpha() else "")
    )


def cluster(name: Any) -> tuple[str, str]:
    """Return the user (`-`: the caller) and the cluster out of `etl`, `alice/etl`, or a resource
    name."""
    given = text(name, "the name of a cluster")
    parts = given.split("/")
    if len(parts) == 4 and parts[::2] == ["users", "clusters"]:
        parts = parts[1::2]
    *users, found = parts
    if len(users) > 1 or "" in users:
        raise ValueError(
            "the name of a cluster must look like 'etl', or 'alice/etl' for one of another user's,"
            f" not {shown(given)}"
        )
    if not _CLUSTER.fullmatch(found):
        raise ValueError(no_cluster_name(found, "the name of a cluster"))
    return (users[0] if users else "-"), found


def group(name: Any, known: Iterable[str]) -> str:
    """Return the name of a worker group that a cluster has."""
    there = sorted(known)
    found = text(name, "group")
    if found not in there:
        hint = meant(found, there) or "."
        raise ValueError(
            f"the cluster has no worker group {shown(found)}{hint} It has {', '.join(there)};"
            " more are named in worker_groups when a cluster is made"
        )
    return found
