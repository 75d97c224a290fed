"""The server's side of the host process: calls with a deadline, a bounded queue, and a host that is
started again when it has died or does not answer.

Nothing here waits for Hadoop but an await: a call that is not answered in time raises
BackendUnavailable, whatever hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.backends.contract import BackendUnavailable
from gateway.backends.local import proc
from gateway.files import read_kept

logger = logging.getLogger(__name__)

MAX_LINE_BYTES = 64 * 2**20
MOST_CALLS = 256  # that wait for an answer at a time
GRACE_S = 5.0  # that a host may answer later than the deadline of its calls to Hadoop
PING_S = 3.0  # a host that does not say within so long that it is there is ended
THREADS = 8


class Refused(Exception):
    """Hadoop, or skein, understood what was asked for, and refused it; the text is its reason."""


class NotAnswered(BackendUnavailable):
    """Nobody knows what came of a call."""


@dataclass(slots=True)
class HostSettings:
    """How a host is started."""

    directory: pathlib.Path  # of its record and its driver's log
    environment: Mapping[str, str]
    deadline_s: float  # of a call to Hadoop
    submit_s: float  # of a submission, which brings files to HDFS
    start_s: float  # of the first call, which starts a JVM
    java_options: str = ""
    principal: str = ""
    keytab: str = ""

    def told(self) -> dict[str, object]:
        """Return what the host itself needs."""
        return {
            "deadline_s": self.deadline_s,
            "submit_s": self.submit_s,
            "start_s": self.start_s,
            "threads": THREADS,
            "java_options": self.java_options,
            "principal": self.principal,
            "keytab": self.keytab,
            "record": str(self.directory / "host"),
            "log": str(self.directory / "driver.log"),
        }


@dataclass(slots=True)
class _Running:
    process: subprocess.Popen[bytes]
    writer: asyncio.StreamWriter
    reading: asyncio.Task[None] | None = None
    waiting: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    warm: bool = False  # whether its driver has answered
    ending: asyncio.Task[None] | None = None  # once it is given up

    def over(self) -> bool:
        """Whether it has ended, or nothing that it says is read any more."""
        return self.process.poll() is not None or (self.reading is not None and self.reading.done())

    def fail(self, words: str) -> None:
        """Tell everybody who waits for an answer that there will be none."""
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(ConnectionResetError(words))


class Calls:
    """A host, and what is asked of it."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings
        self._running: _Running | None = None
        self._starting = asyncio.Lock()
        self._number = 0
        self.count = 0  # calls that were made, for whoever measures

    async def call(self, operation: str, **said: object) -> dict[str, Any]:
        """Return what the host answers. Refused with Hadoop's reason; NotAnswered (a
        BackendUnavailable) if nobody knows what came of it."""
        running = await self._host()
        if len(running.waiting) >= MOST_CALLS:
            raise BackendUnavailable(
                f"{MOST_CALLS} calls wait for skein's driver already; one more is not asked"
            )
        # the first call waits for a JVM to start
        settings = self._settings
        hadoop_s = settings.submit_s if operation == "submit" else settings.deadline_s
        deadline_s = hadoop_s + GRACE_S + (0 if running.warm else settings.start_s)
        self.count += 1
        try:
            answer = await self._ask(running, deadline_s, operation, said)
        except TimeoutError:
            await self._abandon_if_hung(running)
            raise NotAnswered(
                f"skein's process did not answer ({operation}) within {deadline_s:g} s"
            ) from None
        except OSError as error:
            await self._abandon(running)
            raise NotAnswered(f"skein's process has ended: {error}") from None
        return _read(answer, operation, running, hadoop_s)

    async def _ask(
        self, running: _Running, deadline_s: float, operation: str, said: Mapping[str, object]
    ) -> dict[str, Any]:
        """Ask a host; TimeoutError, or OSError if it has ended."""
        self._number += 1
        number = self._number
        future = running.waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(deadline_s):
                # what was not begun when nobody waits for it any more is not begun at all
                asked = {"number": number, "operation": operation, "within_s": deadline_s}
                line = json.dumps({**asked, **said}) + "\n"
                running.writer.write(line.encode())
                await running.writer.drain()
                answer: dict[str, Any] = await future
                return answer
        finally:
            running.waiting.pop(number, None)

    async def _abandon_if_hung(self, running: _Running) -> None:
        """End a host that does not even say that it is there. One that does has calls that wait for
        Hadoop, and those have deadlines of their own."""
        try:
            answer = await self._ask(running, PING_S, "ping", {})
            running.warm = bool(answer.get("done", {}).get("driver"))
        except OSError:  # TimeoutError is one
            await self._abandon(running)

    async def _host(self) -> _Running:
        async with self._starting:
            if self._running is not None and self._running.over():
                await self._abandon(self._running)
            if self._running is None:
                self._running = await self._start()
            return self._running

    async def _start(self) -> _Running:
        await asyncio.to_thread(end_recorded, self._settings.directory / "host")
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.to_thread(self._spawn, theirs)
            except OSError as error:
                ours.close()
                raise BackendUnavailable(f"skein's process cannot be started: {error}") from None
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE_BYTES)
        running = _Running(process, writer)
        running.reading = asyncio.create_task(self._read(running, reader))
        writer.write(json.dumps(self._settings.told()).encode() + b"\n")
        return running

    def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        log = self._settings.directory / "host.log"
        with log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "gateway.backends.yarn.host", str(theirs.fileno())],
                env=dict(self._settings.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd="/",
            )

    async def _read(self, running: _Running, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                answer = json.loads(line)
                future = running.waiting.get(answer["number"])
                if future is not None and not future.done():
                    future.set_result(answer)
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("yarn: skein's process is not understood: %s", error)
        running.fail(self._last_words())

    def _last_words(self) -> str:
        try:
            text = (self._settings.directory / "host.log").read_text(errors="replace").strip()
        except OSError:
            text = ""
        return text.rpartition("\n")[2][-300:] or "it said nothing"

    async def _abandon(self, running: _Running) -> None:
        """End a host, and its driver, which it may not be able to do itself; once, however many
        waited for it. They are told at once."""
        if self._running is running:
            self._running = None
        if running.ending is None:
            running.ending = asyncio.create_task(self._end(running))
        await asyncio.shield(running.ending)

    async def _end(self, running: _Running) -> None:
        running.writer.close()
        running.fail("it was ended, for it did not answer")
        await asyncio.to_thread(_end, running.process)
        # another may run by now, with a record of its own
        record = self._settings.directory / "host"
        await asyncio.to_thread(end_recorded, record, running.process.pid)
        if running.reading is not None:
            running.reading.cancel()
            await asyncio.gather(running.reading, return_exceptions=True)

    async def close(self) -> None:
        """End the host and its driver."""
        async with self._starting:
            if self._running is not None:
                await self._abandon(self._running)


def _read(
    answer: Mapping[str, Any], operation: str, running: _Running, deadline_s: float
) -> dict[str, Any]:
    if "done" in answer:
        running.warm = running.warm or operation != "credentials"
    else:  # after one that has died, the next call waits for a JVM again
        running.warm = bool(answer.get("driver"))
    if "done" in answer:
        done: dict[str, Any] = answer["done"]
        return done
    kind, words = answer.get("failed"), " ".join(str(answer.get("words")).split("\n")[:4])
    if kind == "refused":
        raise Refused(str(answer.get("words")))
    if kind == "timeout":
        raise NotAnswered(f"{words}: no answer within {deadline_s:g} s")
    if kind == "connection":
        raise NotAnswered(words)
    raise BackendUnavailable(words)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a child for good; its socket has been closed."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)
        return
    process.kill()
    process.wait()


def end_recorded(record: pathlib.Path, host_pid: int | None = None) -> None:
    """End what is left of a host that a record tells of: itself, and its driver. With a pid, only
    if the record is of that host."""
    try:
        text = (read_kept(record) or b"").decode(errors="replace")
    except OSError:
        return
    recorded = [proc.parse_process_id(word) for word in text.split()]
    if host_pid is not None and not (recorded and recorded[0] and recorded[0].pid == host_pid):
        return
    for found in recorded:
        # a record is ours alone, and the time of a start tells a process from one of the same pid
        if found is not None and found.pid != os.getpid() and proc.alive(found):
            proc.send(found, signal.SIGKILL)
    record.unlink(missing_ok=True)
