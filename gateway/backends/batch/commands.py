"""How a command of a batch system is run: as a list of words, never by a shell, with a deadline, a
bound on its output, in the C locale.

Whatever keeps it from giving an answer is BackendUnavailable, with words that name the command: not
there, not permitted, hanging, or talking without end. An exit code other than 0 is an answer: what
it means is the caller's to judge.
"""

from __future__ import annotations

import asyncio
import functools
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from gateway.backends.contract import BackendUnavailable

MAX_OUTPUT_BYTES = 64 * 1024 * 1024
MAX_WORDS_BYTES = 512  # of a command's complaint that are told on
READ_BYTES = 64 * 1024
KILL_S = 2.0  # for a killed command to be gone
KILLED = range(129, 152)  # 128 and a signal; above are PBS's own codes
MAX_THREADS = 16  # commands run at a time, of all backends
# of our environment, for commands
KEPT_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "TZ", "TMPDIR", "KRB5CCNAME")
KEPT_PREFIXES = ("SLURM_CONF", "PBS_", "SGE_", "LD_LIBRARY_PATH", "MUNGE_")


class CannotRun(BackendUnavailable):
    """There is no such program here, or it may not be run; which setting names it, only the caller
    knows."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def killed(self) -> bool:
        """Whether a signal ended it, or what a launcher ran: what it had done by then is not
        known."""
        return (
            self.code < 0
            or self.code in KILLED
            or (self.code > 128 and not (self.err + self.out).strip())
        )

    @property
    def complaint(self) -> str:
        """The last words on standard error, or on standard output if it said nothing there; at most
        MAX_WORDS_BYTES."""
        words = " ".join((self.err.strip() or self.out.strip()).split())
        return words[-MAX_WORDS_BYTES:] or f"it ended with code {self.code} and said nothing"


class Run(Protocol):
    """Runs a command: `commands.run`, or what a test puts in its place."""

    async def __call__(
        self,
        argv: Sequence[str],
        *,
        deadline_s: float,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
    ) -> Answer:
        """Run to the end."""


def environment() -> dict[str, str]:
    """Return the environment of commands: no secret of ours, and no locale but C."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if key in KEPT_VARIABLES or key.startswith(KEPT_PREFIXES)
    }
    return kept | {"LC_ALL": "C", "LANG": "C"}


async def run(
    argv: Sequence[str],
    *,
    deadline_s: float,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
) -> Answer:
    """Run a command to its end; BackendUnavailable if it gives no answer within the deadline.

    In a thread and by `subprocess`, which starts a child with vfork(2): an event loop that forks
    would do so with gRPC's threads at work.
    """
    work = _Work(list(argv), deadline_s, stdin, {**environment(), **(env or {})})
    try:
        return await asyncio.get_running_loop().run_in_executor(_threads(), work)
    except asyncio.CancelledError:
        work.cancel()
        raise


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="command")


class _Work:
    """One command, run in a thread."""

    def __init__(
        self, argv: list[str], deadline_s: float, stdin: bytes, env: Mapping[str, str]
    ) -> None:
        self._argv, self._deadline_s, self._stdin, self._env = argv, deadline_s, stdin, env
        self._child: subprocess.Popen[bytes] | None = None
        self._cancelled = False

    def __call__(self) -> Answer:
        """Run it to its end, or to the deadline."""
        name = self._argv[0].rpartition("/")[2]
        deadline = time.monotonic() + self._deadline_s
        # a command that never reads cannot hold up who writes
        with tempfile.TemporaryFile() as file:
            file.write(self._stdin)
            file.seek(0)
            try:
                child = subprocess.Popen(
                    self._argv,
                    stdin=file,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=self._env,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                words = getattr(error, "strerror", None) or str(error)
                raise CannotRun(f"{self._argv[0]} cannot be run: {words}") from None
        self._child = child
        if self._cancelled:
            kill(child)
        with child:  # closes the pipes and waits
            try:
                out, err = _read(child, deadline, name)
                code = child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise BackendUnavailable(
                    f"{name} did not answer within {self._deadline_s:g} s"
                ) from None
            finally:
                if child.poll() is None:
                    kill(child)
                    self._let_go(child)
        return Answer(code, out.decode(errors="replace"), err.decode(errors="replace"))

    def _let_go(self, child: subprocess.Popen[bytes]) -> None:
        """Wait for a killed command; one that runs as root (sudo) cannot be ended by us, and ends
        by its own deadline."""
        try:
            child.wait(KILL_S)
        except subprocess.TimeoutExpired:
            child.returncode = -signal.SIGKILL  # nobody waits for it any more

    def cancel(self) -> None:
        """End it: nobody wants the answer any more."""
        self._cancelled = True
        if self._child is not None:
            kill(self._child)


def _read(child: subprocess.Popen[bytes], deadline: float, name: str) -> tuple[bytes, bytes]:
    """Return all of a command's output; TimeoutExpired at the deadline, BackendUnavailable if there
    is too much."""
    pieces: dict[int, list[bytes]] = {0: [], 1: []}
    size = 0
    with selectors.DefaultSelector() as selector:
        for number, stream in enumerate((child.stdout, child.stderr)):
            assert stream is not None
            selector.register(stream, selectors.EVENT_READ, number)
        while selector.get_map():
            left_s = deadline - time.monotonic()
            ready = selector.select(left_s) if left_s > 0 else []
            if not ready:
                raise subprocess.TimeoutExpired(name, left_s)
            for key, _ in ready:
                piece = os.read(key.fd, READ_BYTES)
                if not piece:
                    selector.unregister(key.fileobj)
                pieces[key.data].append(piece)
                size += len(piece)
                if size > MAX_OUTPUT_BYTES:
                    raise BackendUnavailable(
                        f"{name} wrote more than {MAX_OUTPUT_BYTES // 2**20} MiB"
                    )
    return b"".join(pieces[0]), b"".join(pieces[1])


def kill(child: subprocess.Popen[bytes]) -> None:
    """End a command and all it has started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
