"""Which log file is which instance's. Pure: names of files, no files.

scheduler.log            a scheduler; `default-3.log` a worker that is a job of its own
default@40+3.log         the worker default-43, as element 3 of the array that begins with
default-40

Where clusters share a directory, each name begins with the uid and a dot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.backends.batch.arrays import Batch
from gateway.backends.contract import Instance

INDEX = "{index}"  # stands for the element's index in Order.log_path
SUFFIX = ".log"
_ELEMENT = re.compile(r"([a-z][a-z0-9-]*)@([0-9]{1,9})\+([0-9]{1,9})\.log")


def prefix(template: str, uid: str) -> str:
    """Return what begins the names of a cluster's files: nothing where it has a directory of its
    own."""
    return "" if "{uid}" in template or template == "{default}" else f"{uid}."


def file_name(batch: Batch, prefix: str = "") -> str:
    """Return the name of a submission's log files."""
    if batch.indices:
        return f"{prefix}{batch.name.group}@{batch.name.number}+{INDEX}{SUFFIX}"
    return prefix + batch.launch.instance.name + SUFFIX


def log_of(instance: Instance, files: Iterable[str], prefix: str = "") -> str:
    """Return which of the files is an instance's log, an empty text if none is."""
    for name in files:
        if not name.startswith(prefix) or not name.endswith(SUFFIX):
            continue
        own = name.removeprefix(prefix)
        match = _ELEMENT.fullmatch(own)
        if instance.name == (
            f"{match[1]}-{int(match[2]) + int(match[3])}" if match else own.removesuffix(SUFFIX)
        ):
            return name
    return ""
