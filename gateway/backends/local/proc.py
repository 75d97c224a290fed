"""What Linux tells of processes: identity that survives pid reuse, marks in their environment,
signals that never go astray.

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
MAX_ENTRIES = 1024  # of an environment, the first ones, that are looked into


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


def leads_session(process: ProcessId) -> bool:
    """Whether a process leads its session: it was started for itself, not by one that was."""
    fields = _stat(process.pid)
    return (
        fields is not None and int(fields[19]) == process.started and int(fields[3]) == process.pid
    )


def runs_as(pid: int, user: int) -> bool:
    """Whether a process runs as a user (uid) alone: with no right of anybody else's that it has or
    could fall back on."""
    try:
        text = pathlib.Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return False
    return any(
        line.split()[1:] == [str(user)] * 4 for line in text.splitlines() if line.startswith("Uid:")
    )


def environment(pid: int) -> Mapping[str, str]:
    """Return the environment a process was started with, its first MAX_ENTRIES; empty if it cannot
    be read. Anybody may have written it."""
    return _entries(_environ(pid))


def _environ(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read(MAX_ENVIRON_BYTES)
    except OSError:
        return b""


def _entries(raw: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in raw.split(b"\0", MAX_ENTRIES)[:MAX_ENTRIES]:
        key, equals, value = entry.decode(errors="replace").partition("=")
        if equals:
            found.setdefault(key, value)  # of two the first counts
    return found


def marked(
    marks: Mapping[str, str], user: int | None = None
) -> Iterator[tuple[ProcessId, Mapping[str, str]]]:
    """Yield every process whose environment has all these entries, with the environment; with a
    user (uid), of those that run as it alone.

    Whoever may start a process may write its environment.
    """
    wanted = [f"{key}={value}".encode() for key, value in marks.items()]
    for pid in filter(None, map(decimal, os.listdir("/proc"))):
        if not _has(_environ(pid), wanted) or (process := identify(pid)) is None:
            continue
        raw = _environ(pid)  # again: by now the pid may be another's
        if _has(raw, wanted) and (user is None or runs_as(pid, user)) and alive(process):
            yield process, _entries(raw)


def _has(raw: bytes, wanted: list[bytes]) -> bool:
    within = b"\0" + raw + b"\0"
    return all(b"\0" + entry + b"\0" in within for entry in wanted)


def send(process: ProcessId, number: signal.Signals, *, group: bool = False) -> bool:
    """Signal this very process, or the group it leads; return whether it was there. A recycled pid
    is never signalled."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        if not alive(process):
            return False
        # The descriptor pins the process: while it is held and the check was good, the pid means
        # this one.
        if group:
            os.killpg(process.pid, number)
        else:
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True
