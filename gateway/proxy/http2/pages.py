"""The edge's pages, dashboards and calls as JSON over HTTP/2, for browsers and others who choose
it: each stream is a connection of HTTP/1.1 to the server of all that (`http_server.py`), whose
limits hold as they do for everybody.

The frames are h2's (python-hyper), behind the guard. WebSockets are not offered here: who wants one
asks for HTTP/1.1 (RFC 8441 §3).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from gateway.proxy.http2.http1_answers import AnswerHead, AnswerReader

logger = logging.getLogger(__name__)

# of the connection, to who serves its streams
TOLD = ("peername", "sockname", "sslcontext", "ssl_object")
BUFFER_BYTES = 64 * 1024  # of an answer that its client does not take; its maker waits meanwhile
DROPPED = (
    b"te",
    b"host",
    b"cookie",
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"upgrade",
    b"expect",
    b"http2-settings",
)

Make = Callable[[], Any]  # what serves a connection of HTTP/1.1


class PagesConnection:
    """One HTTP/2 connection."""

    def __init__(self, transport: asyncio.Transport, make: Make, announced: dict[int, int]) -> None:
        """`announced`: the SETTINGS that the client was already told."""
        self.transport, self._make = transport, make
        self.frames = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding=None)
        )
        known = {h2.settings.SettingCodes(code): value for code, value in announced.items()}
        self.frames.local_settings = h2.settings.Settings(client=False, initial_values=known)
        self.frames.initiate_connection()
        self.frames.data_to_send()  # it was sent before anybody knew what the connection is for
        self.streams: dict[int, _Stream] = {}
        self._closed = self._paused = False
        self.taken_at = 0.0  # when the client last took something of an answer

    def receive(self, piece: bytes) -> None:
        """Take what the client has sent."""
        if self._closed:
            return
        try:
            for event in self.frames.receive_data(piece):
                self._happened(event)
        except h2.exceptions.ProtocolError as error:
            logger.debug("a connection of HTTP/2 was ended: %s", error)
            self.send()
            self.transport.close()
            self.close()  # answers that are being made have nowhere to go
            return
        self.send()

    def _happened(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self._request(event)
        elif isinstance(event, h2.events.DataReceived):
            stream = self.streams.get(event.stream_id)
            if stream is None:
                self.frames.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            else:
                stream.take(event.data, event.flow_controlled_length)
        elif isinstance(event, h2.events.StreamEnded):
            if (stream := self.streams.get(event.stream_id)) is not None:
                stream.ended()
        elif isinstance(event, h2.events.StreamReset):
            if (stream := self.streams.pop(event.stream_id, None)) is not None:
                stream.lost()
        elif isinstance(event, h2.events.WindowUpdated):
            for stream in (
                [self.streams[event.stream_id]]
                if event.stream_id in self.streams
                else list(self.streams.values())
            ):
                stream.flush()
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            for stream in list(self.streams.values()):
                stream.flush()

    def _request(self, event: h2.events.RequestReceived) -> None:
        number = event.stream_id
        head = request_head(
            [(bytes(name), bytes(value)) for name, value in event.headers],
            ends=event.stream_ended is not None,
        )
        if head is None:
            self.frames.reset_stream(number, h2.errors.ErrorCodes.PROTOCOL_ERROR)
            return
        method = next(bytes(value) for name, value in event.headers if name == b":method")
        stream = self.streams[number] = _Stream(
            self, number, bodiless=method == b"HEAD", chunked=b"\r\ntransfer-encoding:" in head
        )
        stream.begin(self._make(), head)

    def send(self) -> None:
        """Send what there is to say."""
        if (told := self.frames.data_to_send()) and not self._closed:
            self.transport.write(told)

    def pause(self) -> None:
        """The client takes nothing for now."""
        self._paused = True

    def resume(self) -> None:
        """It takes more again."""
        self._paused = False
        for stream in list(self.streams.values()):
            stream.flush()

    @property
    def paused(self) -> bool:
        """Whether the client takes nothing for now."""
        return self._paused

    def stalled_s(self, now: float) -> float:
        """Return for how long the client has taken nothing of what is there for it."""
        return (
            now - self.taken_at
            if any(stream.get_write_buffer_size() for stream in self.streams.values())
            else 0.0
        )

    @property
    def idle(self) -> bool:
        """Whether nothing is asked for."""
        return not self.streams

    @property
    def closed(self) -> bool:
        """Whether nothing can be said any more."""
        return self._closed

    def close(self) -> None:
        """The client is gone."""
        self._closed = True
        for stream in list(self.streams.values()):
            stream.lost()
        self.streams.clear()


class _Stream(asyncio.Transport):
    """One request, as the connection that its server sees."""

    def __init__(
        self, owner: PagesConnection, number: int, *, bodiless: bool, chunked: bool
    ) -> None:
        super().__init__({name: owner.transport.get_extra_info(name) for name in TOLD})
        self._owner, self._number, self._chunked = owner, number, chunked
        self._reader = AnswerReader(bodiless=bodiless)
        self._protocol: Any = None
        self._pending = b""
        self._headed = self._finished = self._over = self._held_up = False
        self._reading = True
        self._unacknowledged = 0

    def begin(self, protocol: Any, head: bytes) -> None:
        """Serve it."""
        self._protocol = protocol
        protocol.connection_made(self)
        protocol.data_received(head)

    # What the client sends

    def take(self, piece: bytes, counted: int) -> None:
        """Take a piece of the body; `counted`: bytes of the window that it has used up."""
        self._unacknowledged += counted
        if piece and not self._over:
            self._protocol.data_received(
                b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece
            )
        if self._reading or self._over:
            self._acknowledge()

    def _acknowledge(self) -> None:
        """Permit as much more as was taken."""
        if self._unacknowledged and not self._owner.closed:
            self._owner.frames.acknowledge_received_data(self._unacknowledged, self._number)
            self._unacknowledged = 0

    def ended(self) -> None:
        """The body is whole."""
        if self._chunked and not self._over:
            self._protocol.data_received(b"0\r\n\r\n")

    def lost(self) -> None:
        """The client has given up, or is gone."""
        self._finished = True
        self.close()

    # What the server answers

    def write(self, data: Any) -> None:
        if self._over:
            return
        for part in self._reader.receive(bytes(data)):
            if isinstance(part, AnswerHead):
                self._headed = True
                fields = [(b":status", str(part.status).encode()), *part.headers]
                self._owner.frames.send_headers(self._number, fields, end_stream=part.ends)
                self._finished = part.ends
            else:
                if not self._pending:
                    self._owner.taken_at = time.monotonic()
                self._pending += part
        self.flush()

    def flush(self) -> None:
        """Send as much as the client permits."""
        owner = self._owner
        if self._headed and not self._finished and not owner.paused:
            while self._pending:
                room = min(
                    owner.frames.local_flow_control_window(self._number),
                    owner.frames.max_outbound_frame_size,
                )
                if room <= 0:
                    break
                piece, self._pending = self._pending[:room], self._pending[room:]
                owner.frames.send_data(self._number, piece)
                owner.taken_at = time.monotonic()
            if not self._pending and self._reader.over:
                owner.frames.end_stream(self._number)
                self._finished = True
        self._hold_up(len(self._pending) > BUFFER_BYTES)
        if self._finished and owner.streams.pop(self._number, None) is not None:
            self._reading = True
            self._acknowledge()  # of a body, too, that nobody reads
            self.close()
        owner.send()

    def _hold_up(self, wait: bool) -> None:
        if wait != self._held_up and not self._over:
            self._held_up = wait
            if wait:
                self._protocol.pause_writing()
            else:
                self._protocol.resume_writing()

    def close(self) -> None:
        """End it. What is whole goes out as the client takes it; what is not is cut short as
        such."""
        if self._over:
            return
        self._over = True
        if not self._finished and self._headed and self._reader.end():
            self._reader.over = True
            self.flush()
        elif not self._finished:
            self._finished = True
            if self._owner.streams.pop(self._number, None) is not None:
                self._owner.frames.reset_stream(self._number, h2.errors.ErrorCodes.INTERNAL_ERROR)
                self._owner.send()
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close

    # What else a transport is asked

    def is_closing(self) -> bool:
        return self._over

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._acknowledge()
        self._owner.send()

    def is_reading(self) -> bool:
        return self._reading

    def get_write_buffer_size(self) -> int:
        return len(self._pending)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """They are fixed."""


def request_head(fields: list[tuple[bytes, bytes]], *, ends: bool) -> bytes | None:
    """Return a request's head as HTTP/1.1 has it, None if it cannot be said there."""
    told = dict(fields)
    method, path, host = (
        told.get(b":method", b""),
        told.get(b":path", b""),
        told.get(b":authority", told.get(b"host", b"")),
    )
    if not method.isalpha() or method == b"CONNECT" or not path.startswith(b"/"):
        return None
    if any(byte <= 0x20 or byte == 0x7F for byte in method + path + host):
        return None
    lines = [method + b" " + path + b" HTTP/1.1", b"host: " + host]
    for name, value in fields:
        if not name.startswith(b":") and name not in DROPPED:
            lines.append(name + b": " + value)
    cookies = b"; ".join(value for name, value in fields if name == b"cookie")
    if cookies:
        lines.append(b"cookie: " + cookies)
    if b"content-length" in told:
        lines.append(b"content-length: " + told[b"content-length"])
    elif not ends:
        lines.append(b"transfer-encoding: chunked")
    if any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines):
        return None
    return b"\r\n".join(lines) + b"\r\n\r\n"
