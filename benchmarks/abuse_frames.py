"""HTTP/2 as an attacker writes it: frames by hand (RFC 9113), header blocks that leave nothing in
HPACK's memory (RFC 7541 §6.2.3)."""

from __future__ import annotations

import struct

from google.protobuf.message import Message

from benchmarks.load import framed

DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SERVICE = "/daskgateway.v1.ClusterService"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return (
        struct.pack(">I", len(payload))[1:]
        + bytes((kind, flags))
        + struct.pack(">I", stream)
        + payload
    )


def setting(key: int, value: int) -> bytes:
    """Return a SETTINGS frame of one setting."""
    return frame(SETTINGS, 0, 0, struct.pack(">HI", key, value))


GREETING = PREFACE + frame(SETTINGS, 0, 0)


def _text(value: bytes) -> bytes:
    if len(value) < 127:
        return bytes((len(value),)) + value
    rest, length = len(value) - 127, bytearray((127,))
    while rest >= 128:
        length.append(rest % 128 + 128)
        rest //= 128
    return bytes(length) + bytes((rest,)) + value


def head(method: str, authorization: str = "", *more: tuple[str, str]) -> bytes:
    """Return the header block of a call of ClusterService, or of a path that begins with a
    slash."""
    path = method if method.startswith("/") else f"{SERVICE}/{method}"
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
        ("content-type", "application/grpc"),
    ]
    fields += [
        ("te", "trailers"),
        *([("authorization", authorization)] if authorization else []),
        *more,
    ]
    return b"".join(
        b"\x10" + _text(name.encode()) + _text(value.encode()) for name, value in fields
    )


def opening(stream: int, block: bytes) -> bytes:
    """Return the frame that opens a stream."""
    return frame(HEADERS, END_HEADERS, stream, block)


def call(stream: int, block: bytes, request: Message) -> bytes:
    """Return a whole call, its message in frames of 16 KiB."""
    content = framed(request)
    pieces = [content[at : at + 16_384] for at in range(0, len(content), 16_384)]
    frames = [
        frame(DATA, END_STREAM if number == len(pieces) - 1 else 0, stream, piece)
        for number, piece in enumerate(pieces)
    ]
    return opening(stream, block) + b"".join(frames)
