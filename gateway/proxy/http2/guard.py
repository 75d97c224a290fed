"""What an HTTP/2 client may send to the server, judged frame by frame. Sans-IO: bytes in; out come
those that may be passed on.

Header blocks are passed on whole or not at all, so that none that is endless reaches the server;
what they say is read only as long as the connection has not signed in. A new request is held here
until it has its turn (`turns.py`), and with it what follows on its stream; streams that have had
theirs go on meanwhile. What nobody needs to send in such numbers ends the connection (`Abuse`); of
what calls are made of, more than can be borne waits. Knows RFC 9113 and how gRPC frames messages,
not what is behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gateway.fair import Bucket
from gateway.proxy.http2.bounds import (
    EARLY_FRAMES,
    FRAMES_A_TURN,
    MAX_DATA_BYTES,
    PAGE_FRAMES_A_TURN,
    SMALL_BYTES,
    Bounds,
    Budget,
)
from gateway.proxy.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEAD_BYTES,
    HEADERS,
    MAX_FRAME_BYTES,
    PADDED,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Abuse,
)
from gateway.proxy.http2.heads import Block, decoder
from gateway.proxy.http2.requests import Request

MORE = -1.0  # the seconds to rest where more must come first

Rest = float | None  # seconds to rest before going on, MORE, or None to go on at once


class Guard:
    """One connection's frames, from the client to the server."""

    def __init__(self, bounds: Bounds, now: float) -> None:
        self._bounds, self._now = bounds, now
        self._in = bytearray()
        self._at = 0  # up to where `_in` is judged
        self._greeted = self._settled = False  # the preface has come, the first SETTINGS
        self._own_acks = 1  # of the edge's own SETTINGS, which the server does not know of
        self._early = 0  # frames before the first request
        self._payload_left = self._padding_left = 0  # of the DATA frame that is being passed on
        self._payload_to: Request | None = None
        self._block: Block | None = None
        self._opening: Request | None = None  # the request whose head the block is
        self._decoder = decoder()
        self._budget = Budget(bounds)
        self._pages = Bucket(*bounds.pages)
        self._out: list[bytes] = []
        # what pings held that came before anybody else could answer them
        self.pongs: list[bytes] = []
        self.alone = True  # it is not known yet whom this is for
        # for the edge's own pages, where requests have their turns and bodies their time elsewhere
        self.web = False
        self.trusted = False  # it has signed in: heads are not read any more
        self.requests: dict[int, Request] = {}  # streams that are open
        self.waiting: deque[Request] = deque()  # those that have not had their turn, in their order
        self.held_bytes = 0
        self.unsent_bytes = 0  # of messages that have begun and not ended, as far as they have come
        self.last_stream = 0
        # since when the first head is awaited, or one that has begun; 0.0 while none is
        self.block_since = now

    # For whom keeps it

    def receive(self, piece: bytes) -> None:
        """Take what the client has sent."""
        self._in += piece

    def run(self, now: float) -> float | None:
        """Judge what has come; return the seconds after which to go on, None if something else must
        come first. Abuse ends it all.

        It stops when the first request is there, until `settle`.
        """
        self._now = now
        rest_s: Rest = 0.0
        for _ in range(PAGE_FRAMES_A_TURN if self.web else FRAMES_A_TURN):
            if self.full or self.unsettled or (not self._greeted and not self._greet()):
                rest_s = MORE
                break
            if self._payload_left or self._padding_left:
                if not self._payload():
                    rest_s = MORE
                    break
            elif (rest_s := self._frame()) is not None:
                break
        else:
            rest_s = 0.0
        del self._in[: self._at]
        self._at = 0
        return None if rest_s == MORE else rest_s

    @property
    def full(self) -> bool:
        """Whether so much is held that nothing more is to be read."""
        return self.held_bytes > self._bounds.held_bytes

    @property
    def unread_bytes(self) -> int:
        """How much of what has come is not yet judged."""
        return len(self._in)

    @property
    def unsettled(self) -> bool:
        """Whether the first request has come and nobody has said yet what this connection is
        for."""
        return self.alone and bool(self.waiting)

    def settle(self, *, web: bool) -> None:
        """Say what the connection is for: gRPC, whose server hears from now on what is passed on,
        or the edge's own pages."""
        self.alone, self.web = False, web
        if web:
            self._own_acks, self.trusted = 0, True
            self.pass_on()
            self.requests.clear()

    def next(self) -> Request:
        """Return the request that has waited longest, its head read unless the connection is
        trusted. Abuse if it cannot be."""
        request = self.waiting[0]
        if request.blocks and not self.trusted:
            self._read(request)
        return request

    def pass_on(self) -> Request:
        """Let the request that has waited longest have its turn; return it."""
        request = self.next()
        self.waiting.popleft()
        assert request.held is not None
        self.held_bytes -= sum(map(len, request.held))
        self._out += request.held
        request.held, request.passed_at = None, self._now
        request.since = self._now if request.incomplete else 0.0
        return request

    def take(self) -> bytes:
        """Return what may be passed on, once."""
        passed = b"".join(self._out)
        self._out.clear()
        return passed

    def close(self, stream: int) -> None:
        """The server has ended a stream."""
        request = self.requests.pop(stream, None)
        if request is not None:
            self._unsize(request)

    def _unsize(self, request: Request) -> None:
        self.unsent_bytes -= request.size
        request.size = 0

    # Frames

    def _greet(self) -> bool:
        if len(self._in) < len(PREFACE):
            return False
        if not self._in.startswith(PREFACE):
            raise Abuse(PROTOCOL_ERROR, "no preface of HTTP/2")
        self._at, self._greeted = len(PREFACE), True
        self._out.append(PREFACE)
        return True

    def _frame(self) -> Rest:
        """Judge one frame."""
        received, at = self._in, self._at
        if len(received) - at < HEAD_BYTES:
            return MORE
        length = received[at] << 16 | received[at + 1] << 8 | received[at + 2]
        kind, flags = received[at + 3], received[at + 4]
        stream = int.from_bytes(received[at + 5 : at + HEAD_BYTES], "big") & 0x7FFFFFFF
        self._expect(kind, stream)
        if kind == DATA:
            return self._content(length, flags, stream)
        if length > MAX_FRAME_BYTES:
            raise Abuse(FRAME_SIZE_ERROR, f"a frame of {length} bytes")
        end = at + HEAD_BYTES + length
        if len(received) < end:
            return MORE
        judge = _JUDGES.get(kind, Guard._pass_over)
        rest_s = judge(self, bytes(received[at:end]), flags, stream)
        if rest_s is None:
            self._at = end
            self._early += self.alone
            if self._early > EARLY_FRAMES:
                raise Abuse(ENHANCE_YOUR_CALM, "much is said and nothing asked")
        return rest_s

    def _expect(self, kind: int, stream: int) -> None:
        """Refuse what must not come now."""
        if not self._settled and kind != SETTINGS:
            raise Abuse(PROTOCOL_ERROR, "SETTINGS must come first")
        if kind == PUSH_PROMISE:
            raise Abuse(PROTOCOL_ERROR, "a push by a client")
        if self._block is not None and (kind != CONTINUATION or stream != self._block.stream):
            raise Abuse(PROTOCOL_ERROR, "a header block is interrupted")

    def _put(self, request: Request | None, frame: bytes) -> None:
        """Pass a frame on, or hold it with the request it belongs to."""
        if request is None or request.held is None:
            self._out.append(frame)
        else:
            request.held.append(frame)
            self.held_bytes += len(frame)

    # DATA, which is passed on as it comes

    def _content(self, length: int, flags: int, stream: int) -> Rest:
        if not stream or stream > self.last_stream:
            raise Abuse(PROTOCOL_ERROR, "DATA on a stream that is not open")
        if length > MAX_DATA_BYTES:
            raise Abuse(FRAME_SIZE_ERROR, f"a frame of {length} bytes")
        padded, ends = bool(flags & PADDED), bool(flags & END_STREAM)
        end = self._at + HEAD_BYTES + padded
        if len(self._in) < end:
            return MORE
        padding = self._in[end - 1] if padded else 0
        content = length - padding - padded
        if content < 0:
            raise Abuse(PROTOCOL_ERROR, "padding longer than its frame")
        if content < SMALL_BYTES and (rest_s := self._budget.small(self._now)) is not None:
            return rest_s
        if not content and not ends:
            self._budget.spend("empties", self._now)
        request = self.requests.get(stream)
        if request is not None and request.ended:
            raise Abuse(PROTOCOL_ERROR, "DATA after the end of its stream")
        self._put(request, bytes(self._in[self._at : end]))
        self._at = end
        self._payload_left, self._padding_left, self._payload_to = content, padding, request
        if request is not None and ends:
            request.ended = True
            self._progress(request)
        return None

    def _payload(self) -> bool:
        """Pass on what has come of a DATA frame; False if that is nothing."""
        step = min(len(self._in) - self._at, self._payload_left + self._padding_left)
        if not step:
            return False
        piece = bytes(self._in[self._at : self._at + step])
        self._at += step
        request, content = self._payload_to, min(step, self._payload_left)
        self._payload_left -= content
        self._padding_left -= step - content
        self._put(request, piece)
        if request is None and not self.web:
            self._budget.spend("strays", self._now, step)
        if request is not None and content:
            request.body.take(piece[:content])
            request.size += content
            self.unsent_bytes += content
            self._progress(request)
        return True

    def _progress(self, request: Request) -> None:
        """See whether the server still waits for something of a request."""
        if not request.incomplete and not self._payload_left:
            request.since = 0.0
            self._unsize(request)
            return
        request.since = request.since or self._now
        if self.unsent_bytes > self._bounds.unsent_bytes:
            raise Abuse(ENHANCE_YOUR_CALM, "too much of messages that do not end")

    # Header blocks

    def _headers(self, frame: bytes, flags: int, stream: int) -> Rest:
        if not stream % 2:
            raise Abuse(PROTOCOL_ERROR, "an even stream is no client's")
        if self.web and stream > self.last_stream and not self._pages.take(self._now):
            return self._pages.wait_s()
        known = self.requests.get(stream)
        if stream > self.last_stream:
            self._open(stream, flags)
        elif known is None:
            self._budget.spend("ignored", self._now)
        elif known.ended or not flags & END_STREAM:
            raise Abuse(PROTOCOL_ERROR, "a second head on a stream")
        else:
            known.ended = True
        self.block_since = self.block_since or self._now
        self._block = Block(stream, self._bounds.block_bytes, self._bounds.block_frames)
        self._block.begin(frame, flags)
        return self._block_grows(self._block)

    def _open(self, stream: int, flags: int) -> None:
        self.last_stream = stream
        if self.web:
            return
        if len(self.requests) >= self._bounds.streams:
            raise Abuse(ENHANCE_YOUR_CALM, f"more than {self._bounds.streams} streams")
        self._opening = self.requests[stream] = Request(stream, self._now)
        self._opening.ended = bool(flags & END_STREAM)

    def _continuation(self, frame: bytes, flags: int, stream: int) -> Rest:
        if self._block is None:
            raise Abuse(PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._block.go_on(frame, flags)
        return self._block_grows(self._block)

    def _block_grows(self, block: Block) -> Rest:
        """Pass a block on when it is whole. All keep their order, whosever they are: HPACK has a
        memory."""
        if not block.whole:
            return None
        request, self._opening = self._opening, None
        self._block, self.block_since = None, 0.0
        if request is not None:
            self.waiting.append(request)
        elif (ending := self.requests.get(block.stream)) is not None:
            self._progress(ending)
        holder = self.waiting[-1] if self.waiting else None
        if not self.trusted:
            if holder is not None:
                holder.blocks.append(block)
            else:
                block.read(self._decoder)
        for frame in block.frames:
            self._put(holder, frame)
        return None

    def _read(self, request: Request) -> None:
        """Read the head of the request that is the next, and whatever blocks come before another's;
        they cost much to read."""
        blocks, request.blocks = request.blocks, []
        for block in blocks:
            head = block.read(self._decoder)
            request.head = request.head or head

    # The others

    def _reset(self, frame: bytes, flags: int, stream: int) -> Rest:
        if not stream or stream > self.last_stream or len(frame) != HEAD_BYTES + 4:
            raise Abuse(PROTOCOL_ERROR, "a reset of nothing")
        self._budget.spend("resets", self._now)
        request = self.requests.pop(stream, None)
        self._put(request, frame)
        if request is not None:
            request.reset, request.since = True, 0.0
            self._unsize(request)
        return None

    def _setting(self, frame: bytes, flags: int, stream: int) -> Rest:
        length = len(frame) - HEAD_BYTES
        if stream or length % 6 or (flags & ACK and length):
            raise Abuse(PROTOCOL_ERROR, "malformed SETTINGS")
        self._budget.spend("settings", self._now)
        if not flags & ACK:
            self._settled = True
        elif self._own_acks:
            self._own_acks -= 1
            return None
        self._out.append(frame)
        return None

    def _ping(self, frame: bytes, flags: int, stream: int) -> Rest:
        if stream or len(frame) != HEAD_BYTES + 8:
            raise Abuse(PROTOCOL_ERROR, "a malformed PING")
        self._budget.spend("pings", self._now)
        if not self.alone:
            self._out.append(frame)
        elif not flags & ACK:
            self.pongs.append(frame[HEAD_BYTES:])
        return None

    def _window(self, frame: bytes, flags: int, stream: int) -> Rest:
        if len(frame) != HEAD_BYTES + 4 or stream > self.last_stream:
            raise Abuse(PROTOCOL_ERROR, "a malformed WINDOW_UPDATE")
        if (rest_s := self._budget.small(self._now)) is not None:
            return rest_s
        self._put(self.requests.get(stream), frame)
        return None

    def _goaway(self, frame: bytes, flags: int, stream: int) -> Rest:
        # it is not to end the pages that were asked for before; and no server pushes anything
        if not self.web:
            self._out.append(frame)
        return self._pass_over(frame, flags, stream)

    def _pass_over(self, frame: bytes, flags: int, stream: int) -> Rest:
        self._budget.spend("ignored", self._now)
        return None


_JUDGES: dict[int, Callable[[Guard, bytes, int, int], Rest]] = {
    HEADERS: Guard._headers,
    CONTINUATION: Guard._continuation,
    RST_STREAM: Guard._reset,
    SETTINGS: Guard._setting,
    PING: Guard._ping,
    WINDOW_UPDATE: Guard._window,
    GOAWAY: Guard._goaway,
}
