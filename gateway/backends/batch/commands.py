"""How a command of a batch system is run: as a list of words, never by a shell, with a deadline, a bound on its output, in the C locale.

Whatever keeps it from giving an answer is BackendUnavailable, with words that name the command: not there, not permitted, hanging, or
talking without end. An exit code other than 0 is an answer: what it means is the caller's to judge.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.backends.contract import BackendUnavailable

MAX_OUTPUT_BYTES = 64 * 1024 * 1024
MAX_WORDS_BYTES = 512  # of a command's complaint that are told on
KILL_S = 2.0  # for the pieces of a killed command
KEPT_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "TZ", "TMPDIR", "KRB5CCNAME")  # of our environment, for commands
KEPT_PREFIXES = ("SLURM_CONF", "PBS_", "SGE_", "LD_LIBRARY_PATH", "MUNGE_")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The last words on standard error, or on standard output if it said nothing there; at most MAX_WORDS_BYTES."""
        words = " ".join((self.err.strip() or self.out.strip()).split())
        return words[-MAX_WORDS_BYTES:] or f"it ended with code {self.code} and said nothing"


class Run(Protocol):
    """Runs a command: `commands.run`, or what a test puts in its place."""

    async def __call__(self, argv: Sequence[str], *, deadline_s: float, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Answer:
        """Run to the end."""


def environment() -> dict[str, str]:
    """Return the environment of commands: no secret of ours, and no locale but C."""
    kept = {key: value for key, value in os.environ.items() if key in KEPT_VARIABLES or key.startswith(KEPT_PREFIXES)}
    return kept | {"LC_ALL": "C", "LANG": "C"}


async def run(argv: Sequence[str], *, deadline_s: float, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Answer:
    """Run a command to its end; BackendUnavailable if it gives no answer within the deadline."""
    name = os.path.basename(argv[0])
    try:
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**environment(), **(env or {})},
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise BackendUnavailable(f"{argv[0]} cannot be run: {words}") from None
    try:
        async with asyncio.timeout(deadline_s):
            out, err, _ = await asyncio.gather(_read(child.stdout), _read(child.stderr), _write(child.stdin, stdin))
            code = await child.wait()
    except TimeoutError:
        raise BackendUnavailable(f"{name} did not answer within {deadline_s:g} s") from None
    except _TooMuch:
        raise BackendUnavailable(f"{name} wrote more than {MAX_OUTPUT_BYTES // 2**20} MiB") from None
    finally:
        if child.returncode is None:
            await _kill(child)
    return Answer(code, out.decode(errors="replace"), err.decode(errors="replace"))


class _TooMuch(Exception):
    """A command's output has passed its bound."""


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    assert stream is not None
    pieces: list[bytes] = []
    size = 0
    while piece := await stream.read(256 * 1024):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_OUTPUT_BYTES:
            raise _TooMuch
    return b"".join(pieces)


async def _write(stream: asyncio.StreamWriter | None, content: bytes) -> None:
    assert stream is not None
    try:
        stream.write(content)
        await stream.drain()
        stream.close()
    except (BrokenPipeError, ConnectionResetError):
        return  # it ended without reading; what it says tells why


async def _kill(child: asyncio.subprocess.Process) -> None:
    """End a command and all it has started. One that runs as root (sudo) cannot be ended by us: it has its own deadline."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    try:
        async with asyncio.timeout(KILL_S):
            await child.wait()
    except TimeoutError:
        pass
    child._transport.close()  # type: ignore[attr-defined]  # a grandchild may hold the pipes open
