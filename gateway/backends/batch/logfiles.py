"""Which log file is which instance's. Pure: names of files, no files.

scheduler.log            a scheduler; `default-3.log` a worker that is a job of its own
default@40+3.log         the worker default-43, as element 3 of the array that begins with default-40
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.backends.batch.arrays import Batch
from gateway.backends.contract import Instance

INDEX = "{index}"  # stands for the element's index in Order.log_path
SUFFIX = ".log"
_ELEMENT = re.compile(r"([a-z][a-z0-9-]*)@(\d{1,9})\+(\d{1,9})\.log")


def file_name(batch: Batch) -> str:
    """Return the name of a submission's log files."""
    if batch.indices:
        return f"{batch.name.group}@{batch.name.number}+{INDEX}{SUFFIX}"
    return batch.launch.instance.name + SUFFIX


def log_of(instance: Instance, files: Iterable[str]) -> str:
    """Return which of the files is an instance's log, an empty text if none is."""
    for name in files:
        match = _ELEMENT.fullmatch(name)
        found = f"{match[1]}-{int(match[2]) + int(match[3])}" if match else name.removesuffix(SUFFIX)
        if found == instance.name and name.endswith(SUFFIX):
            return name
    return ""
