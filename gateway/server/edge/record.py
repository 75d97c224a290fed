"""Which process is the edge, as one run of the server leaves it to the next. What is read is
doubted: it says whom to end.

A record names a process by pid, start time and boot, and what runs under that pid must look like an
edge. Of the address that it tells only the port is ever taken over, and only where any free port is
wished for: what is configured is what is listened on.
"""

from __future__ import annotations

import json
import pathlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.files import read_kept
from gateway.networks import parse_address
from gateway.wire import decimal, host_port, split_host_port

RECORD = "edge.json"  # in the state directory
MAX_PID = 2**22  # proc(5), pid_max
PROGRAM = ("-m", "daskgateway", "proxy")  # how an edge is started
PROGRAMS = (PROGRAM, ("-m", "gateway", "proxy"))  # and how a former version did


@dataclass(frozen=True, slots=True)
class EdgeRecord:
    """An edge that was started."""

    pid: int
    started: str  # its start time as the kernel counts it
    boot: str = ""  # of the machine; empty in records of older versions
    digest: str = ""  # of the settings it was started with
    address: str = ""  # host:port where it listens, or is to listen as long as it is not ready
    ready: bool = False  # whether it is known to listen


def parse_record(text: str) -> EdgeRecord | None:
    """Return a record as it was written, None if it names no process. Of another version's the
    process is known, no more."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, Mapping):
        return None
    pid, started = told.get("pid"), told.get("started")
    if (
        type(pid) is not int
        or not 1 < pid <= MAX_PID
        or not isinstance(started, str)
        or decimal(started) is None
    ):
        return None
    words = {
        name: value
        for name in ("boot", "digest", "address")
        if isinstance(value := told.get(name), str)
    }
    return EdgeRecord(pid, started, **words, ready=told.get("ready") is True)


def read_record(path: pathlib.Path) -> EdgeRecord | None:
    """Return the record that a file holds, None if there is none."""
    try:
        return parse_record((read_kept(path) or b"").decode(errors="replace"))
    except OSError:
        return None


def start_time(pid: int) -> str:
    """Return a process's start time in clock ticks since boot (proc(5), field 22); empty if there
    is no such process."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]


def boot_id() -> str:
    """Return what tells this boot of the machine from every other (random(4)); empty if the system
    does not say."""
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def runs(record: EdgeRecord) -> bool:
    """Whether the edge of a record runs still. Its pid may be another process's by now, which is
    left alone."""
    if record.boot and record.boot != boot_id():
        return False
    return start_time(record.pid) == record.started and _is_edge(record.pid)


def _is_edge(pid: int) -> bool:
    try:
        words = (
            pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        )
    except OSError:
        return False
    if words == [""]:  # it is just beginning: the system lays its words out after that
        return True
    return any(tuple(words[at : at + len(PROGRAM)]) in PROGRAMS for at in range(len(words)))


def with_port_of(recorded: str, wished: str) -> str:
    """Return the wished address; where it leaves the port open, with the port of an earlier run, by
    which clients know the edge."""
    place, earlier = split_host_port(wished), parse_address(recorded)
    if place is None or place[1] != 0 or earlier is None:
        return wished
    return host_port(place[0], earlier[1])


def can_listen(address: str) -> bool:
    """Whether a port is to be had now. What is no address at all is left to who listens, who says
    what is wrong."""
    place = split_host_port(address)
    if place is None:
        return True
    host, port = place
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(*found[0][:3]) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(found[0][4])
    except OSError:
        return False
    return True
