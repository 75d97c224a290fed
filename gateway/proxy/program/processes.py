"""Several edges on one port (SO_REUSEPORT): started together, started again when they die, drained
together, counted together.

Each edge is a process of its own, begun by the nursery (`nursery.py`) and tied to this one by a
socket: over it the edge tells where it listens and answers what it has counted, and when it closes
the edge drains and ends. So no edge outlives its supervisor, however that ends. Knows nothing of
what edges do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence

from gateway import processes
from gateway.configfile import ConfigurationError
from gateway.proxy.program.nursery import Child, NurseryLost

logger = logging.getLogger(__name__)

ANSWER_S = 2.0
RESTART_S = 0.1  # first wait before an edge that died is started again
MAX_LINE_BYTES = 64 * 1024
ASK = b"numbers\n"

# settings and the tie's descriptor → the process of a new edge
Begin = Callable[[Mapping[str, object], int], Awaitable[Child]]


class _Edge:
    """One edge process."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: Child | None = None
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None
        self.asking = asyncio.Lock()
        self._owed = 0  # answers that have not come yet, some of which may be too late
        self.last: dict[str, float] = {}
        self._ready = False
        self._reload_due = False

    async def start(self, begin: Begin, settings: Mapping[str, object]) -> str:
        """Start it; return where it listens. ConfigurationError if it does not, OSError if there
        can be no process now."""
        self._let_go()
        self._owed, self._ready = 0, False
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self.process = await begin(settings, theirs.fileno())
            self.reader, self.writer = await asyncio.open_connection(
                sock=ours, limit=MAX_LINE_BYTES
            )
        except BaseException:
            ours.close()
            raise
        try:
            async with asyncio.timeout(processes.READY_S):
                line = (await self.reader.readline()).decode()
        except TimeoutError:
            line = ""
        address = processes.ready_address(line)
        if not address:
            code = await self.end()
            raise ConfigurationError(
                f"an edge did not start (exit code {code}); its own message is above"
            )
        self._ready = True
        if self._reload_due:
            self.reload()
        return address

    def reload(self) -> None:
        """Have it read its certificate again, once it is ready: before it has a handler the signal
        would end it."""
        self._reload_due = not self._ready
        if self._ready and self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGHUP)

    async def numbers(self) -> dict[str, float]:
        """Return what it has counted; what it said last if it does not answer."""
        async with self.asking:
            if self.writer is not None and self.reader is not None:
                with contextlib.suppress(OSError, ValueError, TimeoutError):
                    async with asyncio.timeout(ANSWER_S):
                        self.writer.write(ASK)
                        self._owed += 1
                        await self.writer.drain()
                        while self._owed:
                            line = await self.reader.readline()
                            self._owed -= 1
                        self.last = json.loads(line)
        return self.last

    async def ended(self) -> int:
        """Wait for its end; return its exit code."""
        assert self.process is not None
        await processes.ended(self.process.pid)
        return self.process.wait()  # takes the exit code

    def _let_go(self) -> None:
        """Untie it, which ends it if it has not ended."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    async def end(self) -> int:
        """Let it drain and end."""
        self._let_go()
        assert self.process is not None
        code = self.process.poll()
        return code if code is not None else await self.ended()


class Edges:
    """The edges."""

    def __init__(
        self, count: int, address: str, begin: Begin, own_ports: Sequence[int] = ()
    ) -> None:
        """`own_ports`: at which this process listens, and what else is forbidden to routes."""
        self._edges = [_Edge(number) for number in range(count)]
        self._address, self._begin, self._own_ports = address, begin, list(own_ports)
        self._keeping: list[asyncio.Task[None]] = []
        self.lost = asyncio.Event()  # no edge can be started again

    async def start(self) -> str:
        """Start all; return where they listen once all do. The first takes the port, the others
        share it."""
        self._address = await self._edges[0].start(self._begin, self._settings())
        try:
            await asyncio.gather(
                *(edge.start(self._begin, self._settings()) for edge in self._edges[1:])
            )
        except BaseException:
            await self.stop()
            raise
        self._keeping = [asyncio.ensure_future(self._keep(edge)) for edge in self._edges]
        return self._address

    def _settings(self) -> dict[str, object]:
        """Return what of an edge's settings is other than the supervisor's."""
        return {
            "address": self._address,
            "processes": 1,
            "reuse_port": True,
            "admin_address": "",
            "own_ports": self._own_ports,
        }

    async def _keep(self, edge: _Edge) -> None:
        pauses = processes.Pauses(RESTART_S, asyncio.get_running_loop().time)
        while True:
            try:
                code = (
                    edge.process.returncode
                    if edge.process and edge.process.poll() is not None
                    else await edge.ended()
                )
                logger.error("edge %d has ended with code %d; starting it again", edge.number, code)
            except OSError as error:
                logger.error("edge %d cannot be watched: %s", edge.number, error)
            await asyncio.sleep(pauses.next_s())
            if edge.process is not None and edge.process.poll() is None:
                continue  # it could not be watched, but lives
            pauses.began()
            try:
                await edge.start(self._begin, self._settings())
            except NurseryLost as error:
                logger.error("edge %d cannot be started again: %s", edge.number, error)
                self.lost.set()
                return
            # the latter: no processes, memory or descriptors, which may pass
            except (ConfigurationError, OSError) as error:
                logger.error("edge %d did not start: %s", edge.number, error)

    async def numbers(self) -> Mapping[str, Mapping[str, float]]:
        """Return what all have counted, by process."""
        counted = await asyncio.gather(*(edge.numbers() for edge in self._edges))
        return {str(edge.number): numbers for edge, numbers in zip(self._edges, counted)}

    def reload(self) -> None:
        """Have all read their certificates again."""
        for edge in self._edges:
            edge.reload()

    async def stop(self) -> None:
        """Let all drain and end, at the same time."""
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        await asyncio.gather(*(edge.end() for edge in self._edges if edge.process is not None))


class Tie:
    """An edge's end of the socket to its supervisor."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    async def serve(self, address: str, numbers: Callable[[], Mapping[str, float]]) -> None:
        """Say where the edge listens, answer what it has counted, and return when the supervisor
        lets go."""
        reader, writer = await asyncio.open_connection(sock=self._socket, limit=MAX_LINE_BYTES)
        writer.write(processes.ready_line(address))
        while await reader.readline():
            writer.write(json.dumps(numbers()).encode() + b"\n")
        writer.close()
