"""Processes that a benchmark starts: on free ports of 127.0.0.1, below a directory of its own, and
ended by pid."""

from __future__ import annotations

import os
import pathlib
import select
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

ROOT = pathlib.Path(__file__).resolve().parents[1]
STOP_S = 60.0


@contextmanager
def scratch() -> Iterator[pathlib.Path]:
    """Lend a directory on the checkout's own disk (a temporary file system would make fsync free),
    and remove it afterwards."""
    base = ROOT / ".bench"
    base.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base, ignore_cleanup_errors=True) as name:
        yield pathlib.Path(name)


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on now."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()


def start(
    words: Sequence[str],
    log: pathlib.Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: pathlib.Path | None = None,
) -> subprocess.Popen[str]:
    """Start a process whose standard output can be read, and whose errors go to a log."""
    with log.open("a") as errors:
        return subprocess.Popen(
            list(words),
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )


def read_line(process: subprocess.Popen[str], timeout_s: float) -> str:
    """Return the next line that a process prints; TimeoutError if there is none in time, EOFError
    if it has ended."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], timeout_s)
    if not ready:
        raise TimeoutError(f"process {process.pid} said nothing for {timeout_s:g} s")
    line = process.stdout.readline()
    if not line:
        raise EOFError(f"process {process.pid} has ended")
    return line


def end(process: subprocess.Popen[str]) -> None:
    """Ask a process to end, and after STOP_S end it and its session by force."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
