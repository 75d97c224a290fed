"""What Linux tells of processes: identity that survives pid reuse, marks in their environment, signals that never go astray.

proc(5), pidfd_open(2). Knows nothing of Dask or clusters.
"""

from __future__ import annotations

import os
import pathlib
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.wire import decimal

MAX_ENVIRON_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process for good: its pid, with the time it was started in clock ticks since boot."""

    pid: int
    started: int

    def __str__(self) -> str:
        return f"{self.pid}:{self.started}"


def parse_process_id(text: str) -> ProcessId | None:
    """Return what `str` of a ProcessId said, None if it is something else."""
    pid, started = (decimal(part) for part in text.partition(":")[::2])
    return None if pid is None or started is None else ProcessId(pid, started)


def _stat(pid: int) -> list[str] | None:
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()  # the name before it may hold anything


def identify(pid: int) -> ProcessId | None:
    """Return who has a pid now, None if nobody has or only a zombie."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in ("Z", "X") else ProcessId(pid, int(fields[19]))


def alive(process: ProcessId) -> bool:
    """Whether this very process runs."""
    return identify(process.pid) == process


def leads_session(pid: int) -> bool:
    """Whether a process leads its session: it was started for itself, not by one that was."""
    fields = _stat(pid)
    return fields is not None and int(fields[3]) == pid


def owner(pid: int) -> int | None:
    """Return the user that a process runs as, None if it has ended."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def environment(pid: int) -> Mapping[str, str]:
    """Return the environment a process was started with; empty if it cannot be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            raw = file.read(MAX_ENVIRON_BYTES)
    except OSError:
        return {}
    return dict(entry.decode(errors="replace").partition("=")[::2] for entry in raw.split(b"\0") if b"=" in entry)


def marked(marks: Mapping[str, str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield pid and environment of every process whose environment has all these entries."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            found = environment(int(entry))
            if all(found.get(key) == value for key, value in marks.items()):
                yield int(entry), found


def send(process: ProcessId, number: signal.Signals, *, group: bool = False) -> bool:
    """Signal this very process, or the group it leads; return whether it was there. A recycled pid is never signalled."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        if not alive(process):
            return False
        # The descriptor pins the process: while it is held and the check was good, the pid means this one.
        if group:
            os.killpg(process.pid, number)
        else:
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True
