"""Who really runs, seen from outside: every process that the suite starts connects here, and the
system itself ends the connection with it.

So nothing that a backend says is needed to know whether a process lives, how many of one name there
are, and when it died. Whatever is left running ends when the witness closes. Standard library only;
the programs run on any Python from 3.8 on, also on another machine.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.backends.contract import Instance

MAX_LINE_BYTES = 64 * 1024
CHILD = "/child"  # behind the name of a process that was forked by an instance's own

_PROGRAM = """
import os, signal, socket, sys
if {stubborn}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
name = sys.argv[1]
if {forks} and os.fork() == 0:
    name += {child!r}
words, pid = [], os.getpid()
while pid > 1:
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            words += file.read().decode(errors="replace").split("\\0")
        with open("/proc/%d/stat" % pid) as file:
            pid = int(file.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        break
said = " ".join(" ".join(words).split())[:{most}]
witness = socket.create_connection(({host!r}, {port}), 10)
witness.settimeout(None)
witness.sendall(("\\t".join([{token!r}, name, str(os.getpid()), said]) + "\\n").encode())
print("here is", name, flush=True)
try:
    witness.recv(1)
except OSError:
    pass
if {last!r}:
    print({last!r}, file=sys.stderr, flush=True)
os._exit({code})  # so that the connection ends with the process, and not before it
"""


@dataclass(slots=True)
class Life:
    """One process, from when it connected until its connection ended."""

    name: str
    pid: int
    # what it told of itself: the words that it, and what it descends from, were started with
    said: str = ""
    over: bool = False
    writer: asyncio.StreamWriter | None = field(default=None, repr=False)


@dataclass(slots=True)
class Witness:
    """Listens, and notes who connects and who is gone."""

    host: str = "127.0.0.1"  # of this machine, as what the backend starts reaches it
    port: int = 0
    lives: dict[tuple[str, str], list[Life]] = field(default_factory=dict)  # by token and name
    _listener: socket.socket | None = None
    # who is met, from when the connection was accepted: None until there is a writer for it
    _met: dict[asyncio.Task[None], asyncio.StreamWriter | None] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self) -> None:
        """Listen."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.create_server((self.host, self.port), family=family)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    async def close(self) -> None:
        """Let go of all that still run: they end by themselves."""
        if self._listener is None:
            return
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        self._listener = None
        while self._met:
            for writer in self._met.values():
                if writer is not None:
                    writer.transport.abort()
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # in which asyncio closes what is over

    def _accept(self, listener: socket.socket) -> None:
        """Meet whoever comes. asyncio's own servers leave a connection open for good that was
        accepted just when they close."""
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # who came has gone, or there is no descriptor left
        self._met[asyncio.get_running_loop().create_task(self._meet(connection))] = None

    async def _meet(self, connection: socket.socket) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            reader, writer = await asyncio.open_connection(sock=connection, limit=MAX_LINE_BYTES)
        except BaseException:
            connection.close()
            del self._met[task]
            raise
        self._met[task] = writer
        try:
            token, name, pid, *said = (
                (await reader.readline()).decode(errors="replace").rstrip("\n").split("\t")
            )
            life = Life(name, int(pid), "\t".join(said), writer=writer)
            self.lives.setdefault((token, name), []).append(life)
            self._changed.set()
            try:
                await reader.read()
            finally:
                life.over = True
                self._changed.set()
        except (OSError, ValueError):
            pass  # a stranger, or one that died in the midst of its line
        finally:
            writer.close()
            del self._met[task]

    def program(
        self,
        token: str,
        *,
        stubborn: bool = False,
        forks: bool = False,
        last: str = "",
        code: int = 0,
    ) -> str:
        """Return a program, as one line of Python, that lives until it is ended and knows its name
        as first argument.

        stubborn: it ignores SIGTERM. forks: a child of its own does the same beside it. last, code:
        what it says on its standard error when it is let go, and what it ends with.
        """
        text = _PROGRAM.format(
            token=token,
            host=self.host,
            port=self.port,
            stubborn=stubborn,
            forks=forks,
            last=last,
            code=code,
            child=CHILD,
            most=MAX_LINE_BYTES // 4,
        )
        return f"exec({text!r})"

    def ever(self, instance: Instance, token: str = "", child: bool = False) -> list[Life]:
        """Return every process that was an instance."""
        return self.lives.get((token or instance.uid, instance.name + (CHILD if child else "")), [])

    def alive(self, instance: Instance, token: str = "", child: bool = False) -> list[Life]:
        """Return every process that is an instance now."""
        return [life for life in self.ever(instance, token, child) if not life.over]

    def let_go(self, instance: Instance) -> None:
        """Let the processes of an instance end by themselves, well."""
        for life in self.alive(instance):
            if life.writer is not None:
                life.writer.write_eof()

    async def until(self, holds: Callable[[], bool], patience_s: float, words: str) -> None:
        """Wait until something holds of who lives; AssertionError with the words if it does not
        come."""
        try:
            async with asyncio.timeout(patience_s):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(words) from None
