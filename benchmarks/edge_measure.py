"""Loads on a proxy and what they cost it: CPU seconds, resident memory, descriptors. One load at a
time."""

from __future__ import annotations

import os
import pathlib
import subprocess
import time
from dataclasses import dataclass

from benchmarks.edge_parts import Parts
from benchmarks.edge_proxies import ENDPOINT_CORE, Running, pinned

GIB = 2**30
TICK_HZ = os.sysconf("SC_CLK_TCK")
FOREIGN_CORES = 0.25  # a load beside which others used more of the machine is run once more
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load said, and what it cost the proxy."""

    words: list[str]
    cpu_s: float
    foreign: float  # cores that others used meanwhile


def run(found: Parts, proxy: Running, far_end_pid: int, what: str, *words: object) -> Loaded:
    """Put a load on a proxy, again while others are at work; the quietest run counts."""
    best: Loaded | None = None
    for _ in range(ATTEMPTS):
        one = _run(found, proxy, far_end_pid, what, *words)
        best = one if best is None or one.foreign < best.foreign else best
        if best.foreign < FOREIGN_CORES:
            break
    assert best is not None
    return best


def _run(found: Parts, proxy: Running, far_end_pid: int, what: str, *words: object) -> Loaded:
    command = pinned(
        ENDPOINT_CORE, str(found.load), what, str(proxy.port), str(proxy.hello), *map(str, words)
    )
    before, far_before, busy, began = (
        cpu_s(proxy.pid),
        cpu_s(far_end_pid),
        busy_s(),
        time.monotonic(),
    )
    own = os.times()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(f"{what} on {proxy.name}: {done.stdout} {done.stderr}")
    spent = cpu_s(proxy.pid) - before
    now = os.times()
    children = now.children_user + now.children_system - own.children_user - own.children_system
    foreign = busy_s() - busy - spent - (cpu_s(far_end_pid) - far_before) - children
    return Loaded(done.stdout.split(), spent, max(0.0, foreign / (time.monotonic() - began)))


def bulk(
    found: Parts, proxy: Running, far_end_pid: int, way: str, streams: int, gib: int
) -> tuple[float, float]:
    """Return MB/s and CPU seconds per GiB."""
    done = run(found, proxy, far_end_pid, "bulk", way, streams, gib * 1024 // streams)
    return float(done.words[1]), done.cpu_s / gib


def rate(
    found: Parts, proxy: Running, far_end_pid: int, what: str, count: int, seconds: float
) -> tuple[float, float]:
    """Return how many a second, and CPU microseconds for each."""
    done = run(found, proxy, far_end_pid, what, count, seconds)
    each = float(done.words[0])
    return each, done.cpu_s / (each * (seconds + (0.2 if what == "pingpong" else 0.0))) * 1e6


def idle(found: Parts, proxy: Running, count: int) -> tuple[float, float]:
    """Return resident KiB and descriptors of the proxy per connection that is relayed and says
    nothing."""
    rss_before, fds_before = rss_kib(proxy.pid), descriptors(proxy.pid)
    command = pinned(
        ENDPOINT_CORE, str(found.load), "idle", str(proxy.port), str(proxy.hello), str(count)
    )
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as load:
        assert load.stdout is not None
        if not load.stdout.readline().startswith("ready"):
            raise RuntimeError(f"{count} idle connections through {proxy.name} could not be had")
        time.sleep(0.5)
        found_kib = (rss_kib(proxy.pid) - rss_before) / count
        found_fds = (descriptors(proxy.pid) - fds_before) / count
        load.communicate("")
    return found_kib, found_fds


def slow_hellos(found: Parts, proxy: Running, count: int, seconds: float) -> tuple[float, float]:
    """Return by how many ms the p99 of good connections grows beside so many slow ones, and after
    how many seconds all are closed."""
    quiet = _paced(found, proxy, seconds)
    command = pinned(
        ENDPOINT_CORE, str(found.load), "dribble", str(proxy.port), str(proxy.hello), str(count)
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
        assert load.stdout is not None
        load.stdout.readline()
        loud = _paced(found, proxy, seconds)
        closed = load.stdout.readline().split()
    if closed[:2] != ["closed", str(count)]:
        raise RuntimeError(f"the slow ones were not closed: {closed}")
    return (loud - quiet) / 1000, float(closed[2])


def _paced(found: Parts, proxy: Running, seconds: float) -> float:
    """Return the p99 of connections one after the other, in us."""
    command = [str(found.load), "paced", str(proxy.port), str(proxy.hello), "5", str(seconds)]
    words = subprocess.run(
        pinned(ENDPOINT_CORE, *command), capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()
    if int(words[4]):
        raise RuntimeError(f"{words[4]} good connections failed")
    return float(words[2])


def cpu_s(pid: int) -> float:
    """Return the time a process has run on CPUs, all threads together, in seconds to the
    nanosecond."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat") if pid else ():
        total += int(task.read_text().split()[0])
    return total / 1e9


def busy_s() -> float:
    """Return the CPU time that the whole machine has spent, in seconds of one core."""
    fields = [
        int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    ]
    return (sum(fields) - fields[3] - fields[4]) / TICK_HZ


def rss_kib(pid: int) -> float:
    """Return a process's resident memory."""
    (line,) = [
        line
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    ]
    return float(line.split()[1])


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
