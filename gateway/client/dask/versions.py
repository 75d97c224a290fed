"""What of this process differs from a cluster's scheduler, told in one line before it matters: data
and functions go between the two as one side wrote them.

The gateway knows the scheduler's versions since it started; nobody is asked anew.
"""

from __future__ import annotations

import importlib.metadata
import platform
import warnings
from collections.abc import Callable, Mapping

from distributed.versions import VersionMismatchWarning
from packaging.version import InvalidVersion, Version

from gateway.client.model import Cluster
from gateway.printable import printable

PYTHON = "python"
# What Dask cannot do without; of other packages nothing is told that only one side has, unless the
# administrator named them (c.ClusterConfig.compared_packages).
NEEDED = (PYTHON, "dask", "distributed", "msgpack", "cloudpickle")
OF_INTEREST = ("numpy", "pandas", "tornado")
MAX_TOLD = 8  # differences
MAX_VERSION = 40  # letters of one that are shown
MAX_READ = 256  # letters of one that is read
MAX_KEPT = 1000  # clusters that are known to have been compared


def version_here(name: str) -> str:
    """Return the version of a package in this process, an empty text if it is not installed."""
    if name == PYTHON:
        return platform.python_version()
    try:
        return importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return ""


def differences(there: Mapping[str, str], here: Callable[[str], str]) -> list[tuple[str, str, str]]:
    """Return name, version here (empty: none) and version there of what differs, the most
    important first. Of Python the minor version counts: within it, bytecode and pickles agree."""
    found = []
    order = [*NEEDED, *sorted(there.keys() - set(NEEDED))]
    for name in order:
        theirs = there.get(name, "")
        ours = here(name) if theirs else ""
        if not theirs or (not ours and name in OF_INTEREST):
            continue
        same = _minor(ours) == _minor(theirs) if name == PYTHON else _equal(ours, theirs)
        if not same:
            found.append((name, ours, theirs))
    return found


def _equal(ours: str, theirs: str) -> bool:
    """Whether two texts name one version, as PEP 440 compares them: `3.0` is `3.0.0`. Of what it
    cannot read, or what is longer than any version, the texts count."""
    if ours == theirs or max(len(ours), len(theirs)) > MAX_READ:
        return ours == theirs
    try:
        return Version(ours) == Version(theirs)
    except InvalidVersion:
        return False


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])


def words(cluster_id: str, found: list[tuple[str, str, str]]) -> str:
    """Return the line that says so, with what to do; an empty text if nothing differs."""
    if not found:
        return ""
    told = "; ".join(
        f"{name} {ours[:MAX_VERSION] or 'is not installed'} here, {theirs[:MAX_VERSION]} there"
        for name, ours, theirs in found[:MAX_TOLD]
    )
    more = f"; and {len(found) - MAX_TOLD} more" if len(found) > MAX_TOLD else ""
    packages = [f"{name}=={theirs[:MAX_VERSION]}" for name, _, theirs in found if name != PYTHON]
    python = next((theirs for name, _, theirs in found if name == PYTHON), "")
    steps = [f"use Python {'.'.join(_minor(python))} here"] if python else []
    if packages:
        steps.append("pip install " + " ".join(f"'{one}'" for one in packages[:MAX_TOLD]))
    return printable(
        f"cluster {cluster_id} runs other versions than this process: {told}{more}. What is sent"
        f" between them may fail: {', and '.join(steps)}, or ask for a cluster with your versions",
        keep="",
    )


_told: dict[str, None] = {}  # uids of clusters that were compared in this process


def untold(uid: str) -> bool:
    """Whether a cluster has not been compared in this process, and is from now on: each is once,
    by whatever reaches it first."""
    if uid in _told:
        return False
    while len(_told) >= MAX_KEPT:
        del _told[next(iter(_told))]
    _told[uid] = None
    return True


def tell(cluster: Cluster) -> None:
    """Warn if this process differs from a cluster's scheduler: by Dask's own category of warnings,
    by which it is silenced."""
    untold(cluster.uid)
    if said := words(cluster.id, differences(cluster.status.versions, version_here)):
        warnings.warn(said, VersionMismatchWarning, stacklevel=2)
