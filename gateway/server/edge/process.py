"""The edge that `serve` starts: as a process of its own, found again after a crash of the server,
so that computing goes on.

A record in the state directory says which process it is (`edge_record.py`). It is written before
the process is told to begin, which waits for that and ends if the server has died: so no edge runs
that no record knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

from gateway import __version__, orders, processes
from gateway.configfile import ConfigurationError
from gateway.files import write_kept
from gateway.orders import Orders
from gateway.server.edge.record import (
    PROGRAM,
    RECORD,
    EdgeRecord,
    boot_id,
    can_listen,
    read_record,
    runs,
    start_time,
    with_port_of,
)

logger = logging.getLogger(__name__)

SECRET = re.compile("KEY|TOKEN|PASSWORD|SECRET|CREDENTIAL", re.IGNORECASE)
STOP_S = 15.0
RESTART_S = 0.05  # first wait before an edge that died is started again
UNWATCHED_S = 10.0  # between two tries to watch an edge for which there is no descriptor


class WarmEdge:
    """An edge's process that waits for its settings. It may be begun early: then it loads its
    program while the server loads its own."""

    def __init__(self) -> None:
        theirs, ours = socket.socketpair()
        self._telling: socket.socket | None = ours
        self.reading, ready = os.pipe()
        # -P: what lies in the working directory is nobody's program.
        words = [
            sys.executable,
            "-P",
            *PROGRAM,
            f"--words-fd={theirs.fileno()}",
            f"--ready-fd={ready}",
        ]
        try:
            self.child = subprocess.Popen(
                words,
                pass_fds=[theirs.fileno(), ready],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                env=_without_secrets(os.environ),
            )
        except BaseException:
            ours.close()
            os.close(self.reading)
            raise
        finally:
            theirs.close()
            os.close(ready)

    def begin(self, told: Orders, directories: Sequence[int]) -> int:
        """Let it begin with its orders and directories; return the descriptor where it says that it
        is ready."""
        telling, self._telling = self._telling, None
        assert telling is not None
        # it has died, which is seen by what it does not say
        with telling, contextlib.suppress(OSError):
            orders.send(telling, told, directories)
        return self.reading

    def dismiss(self) -> None:
        """Let it end, unless it has begun: it is not needed."""
        if self._telling is not None:
            self._telling.close()
            self._telling = None
            os.close(self.reading)
            self.child.wait(STOP_S)


class EdgeProcess:
    """Starts or adopts the edge, starts it again when it dies, and stops it."""

    def __init__(
        self,
        directory: pathlib.Path,
        words: Sequence[str],
        wished_address: str,
        warm: WarmEdge | None = None,
        directories: Sequence[int] = (),
        run_as: Callable[[str], tuple[int, int, bool] | None] = lambda _: None,
    ) -> None:
        """`directories` are descriptors, which the edge is given and the words name by
        `orders.place`; they stay the caller's.

        `run_as` returns what account the edge is to be (`Orders.run_as`), by the address where it
        is to listen.
        """
        self._warm, self._directories, self._run_as = warm, list(directories), run_as
        self._record_path = directory / RECORD
        self._words = list(words)
        told = [
            __version__,
            *words,
            *map(_identity, directories),
            wished_address,
            str(run_as(wished_address)),
        ]
        self._digest = hashlib.sha256("\0".join(told).encode()).hexdigest()
        self._wished = wished_address
        self._child: subprocess.Popen[bytes] | None = None
        self._record: EdgeRecord | None = None

    async def start(self) -> str:
        """Make sure that an edge runs; return its address. ConfigurationError with its words if it
        cannot start."""
        record = read_record(self._record_path)
        if record is not None and runs(record):
            if record.digest == self._digest and record.ready:
                logger.info("the edge still runs as process %d on %s", record.pid, record.address)
                self._record = record
                return record.address
            logger.info("the edge runs with other settings, or was not yet ready; starting it anew")
            await self._end(record)
        self._record = await self._spawn(self._address(record))
        return self._record.address

    def _address(self, earlier: EdgeRecord | None) -> str:
        """Return where to listen: where it is configured, on the earlier run's port if that is left
        open and the port is free."""
        address = (
            with_port_of(earlier.address, self._wished) if earlier is not None else self._wished
        )
        if address == self._wished or can_listen(address):
            return address
        logger.warning(
            "port %s, on which the edge was until now, is taken: it takes another, which clients"
            " do not know yet",
            address.rpartition(":")[2],
        )
        return self._wished

    async def keep(self) -> None:
        """Start the edge again whenever it ends, until cancelled."""
        pauses = processes.Pauses(RESTART_S, asyncio.get_running_loop().time)
        while True:
            record = self._record
            assert record is not None
            try:
                await _ended(record)
            except OSError as error:  # no descriptor to wait on
                logger.error("the edge is not watched for a moment: %s", error)
                await asyncio.sleep(UNWATCHED_S)
                continue
            if self._child is not None and self._child.pid == record.pid:
                self._child.poll()  # takes its exit code, so that no zombie stays
            logger.error("the edge has ended; starting it again")
            await asyncio.sleep(pauses.next_s())
            pauses.began()
            try:
                self._record = await self._spawn(record.address)
            # also where the machine is out of something
            except (ConfigurationError, OSError) as error:
                logger.error("the edge could not be started: %s", error)

    async def stop(self) -> None:
        """End the edge; its relays have its own drain time."""
        if self._record is not None:
            await self._end(self._record)
            self._record_path.unlink(missing_ok=True)

    async def _launch(self, address: str) -> tuple[EdgeRecord, int]:
        """Start the process; return its record and the descriptor where it says that it is
        ready."""
        warm, self._warm = self._warm, None
        if warm is None or warm.child.poll() is not None:
            warm = await asyncio.to_thread(WarmEdge)
        self._child = warm.child
        record = EdgeRecord(
            warm.child.pid, start_time(warm.child.pid), boot_id(), self._digest, address
        )
        self._note(record)
        told = Orders((*self._words, f"--Proxy.address={address}"), self._run_as(address))
        return record, warm.begin(told, self._directories)

    async def _spawn(self, address: str) -> EdgeRecord:
        intended, reading = await self._launch(address)
        child = self._child
        assert child is not None
        try:
            async with asyncio.timeout(processes.READY_S):
                line = await processes.read_line(reading)
        except TimeoutError:
            child.kill()
            line = ""
        finally:
            os.close(reading)
        listening = processes.ready_address(line)
        if not listening:
            code = await asyncio.to_thread(child.wait)
            raise ConfigurationError(
                f"the edge did not start (exit code {code}); its own message is above"
            )
        record = replace(intended, address=listening, ready=True)
        self._note(record)
        return record

    def _note(self, record: EdgeRecord) -> None:
        """Keep on disk which process is the edge. Where that cannot be, it serves all the same:
        only a server after a crash misses it."""
        try:
            write_kept(self._record_path, json.dumps(asdict(record)).encode())
        except OSError as error:
            logger.error(
                "the edge's record cannot be written (%s): should this server die, the next starts"
                " another edge",
                error,
            )

    async def _end(self, record: EdgeRecord) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not runs(record):
                break
            os.kill(record.pid, number)
            try:
                async with asyncio.timeout(STOP_S):
                    await _ended(record)
            except TimeoutError:
                continue
            break
        if self._child is not None and self._child.pid == record.pid:
            self._child.wait(STOP_S)  # it has ended: this only takes its exit code


def _without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what its variables' names say is secret, such as the keys that
    the database is sealed with."""
    return {name: value for name, value in environment.items() if not SECRET.search(name)}


def _identity(directory: int) -> str:
    """Return what tells a directory from any other: one that was put in its place is another."""
    status = os.fstat(directory)
    return f"{status.st_dev}:{status.st_ino}"


async def _ended(record: EdgeRecord) -> None:
    await processes.ended(record.pid, lambda: runs(record))
