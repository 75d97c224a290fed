"""Messages out of JSON and into it: small ones on the event loop, which relays share, large ones in
threads, few at a time.

protobuf does both in Python, at more than a second for a megabyte. The threads take turns with the
event loop, and callers with each other:
strangers have one thread between them, and nobody has more than one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from gateway.fair import FairPool
from gateway.proxy.upstream.turns import Share
from gateway.turns import Turns

SMALL_BYTES = 4 * 1024  # of JSON that is read on the event loop
SMALL_ANSWER_BYTES = 8 * 1024  # of protobuf that is written as JSON on the event loop, in some ms
MOST_PARSED = 2  # larger ones read at a time
MOST_WRITTEN = 2  # and written, by threads that nobody can fill who is not let in
MOST_WAITING = 64  # of one caller, for either; whoever comes then is to come again
KEPT, MOST_KEPT_BYTES = 32, 16 * 1024  # messages whose JSON is kept, and bytes of one in protobuf
STREAMS = 1_000_000  # more than there can be: each waits once at a time
MAX_DEPTH = 50  # of messages in messages
STRANGERS = ""  # whose key is one, as no credentials have that mark

T = TypeVar("T")


class Busy(Exception):
    """So many of the caller's wait already that there is no use in waiting too."""


class _Threads:
    """Threads for one kind of work."""

    def __init__(self, most: int) -> None:
        self._turns = Turns(FairPool(most, 1, most_waiting=STREAMS))

    async def do(
        self, whose: Share, work: Callable[..., T], *words: Any, patient: bool = False
    ) -> T:
        """Do it when it is the caller's turn; Busy if too many wait. Who is patient waits in any
        case."""
        key, kind = (STRANGERS, whose.name) if whose.stranger else (whose.name, "")
        if not patient and self._turns.pool.wanted_by(key, kind) >= MOST_WAITING:
            raise Busy
        async with self._turns.turn(key, kind):
            return await asyncio.to_thread(work, *words)


class Transcoder:
    """Reads and writes JSON for everybody."""

    def __init__(self) -> None:
        self._parsing, self._writing = _Threads(MOST_PARSED), _Threads(MOST_WRITTEN)
        self._kept: dict[tuple[type[Message], bytes], bytes] = {}  # the JSON of the last messages

    async def parsed(self, whose: Share, kind: type[Message], body: bytes) -> Message:
        """Return the message that JSON tells; Busy, or what protobuf raises for JSON that is
        none."""
        if len(body) <= SMALL_BYTES:
            return _parse(kind, body)
        return await self._parsing.do(whose, _parse, kind, body)

    async def written(self, whose: Share, message: Message, *, patient: bool = False) -> bytes:
        """Return a message as JSON on one line, with every field; Busy unless patient, as streams
        are: each has one turn."""
        if message.ByteSize() <= SMALL_ANSWER_BYTES:
            return _write(message)
        return await self._writing.do(whose, _write, message, patient=patient)

    async def rewritten(self, whose: Share, kind: type[Message], content: bytes) -> bytes:
        """Return a message of a stream, which came in protobuf, as JSON. That of the last ones is
        kept: thousands of watches may be told the same."""
        key = kind, content
        found = self._kept.get(key)
        if found is None:
            found = await self.written(whose, kind.FromString(content), patient=True)
            if len(content) <= MOST_KEPT_BYTES:
                while len(self._kept) >= KEPT:
                    del self._kept[next(iter(self._kept))]
                self._kept[key] = found
        return found


def _parse(kind: type[Message], body: bytes) -> Message:
    return json_format.Parse(body.decode() or "{}", kind(), max_recursion_depth=MAX_DEPTH)


def _write(message: Message) -> bytes:
    return json_format.MessageToJson(
        message, indent=None, always_print_fields_with_no_presence=True
    ).encode()
