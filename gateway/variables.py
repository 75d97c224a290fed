"""Which variables of a scheduler's and a worker's environment are not for users to set, and why.
Pure; standard library only.

Said where a wish is admitted and where the configuration is read; held where launches are made,
whatever was admitted before.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from gateway.daskconfig import OWN_KEYS, expanded, name_in

# Of a worker, if nobody says else: what Dask's nannies set (distributed.nanny.pre-spawn-environ).
# What is freed goes back to the system, and libraries take no threads beside those of tasks.
WORKER_DEFAULTS = {
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
# the last holds a whole configuration
OWN = frozenset({"PYTHONUNBUFFERED", "SPT_NOENV", "DASK_INTERNAL_INHERIT_CONFIG"})
OWN_PREFIXES = ("DASKGATEWAY_", "DGW_")  # of processes, and of what scripts of jobs call their own
LOADER_PREFIXES = ("LD_", "PYTHONSTARTUP")
# a script that sets one ends there
SHELLS = frozenset({"BASHOPTS", "BASH_VERSINFO", "EUID", "OPTIND", "PPID", "SHELLOPTS", "UID"})
MAX_NAMED = 3  # in one complaint
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def dask_variable(key: str) -> str:
    """Return the environment variable that sets a key of Dask's configuration."""
    return "DASK_" + key.upper().replace(".", "__").replace("-", "_")


_OWN_PATHS = tuple(dask_variable(key).removeprefix("DASK_").split("__") for key in OWN_KEYS)


def why_not(name: str) -> str:
    """Return why a variable cannot be set, an empty text if it can."""
    if not _NAME.fullmatch(name):
        return "is no name of a variable: letters, digits and _, and no digit first"
    upper = name.upper()
    if upper.startswith(LOADER_PREFIXES):
        return "would load code before Python has begun"
    if upper in OWN or upper.startswith(OWN_PREFIXES) or _is_own_key(upper):
        return "is set by the gateway itself"
    return "is the shell's own" if name in SHELLS else ""


def _is_own_key(upper: str) -> bool:
    """Whether a variable sets a key of Dask's that is ours, or one above or below it: one above
    holds all below it."""
    if not upper.startswith("DASK_"):
        return False
    path = upper.removeprefix("DASK_").split("__")
    return any(path[: len(own)] == own[: len(path)] for own in _OWN_PATHS)


def in_force(settings: Mapping[str, object]) -> dict[str, str]:
    """Return the variables that settings give a process: what was admitted by an earlier
    configuration, or stands in the administrator's, is not in effect either."""
    wished = settings.get("environment")
    if not isinstance(wished, Mapping):
        return {}
    return {str(key): str(value) for key, value in wished.items() if not why_not(str(key))}


def of_workers(settings: Mapping[str, object]) -> dict[str, str]:
    """Return the variables that settings give a worker: those of every process over those that
    Dask's configuration has for workers, over WORKER_DEFAULTS. With a nanny or without, and though
    Dask itself takes what is set already for somebody's wish."""
    told: dict[str, str] = dict(WORKER_DEFAULTS)
    config = settings.get("dask_config")
    whole: object = expanded(config) if isinstance(config, Mapping) else {}
    for part in ("distributed", "nanny"):
        whole = whole.get(part) if isinstance(whole, Mapping) else None
    for part in ("pre-spawn-environ", "environ"):
        given = whole.get(name_in(whole, part)) if isinstance(whole, Mapping) else None
        for name, value in given.items() if isinstance(given, Mapping) else ():
            told.pop(str(name), None)
            if value is not None and not why_not(str(name)):
                told[str(name)] = str(value)
    return told | in_force(settings)


def sets_any(name: str, paths: Collection[tuple[str, ...]]) -> bool:
    """Whether a variable sets a key of Dask's that is one of these paths, or above or below one."""
    upper = name.upper()
    if not upper.startswith("DASK_"):
        return False
    mine = upper.removeprefix("DASK_").split("__")
    theirs = [[part.upper().replace("-", "_") for part in path] for path in paths]
    return any(path[: len(mine)] == mine[: len(path)] for path in theirs)


def complaint(names: list[str]) -> str:
    """Return what is wrong with variables that are to be set, an empty text if nothing is."""
    wrong = {name: why for name in names if (why := why_not(name))}
    told = [f"{name[:64]!r} {why}" for name, why in list(wrong.items())[:MAX_NAMED]]
    return "; ".join(told) + (
        f"; and {len(wrong) - MAX_NAMED} more" if len(wrong) > MAX_NAMED else ""
    )
