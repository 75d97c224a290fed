"""HTTP/2 frames as they travel (RFC 9113 §4.1, §6): their kinds, flags and error codes, and those
that the edge says itself."""

from __future__ import annotations

import struct
from collections.abc import Mapping

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
# what everybody must take (RFC 9113 §4.2); of DATA the server may permit more
MAX_FRAME_BYTES = 16 * 1024

(
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH_PROMISE,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION,
) = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, PRIORITIZED = 0x4, 0x8, 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0x0, 0x1, 0x2, 0x3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = (
    0x5,
    0x6,
    0x7,
    0x9,
    0xB,
)

SETTINGS_MAX_CONCURRENT_STREAMS, SETTINGS_INITIAL_WINDOW_SIZE, SETTINGS_MAX_HEADER_LIST_SIZE = (
    0x3,
    0x4,
    0x6,
)


class Abuse(Exception):
    """The connection is to end: with this error code of HTTP/2, and why."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return (
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
    )


def settings(values: Mapping[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(
        SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in values.items())
    )


def goaway(last_stream: int, code: int, why: str = "") -> bytes:
    """Return a GOAWAY frame: the connection is about to close, and why."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last_stream, code) + why.encode()[:200])


def pong(payload: bytes) -> bytes:
    """Return the answer to a PING."""
    return frame(PING, ACK, 0, payload)
