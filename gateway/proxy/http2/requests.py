"""What the guard remembers of one stream of HTTP/2: how far its gRPC messages have come, both ways,
and whether it has had its turn.

gRPC over HTTP/2: a message is a byte of flags, four bytes of its length, and as many more
(github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md).
"""

from __future__ import annotations

from gateway.proxy.http2.heads import Block, Head

PREFIX_BYTES = 5


class Progress:
    """Where messages begin and end in the DATA of one direction."""

    __slots__ = ("_left", "_prefix", "whole")

    def __init__(self) -> None:
        self._prefix = b""
        self._left = 0  # bytes of the present message that have not come
        self.whole = 0  # messages that have come to their end

    @property
    def between(self) -> bool:
        """Whether no message has begun that has not ended."""
        return not self._left and not self._prefix

    def take(self, piece: bytes) -> None:
        """Some more has come."""
        at, size = 0, len(piece)
        while at < size:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                at += step
            else:
                step = min(PREFIX_BYTES - len(self._prefix), size - at)
                self._prefix += piece[at : at + step]
                at += step
                if len(self._prefix) < PREFIX_BYTES:
                    return
                self._left = int.from_bytes(self._prefix[1:], "big")
                self._prefix = b""
            if not self._left:
                self.whole += 1


class Request:
    """A stream that a client has opened."""

    __slots__ = (
        "answer",
        "answered_at",
        "blocks",
        "body",
        "ended",
        "head",
        "held",
        "passed_at",
        "reset",
        "since",
        "size",
        "stream",
    )

    def __init__(self, stream: int, now: float) -> None:
        self.stream = stream
        self.passed_at = 0.0  # when it had its turn
        self.head: Head | None = None  # once it was read
        # its own, and those that must be read before the next request's, while heads are read
        self.blocks: list[Block] = []
        self.held: list[bytes] | None = []  # frames that wait for its turn; None once it has had it
        self.since = now  # since when a message is awaited from the client; 0.0 while none is
        self.size = 0  # bytes that have come of messages from the client that are not whole
        self.body, self.answer = Progress(), Progress()
        self.answered_at = 0.0  # when the server last said something, 0.0 for never
        self.ended = self.reset = False  # by the client

    @property
    def incomplete(self) -> bool:
        """Whether the server waits for what the client has begun to send, or has not sent at
        all."""
        return not (self.ended or self.reset) and not (self.body.whole and self.body.between)

    @property
    def untaken(self) -> bool:
        """Whether an answer has begun of which not one message has come through."""
        return self.answered_at > 0 and not self.answer.whole
