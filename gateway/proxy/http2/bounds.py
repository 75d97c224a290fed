"""How much one connection of HTTP/2 may send of what. What calls are made of waits beyond that;
what nobody needs so much of ends it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.fair import Bucket
from gateway.proxy.http2.frames import ENHANCE_YOUR_CALM, Abuse
from gateway.wire import MAX_STREAMS

FRAMES_A_TURN = 256  # looked at before others have their turn
PAGE_FRAMES_A_TURN = 4  # the same where each may begin a page, which costs a hundred times as much
SMALL_BYTES = 1024  # DATA frames of less are counted
MAX_DATA_BYTES = 4 * 1024 * 1024  # of one DATA frame, which is passed on as it comes
EARLY_FRAMES = 100  # before the first request
REST_S = 0.02  # small frames that must wait do so for so long, or there would be no end of waiting
RESTS = (0.2, 3.0)  # seconds of every second, and at once, that small frames may have to wait


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of what a connection may send: at a time, or as rate a second and burst."""

    streams: int = MAX_STREAMS
    block_bytes: int = 32 * 1024  # of one request's head, as it travels
    block_frames: int = 16
    # of requests that wait for their turn; nothing more is read meanwhile
    held_bytes: int = 128 * 1024
    unsent_bytes: int = 8 * 1024 * 1024  # of messages that have begun and not ended
    frames: tuple[float, float] = (10_000, 4_000)  # small ones that calls are made of: more wait
    pages: tuple[float, float] = (100, 100)  # of the edge's own that are asked for: more wait
    resets: tuple[float, float] = (100, 600)
    pings: tuple[float, float] = (10, 100)
    settings: tuple[float, float] = (5, 50)
    empties: tuple[float, float] = (10, 100)  # DATA that carries nothing
    # bytes of DATA on streams that the server has ended
    strays: tuple[float, float] = (256 * 1024, 8 * 1024 * 1024)
    ignored: tuple[float, float] = (10, 100)  # priorities, and kinds that are not known


WORDS = {
    "resets": "resets",
    "pings": "pings",
    "settings": "SETTINGS",
    "empties": "empty DATA frames",
    "strays": "bytes on streams that are over",
    "ignored": "heads on streams that are over, priorities, GOAWAYs, or frames of unknown kinds",
}


class Budget:
    """What one connection may still send."""

    __slots__ = ("_frames", "_kinds", "_rests")

    def __init__(self, bounds: Bounds) -> None:
        self._frames = Bucket(*bounds.frames)
        self._kinds = {kind: Bucket(*getattr(bounds, kind)) for kind in WORDS}
        self._rests = Bucket(*RESTS)

    def spend(self, kind: str, now: float, count: int = 1) -> None:
        """Something was sent; Abuse if it is too much."""
        if not self._kinds[kind].take(now, count):
            raise Abuse(ENHANCE_YOUR_CALM, f"too many {WORDS[kind]}")

    def small(self, now: float) -> float | None:
        """A small frame was sent; return the seconds that it has to wait, None if it has not. Abuse
        if such have waited for too long."""
        if self._frames.take(now):
            return None
        if not self._rests.take(now, REST_S):
            raise Abuse(ENHANCE_YOUR_CALM, "too many small frames")
        return REST_S
