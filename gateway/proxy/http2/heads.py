"""Header blocks of HTTP/2 (RFC 9113 §4.3), put together out of their frames within bounds, and what
they say of a request.

Sans-IO. HPACK (RFC 7541) has a memory: who reads one block of a connection must read all that came
before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.proxy.http2.frames import (
    COMPRESSION_ERROR,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    HEAD_BYTES,
    PADDED,
    PRIORITIZED,
    PROTOCOL_ERROR,
    Abuse,
)

if TYPE_CHECKING:
    import hpack

MAX_LIST_BYTES = 64 * 1024  # of a block unpacked


@dataclass(frozen=True, slots=True)
class Head:
    """What a request's head says of where it goes and who sends it; empty where it says nothing."""

    path: str = ""
    kind: str = ""  # Content-Type
    authorization: str = ""


class Block:
    """A header block while its frames come."""

    __slots__ = (
        "_bytes",
        "_ends",
        "_most_bytes",
        "_most_frames",
        "_starts",
        "frames",
        "stream",
        "whole",
    )

    def __init__(self, stream: int, most_bytes: int, most_frames: int) -> None:
        self.stream, self._most_bytes, self._most_frames = stream, most_bytes, most_frames
        self.frames: list[bytes] = []  # as they travel
        self.whole = False
        self._bytes = 0
        # where the first frame's fragment begins, and how far before its end it ends
        self._starts, self._ends = HEAD_BYTES, 0

    def begin(self, frame: bytes, flags: int) -> None:
        """Take the HEADERS frame."""
        if flags & PADDED:
            self._ends = frame[HEAD_BYTES] if len(frame) > HEAD_BYTES else len(frame)
            self._starts += 1
        if flags & PRIORITIZED:
            self._starts += 5
        if self._starts > len(frame) - self._ends:
            raise Abuse(PROTOCOL_ERROR, "padding longer than its frame")
        self.go_on(frame, flags)

    def go_on(self, frame: bytes, flags: int) -> None:
        """Take a CONTINUATION frame."""
        self.frames.append(frame)
        self._bytes += len(frame)
        if self._bytes > self._most_bytes or len(self.frames) > self._most_frames:
            raise Abuse(ENHANCE_YOUR_CALM, "a head that is too large")
        self.whole = bool(flags & END_HEADERS)

    def read(self, decoder: hpack.Decoder) -> Head:
        """Return what it says; Abuse if it cannot be read."""
        import hpack

        first, *others = self.frames
        fragments = [
            first[self._starts : len(first) - self._ends],
            *(frame[HEAD_BYTES:] for frame in others),
        ]
        try:
            fields = decoder.decode(b"".join(fragments), raw=True)
        except hpack.HPACKError as error:
            raise Abuse(COMPRESSION_ERROR, "a head that cannot be read") from error
        found = dict(fields)

        def text(name: bytes) -> str:
            return bytes(found.get(name, b"")).decode("latin-1")

        return Head(text(b":path"), text(b"content-type"), text(b"authorization"))


def decoder() -> hpack.Decoder:
    """Return what reads the blocks of a connection, from its first one on."""
    import hpack  # late: whoever only starts an edge does not wait for it

    return hpack.Decoder(max_header_list_size=MAX_LIST_BYTES)
