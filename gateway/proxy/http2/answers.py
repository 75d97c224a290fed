"""What the server sends on an HTTP/2 connection, followed frame by frame: which requests it has
answered, and which are over.

Sans-IO, and nothing is changed or held: bytes pass by as they come. Of the server's own frames
nothing is doubted.
"""

from __future__ import annotations

from gateway.proxy.http2.frames import DATA, END_STREAM, HEAD_BYTES, HEADERS, RST_STREAM
from gateway.proxy.http2.guard import Guard
from gateway.proxy.http2.requests import Request


class Answers:
    """One connection's frames, from the server to the client."""

    __slots__ = ("_data_of", "_ends", "_guard", "_head", "_left", "_now", "moved")

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._head = b""  # of a frame, as far as it has come
        self._left = 0  # bytes of the present frame's payload that have not come
        self._data_of: Request | None = None  # whose DATA they are
        self._ends = 0  # the stream that ends with the present frame, 0 for none
        self._now = 0.0
        # requests that were answered, got a whole message or are over, in this turn
        self.moved: list[Request] = []

    @property
    def between(self) -> bool:
        """Whether the server is between two frames, so that another may be put there."""
        return not self._left and not self._head

    def receive(self, piece: bytes, now: float) -> None:
        """Follow what the server has sent."""
        self._now = now
        at, size = 0, len(piece)
        while at < size:
            if self._left:
                at += self._payload(piece, at, size)
                continue
            if not self._head and size - at >= HEAD_BYTES:
                head = piece[at : at + HEAD_BYTES]
                at += HEAD_BYTES
            else:
                step = min(HEAD_BYTES - len(self._head), size - at)
                self._head += piece[at : at + step]
                at += step
                if len(self._head) < HEAD_BYTES:
                    return
                head, self._head = self._head, b""
            self._begin(head)

    def _begin(self, head: bytes) -> None:
        self._left = head[0] << 16 | head[1] << 8 | head[2]
        kind, flags = head[3], head[4]
        if kind not in (DATA, HEADERS, RST_STREAM):
            return
        stream = int.from_bytes(head[5:HEAD_BYTES], "big") & 0x7FFFFFFF
        request = self._guard.requests.get(stream)
        if request is None:
            return
        request.answered_at = self._now
        self._data_of = request if kind == DATA else None
        if kind == RST_STREAM or flags & END_STREAM:
            self._ends = stream
        if not self._left:
            self._end()

    def _payload(self, piece: bytes, at: int, size: int) -> int:
        step = min(self._left, size - at)
        self._left -= step
        request = self._data_of
        if request is not None:
            before = request.answer.whole
            request.answer.take(piece[at : at + step])
            request.answered_at = self._now
            if request.answer.whole and not before:
                self.moved.append(request)
        if not self._left:
            self._end()
        return step

    def _end(self) -> None:
        """A frame has ended."""
        self._data_of = None
        if self._ends:
            request = self._guard.requests.get(self._ends)
            if request is not None:
                self._guard.close(self._ends)
                self.moved.append(request)
            self._ends = 0
