"""Messages out of JSON and into it: small ones on the event loop, which relays share, large ones in threads, few at a time.

protobuf does both in Python, at more than a second for a megabyte. The threads take turns with the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

SMALL_BYTES = 4 * 1024  # of JSON that is read on the event loop
SMALL_ANSWER_BYTES = 8 * 1024  # of protobuf that is written as JSON on the event loop, in some ms
MOST_PARSED = 2  # larger ones read at a time
MOST_WRITTEN = 2  # and written, by threads that nobody can fill who is not let in
MOST_WAITING = 64  # for either; whoever comes then is to come again
MAX_DEPTH = 50  # of messages in messages

T = TypeVar("T")


class Busy(Exception):
    """So many wait already that there is no use in waiting too."""


class _Threads:
    """Threads for one kind of work."""

    def __init__(self, most: int) -> None:
        self._room = asyncio.Semaphore(most)
        self._waiting = 0

    async def do(self, work: Callable[..., T], *words: Any, patient: bool = False) -> T:
        """Do it when there is room; Busy if too many wait. Who is patient waits in any case, and is not counted."""
        if not patient and self._waiting >= MOST_WAITING:
            raise Busy
        self._waiting += not patient
        try:
            await self._room.acquire()
        finally:
            self._waiting -= not patient
        try:
            return await asyncio.to_thread(work, *words)
        finally:
            self._room.release()


class Transcoder:
    """Reads and writes JSON for everybody."""

    def __init__(self) -> None:
        self._parsing, self._writing = _Threads(MOST_PARSED), _Threads(MOST_WRITTEN)

    async def parsed(self, kind: type[Message], body: bytes) -> Message:
        """Return the message that JSON tells; Busy, or what protobuf raises for JSON that is none."""
        if len(body) <= SMALL_BYTES:
            return _parse(kind, body)
        return await self._parsing.do(_parse, kind, body)

    async def written(self, message: Message, *, patient: bool = False) -> bytes:
        """Return a message as JSON on one line, with every field; Busy unless patient, as streams are: each has one turn."""
        if message.ByteSize() <= SMALL_ANSWER_BYTES:
            return _write(message)
        return await self._writing.do(_write, message, patient=patient)


def _parse(kind: type[Message], body: bytes) -> Message:
    return json_format.Parse(body.decode() or "{}", kind(), max_recursion_depth=MAX_DEPTH)


def _write(message: Message) -> bytes:
    return json_format.MessageToJson(message, indent=None, always_print_fields_with_no_presence=True).encode()
