"""Processes that answer questions for an authenticator: a line of JSON there, a line back.

For libraries that may stand still, crash or grow by what they are sent. A process that does not
answer in time is killed, and the next question begins another.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.authenticators.contract import AuthenticatorUnavailable

MAX_ANSWER_BYTES = 16 * 1024 * 1024


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

    async def ask(self, question: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the answer, AuthenticatorUnavailable if there is none in time. A question goes on
        when its caller gives up, so that the process is there for the next."""
        if len(self._asking) >= self._most_waiting:
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
            process = await self._ready()
            line = b""
            try:
                async with asyncio.timeout(self._patience_s):
                    line = await _exchanged(process, question)
            except (OSError, ValueError, TimeoutError):
                raise AuthenticatorUnavailable(f"{self._what} does not answer in time") from None
            finally:
                if not line.endswith(b"\n"):
                    self._end(process)
            if not line.endswith(b"\n"):
                raise AuthenticatorUnavailable(f"the process that asks {self._what} has ended")
            self._idle.append(process)
            answer: Mapping[str, Any] = json.loads(line)
            return answer

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
            limit=MAX_ANSWER_BYTES,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(self._first).encode() + b"\n")
        return process


async def _exchanged(process: asyncio.subprocess.Process, question: Mapping[str, str]) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(question).encode() + b"\n")
    await process.stdin.drain()
    return await process.stdout.readline()


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Wait until a process that was killed is gone, and its pipes with it."""
    await process.communicate()
