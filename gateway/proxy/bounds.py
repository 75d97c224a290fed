"""How much one connection of HTTP/2 may send of what. What calls are made of waits beyond that; what nobody needs so much of ends it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.wire import MAX_STREAMS


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of what a connection may send: at a time, or as rate a second and burst."""

    streams: int = MAX_STREAMS
    block_bytes: int = 32 * 1024  # of one request's head, as it travels
    block_frames: int = 16
    held_bytes: int = 128 * 1024  # of requests that wait for their turn; nothing more is read meanwhile
    unsent_bytes: int = 8 * 1024 * 1024  # of messages that have begun and not ended
    frames: tuple[float, float] = (10_000, 4_000)  # small ones that calls are made of: more wait
    pages: tuple[float, float] = (100, 100)  # of the edge's own that are asked for: more wait
    resets: tuple[float, float] = (100, 600)
    pings: tuple[float, float] = (10, 100)
    settings: tuple[float, float] = (5, 50)
    empties: tuple[float, float] = (10, 100)  # DATA that carries nothing
    strays: tuple[float, float] = (256 * 1024, 8 * 1024 * 1024)  # bytes of DATA on streams that the server has ended
    ignored: tuple[float, float] = (10, 100)  # priorities, and kinds that are not known
