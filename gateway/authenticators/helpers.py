"""Processes that answer questions for an authenticator: a line of JSON there, a line back.

For libraries that may stand still, crash or grow by what they are sent. A process that does not
answer in time is killed, and the next question begins another. Secrets go to it by its standard
input alone, and of the server's environment it has what its libraries read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.authenticators.contract import AuthenticatorUnavailable

logger = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 16 * 1024 * 1024
OVERDUE, GARBLED = "does not answer in time", "says what is no answer"
# of the environment, what the libraries and the system's loader read; the rest may hold secrets
PASSED_ON = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")
PASSED_ON_BEGINS = ("LC_", "LD_", "LDAP", "SASL_", "SSL_", "OPENSSL_", "GNUTLS_", "KRB5")


class Helpers:
    """Some processes of a kind, begun when they are needed. Used on one event loop."""

    def __init__(
        self,
        words: Sequence[str],
        first: Mapping[str, Any],
        what: str,
        *,
        most: int,
        most_waiting: int,
        patience_s: float,
    ) -> None:
        """`words`: the command; `first`: what each is told first; `what`: who is asked, in
        messages; `patience_s`: for an answer."""
        self._words, self._first, self._what = tuple(words), dict(first), what
        self._most_waiting, self._patience_s = most_waiting, patience_s
        self._room = asyncio.Semaphore(most)
        self._idle: list[asyncio.subprocess.Process] = []
        self._asking: set[asyncio.Task[Mapping[str, Any]]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._busy = 0  # processes that are asked now
        self._killed = self._failed = self._refused = 0  # since the beginning

    def numbers(self) -> Mapping[str, float]:
        """Return how many there are of what: processes and questions now, and events since the
        beginning."""
        return {
            "processes": len(self._idle) + self._busy,
            "asking": self._busy,
            "waiting": len(self._asking) - self._busy,
            "killed": self._killed,
            "failed": self._failed,
            "refused": self._refused,
        }

    async def ask(self, question: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the answer, AuthenticatorUnavailable if there is none in time. A question goes on
        when its caller gives up, so that the process is there for the next."""
        if len(self._asking) >= self._most_waiting:
            self._refused += 1
            raise AuthenticatorUnavailable(
                f"{self._most_waiting} questions to {self._what} are waiting"
            )
        task = asyncio.get_running_loop().create_task(self._answer(question))
        self._asking.add(task)
        task.add_done_callback(self._done)
        try:
            async with asyncio.timeout(self._patience_s):
                return await asyncio.shield(task)
        except TimeoutError:
            raise AuthenticatorUnavailable(f"{self._what} does not answer in time") from None

    async def close(self) -> None:
        """End all processes."""
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        while self._idle:
            self._end(self._idle.pop())
        await asyncio.gather(*self._ending)

    def _done(self, task: asyncio.Task[Mapping[str, Any]]) -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may have given up

    async def _answer(self, question: Mapping[str, str]) -> Mapping[str, Any]:
        async with self._room:
            self._busy += 1
            try:
                return await self._answered(question)
            finally:
                self._busy -= 1

    async def _answered(self, question: Mapping[str, str]) -> Mapping[str, Any]:
        """Return a process's answer. One that gave none that can be read answers nothing more."""
        try:
            process = await self._ready()
        except OSError as error:  # of memory, processes or files there are no more
            self._failed += 1
            raise AuthenticatorUnavailable(
                f"no process can be begun that asks {self._what}: {error.strerror or error}"
            ) from None
        answer = None
        try:
            async with asyncio.timeout(self._patience_s):
                answer, why = await _exchanged(process, question)
        except TimeoutError:
            why = OVERDUE
        finally:
            if answer is None:
                self._end(process)
        if answer is None:
            raise self._failure(process, why)
        self._idle.append(process)
        return answer

    def _failure(self, process: asyncio.subprocess.Process, why: str) -> AuthenticatorUnavailable:
        """Note that a process gave no answer; return what that means."""
        if why == OVERDUE:
            self._killed += 1
            logger.warning("process %d is killed: %s %s", process.pid, self._what, why)
            return AuthenticatorUnavailable(f"{self._what} {why}")
        self._failed += 1
        return AuthenticatorUnavailable(f"the process that asks {self._what} {why}")

    def _end(self, process: asyncio.subprocess.Process) -> None:
        """End a process, whatever it does."""
        assert process.stdin is not None
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.stdin.close()
        task = asyncio.get_running_loop().create_task(_ended(process))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _ready(self) -> asyncio.subprocess.Process:
        """Return a process that waits for a question."""
        while self._idle:
            process = self._idle.pop()
            if process.returncode is None:
                return process
            self._end(process)
        process = await asyncio.create_subprocess_exec(
            *self._words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=passed_on(os.environ),
            limit=MAX_ANSWER_BYTES,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(self._first).encode() + b"\n")
        return process


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what of an environment such a process has."""
    return {
        name: value
        for name, value in environment.items()
        if name in PASSED_ON or name.startswith(PASSED_ON_BEGINS)
    }


async def _exchanged(
    process: asyncio.subprocess.Process, question: Mapping[str, str]
) -> tuple[dict[str, Any] | None, str]:
    """Return a process's answer; None, and why, if there is none that can be read."""
    assert process.stdin is not None
    assert process.stdout is not None
    line = b""
    try:
        process.stdin.write(json.dumps(question).encode() + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
        answer = json.loads(line) if line.endswith(b"\n") else None
    except OSError:
        answer = None  # it has ended
    except (ValueError, RecursionError):
        return None, GARBLED
    if isinstance(answer, dict):
        return answer, ""
    if line.endswith(b"\n"):
        return None, GARBLED
    status = await process.wait()
    if status == -signal.SIGALRM:  # by its own clock
        return None, OVERDUE
    how = f"with status {status}" if status >= 0 else f"by signal {-status}"
    return None, f"has ended {how}"


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Wait until a process that was killed is gone, and its pipes with it."""
    await process.communicate()
