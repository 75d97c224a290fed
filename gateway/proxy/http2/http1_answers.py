"""The edge's own answers in HTTP/1.1, taken apart again to go out over HTTP/2. Sans-IO: bytes in, a
head and pieces of a body out.

They were written by our own server a moment ago: what comes is well-formed, or cut short.
"""

from __future__ import annotations

from dataclasses import dataclass

# RFC 9113 §8.2.2
HOP_BY_HOP = (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
BODILESS = (204, 304)


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """Status and headers; names are in lower case."""

    status: int
    headers: list[tuple[bytes, bytes]]
    ends: bool  # there is no body


class AnswerReader:
    """One answer."""

    def __init__(self, *, bodiless: bool) -> None:
        """`bodiless`: to a HEAD request."""
        self._bodiless = bodiless
        self._received = b""
        # bytes of the body, or of its present chunk, that have not come; None: all until the end
        self._left: int | None = 0
        self._chunked = self._headed = False
        self.over = False

    def receive(self, piece: bytes) -> list[AnswerHead | bytes]:
        """Return what there is now."""
        found: list[AnswerHead | bytes] = []
        self._received += piece
        while not self.over:
            part = self._body() if self._headed else self._head()
            if part is None:
                break
            if isinstance(part, AnswerHead) or part:
                found.append(part)
        return found

    def _head(self) -> AnswerHead | None:
        text, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        self._received = rest
        line, *lines = text.split(b"\r\n")
        status = int(line.split(b" ", 2)[1])
        if status < 200:  # 100 Continue; the answer itself comes later
            return self._head()
        headers = [
            (name.strip().lower(), value.strip())
            for name, _, value in (entry.partition(b":") for entry in lines)
        ]
        told = dict(headers)
        self._headed = True
        self._chunked = told.get(b"transfer-encoding", b"").lower() == b"chunked"
        if self._bodiless or status in BODILESS:
            self.over = True
        elif not self._chunked:
            self._left = int(told[b"content-length"]) if b"content-length" in told else None
            self.over = self._left == 0
        return AnswerHead(
            status, [(name, value) for name, value in headers if name not in HOP_BY_HOP], self.over
        )

    def _body(self) -> bytes | None:
        if self._chunked and not self._left:
            return self._chunk()
        if not self._received:
            return None
        most = len(self._received) if self._left is None else self._left
        piece, self._received = self._received[:most], self._received[most:]
        if self._left is not None:
            self._left -= len(piece)
            self.over = not self._left and not self._chunked
        return piece

    def _chunk(self) -> bytes | None:
        """Read a chunk's size, behind the end of the one before."""
        start = 2 if self._received.startswith(b"\r\n") else 0
        line, end, rest = self._received[start:].partition(b"\r\n")
        if not end:
            return None
        size = int(line, 16)
        if not size:
            if b"\r\n" not in rest:
                return None
            self.over = True
            return b""
        self._left, self._received = size, rest
        return b""

    def end(self) -> bool:
        """The connection has ended: return whether the answer is whole."""
        return self.over or (self._headed and not self._chunked and self._left is None)
