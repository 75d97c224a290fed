"""A guard of one connection, and what passes it."""

from __future__ import annotations

from gateway.proxy.http2.bounds import Bounds
from gateway.proxy.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    settings,
)
from gateway.proxy.http2.guard import Guard
from tests.proxy.by_hand import GREETING, body, call, head, message, opening

NOW = 1000.0
OWN_ACK = frame(SETTINGS, ACK, 0)


def guard(bounds: Bounds | None = None, *, settled: bool = True) -> Guard:
    """Return a guard that was greeted, and has a server behind it."""
    made = Guard(bounds or Bounds(), NOW)
    made.receive(GREETING + OWN_ACK)
    assert made.run(NOW) is None
    if settled:
        made.settle(web=False) if made.waiting else None
        made.alone = False
    return made


def passed(made: Guard, *pieces: bytes, now: float = NOW) -> bytes:
    """Return what passes, when everybody has a turn at once."""
    out = b""
    for piece in pieces:
        made.receive(piece)
        while True:
            rest_s = made.run(now)
            while made.waiting:
                made.pass_on()
            out += made.take()
            if rest_s is None:
                break
            now += rest_s
    return out


# What ends a connection

FLOODS: dict[str, tuple[bytes, int]] = {
    "no preface": (b"", 0),
    "pings": (frame(PING, 0, 0, bytes(8)) * 1000, ENHANCE_YOUR_CALM),
    "acknowledgements": (frame(PING, ACK, 0, bytes(8)) * 1000, ENHANCE_YOUR_CALM),
    "settings": (settings({4: 65535}) * 1000, ENHANCE_YOUR_CALM),
    "acknowledged settings": (frame(SETTINGS, ACK, 0) * 1000, ENHANCE_YOUR_CALM),
    "priorities": (frame(PRIORITY, 0, 1, bytes(5)) * 1000, ENHANCE_YOUR_CALM),
    "unknown": (frame(0x55, 0, 0, b"x") * 1000, ENHANCE_YOUR_CALM),
    "goaways": (frame(GOAWAY, 0, 0, bytes(8)) * 1000, ENHANCE_YOUR_CALM),
    "empty": (opening(1) + frame(DATA, 0, 1) * 1000, ENHANCE_YOUR_CALM),
    "padding alone": (
        opening(1) + frame(DATA, PADDED, 1, b"\xff" + bytes(255)) * 1000,
        ENHANCE_YOUR_CALM,
    ),
    "resets": (
        b"".join(opening(n) + frame(RST_STREAM, 0, n, bytes(4)) for n in range(1, 4001, 2)),
        ENHANCE_YOUR_CALM,
    ),
    "streams": (b"".join(opening(n) for n in range(1, 4001, 2)), ENHANCE_YOUR_CALM),
    "heads of what is over": (call(1) + opening(1, ends=True), PROTOCOL_ERROR),
    "continuations": (
        frame(HEADERS, 0, 1, head()) + frame(CONTINUATION, 0, 1, b"") * 1000,
        ENHANCE_YOUR_CALM,
    ),
    "large continuations": (
        frame(HEADERS, 0, 1, head()) + frame(CONTINUATION, 0, 1, bytes(16000)) * 1000,
        ENHANCE_YOUR_CALM,
    ),
    "a large head": (opening(1, head(more=[("x", "y" * 4000)] * 4)), -1),
    "a message without end": (
        opening(1)
        + body(1, message(2**31 - 1)[:0] + b"\0\x7f\xff\xff\xff" + bytes(9_000_000), ends=False),
        -1,
    ),
    "a large frame": (frame(HEADERS, END_HEADERS, 1, bytes(16_385)), FRAME_SIZE_ERROR),
    "a huge frame of DATA": (
        opening(1) + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
        FRAME_SIZE_ERROR,
    ),
    "a push": (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), PROTOCOL_ERROR),
    "an even stream": (opening(2), PROTOCOL_ERROR),
    "an older stream": (opening(5) + opening(3), -1),
    "DATA on nothing": (body(1), PROTOCOL_ERROR),
    "DATA on no stream": (frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
    "DATA after the end": (call(1) + body(1), PROTOCOL_ERROR),
    "padding too long": (opening(1) + frame(DATA, PADDED, 1, b"\x09abc"), PROTOCOL_ERROR),
    "padding of a head too long": (
        frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff\x88"),
        PROTOCOL_ERROR,
    ),
    "padding of nothing": (frame(HEADERS, END_HEADERS | PADDED, 1), PROTOCOL_ERROR),
    "an interrupted head": (
        frame(HEADERS, 0, 1, head()) + frame(PING, 0, 0, bytes(8)),
        PROTOCOL_ERROR,
    ),
    "another's continuation": (
        frame(HEADERS, 0, 1, head()) + frame(CONTINUATION, 0, 3),
        PROTOCOL_ERROR,
    ),
    "a continuation of nothing": (frame(CONTINUATION, END_HEADERS, 1), PROTOCOL_ERROR),
    "a reset of nothing": (frame(RST_STREAM, 0, 1, bytes(4)), PROTOCOL_ERROR),
    "a short reset": (opening(1) + frame(RST_STREAM, 0, 1, bytes(3)), PROTOCOL_ERROR),
    "a short ping": (frame(PING, 0, 0, bytes(7)), PROTOCOL_ERROR),
    "settings on a stream": (frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
    "settings that are no pairs": (frame(SETTINGS, 0, 0, bytes(5)), PROTOCOL_ERROR),
    "a window on nothing": (frame(WINDOW_UPDATE, 0, 1, bytes(4)), PROTOCOL_ERROR),
    "a second head": (opening(1) + opening(1), PROTOCOL_ERROR),
    "a head that HPACK does not know": (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff"), -1),
}
FLOODS.pop("no preface")
