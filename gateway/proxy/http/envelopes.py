"""How Connect's protocol carries the messages of a stream (connectrpc.com/docs/protocol,
"Streaming RPCs"): each in an envelope, and the last tells how the call has ended."""

from __future__ import annotations

import struct

BINARY, JSON = "application/connect+proto", "application/connect+json"
KINDS = (BINARY, JSON)
HEAD = struct.Struct(">BI")  # flags, bytes that follow
COMPRESSED, END = 1, 2  # flags


def envelope(content: bytes, flags: int = 0) -> bytes:
    """Return a message as it travels."""
    return HEAD.pack(flags, len(content)) + content


def opened(body: bytes) -> bytes:
    """Return the one message of a request; ValueError says what is wrong with its envelope."""
    if len(body) < HEAD.size:
        raise ValueError("must be one message in an envelope of 5 bytes and more")
    flags, size = HEAD.unpack_from(body)
    if flags & COMPRESSED:
        raise ValueError("must not be compressed within its envelope")
    if flags or len(body) != HEAD.size + size:
        raise ValueError(f"must be one envelope of {size} bytes, and nothing behind it")
    return body[HEAD.size :]
