"""A browser of HTTP/2, as far as tests need one: requests side by side on one connection, by h2."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events


@dataclass
class Answer:
    """An answer while it comes."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Browser:
    """One connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lax: bool
    ) -> None:
        self._reader, self._writer = reader, writer
        checks: dict[str, Any] = {
            "validate_outbound_headers": not lax,
            "normalize_outbound_headers": not lax,
        }
        self._frames = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8", **checks)
        )
        self._frames.initiate_connection()
        self._answers: dict[int, Answer] = {}
        self._room = asyncio.Event()
        self._send()
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def connect(
        cls, port: int, context: ssl.SSLContext | None = None, *, lax: bool = False
    ) -> Browser:
        """Connect; `lax`: heads are sent as they are told, right or not."""
        name = "127.0.0.1" if context is not None else None
        return cls(
            *await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name),
            lax,
        )

    async def get(self, path: str, cookie: str = "") -> Answer:
        """Get a page."""
        return await self.request("GET", path, cookie=cookie)

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        cookie: str = "",
        authorization: str = "",
        kind: str = "text/plain",
    ) -> Answer:
        """Make a request."""
        fields = [
            (":method", method),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", path),
            ("content-type", kind),
        ]
        fields += [("cookie", cookie)] if cookie else []
        fields += [("authorization", authorization)] if authorization else []
        return await self._exchange(fields, body)

    async def exchange(self, fields: list[tuple[bytes, bytes]]) -> Answer:
        """Make a request whose head is told in part."""
        told = dict(fields)
        usual = [
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":authority", b"localhost"),
            (b":path", b"/healthz"),
        ]
        whole: list[Any] = [(name, told.pop(name, value)) for name, value in usual]
        return await self._exchange([*whole, *told.items()], b"")

    async def _exchange(self, fields: list[Any], body: bytes) -> Answer:
        number = self._frames.get_next_available_stream_id()
        answer = self._answers[number] = Answer()
        self._frames.send_headers(number, fields, end_stream=not body)
        self._send()
        while body and not answer.over.is_set():
            size = min(
                self._frames.local_flow_control_window(number),
                self._frames.max_outbound_frame_size,
                len(body),
            )
            if not size:
                self._room.clear()
                await self._room.wait()
                continue
            piece, body = body[:size], body[size:]
            self._frames.send_data(number, piece, end_stream=not body)
            self._send()
        async with asyncio.timeout(20):
            await answer.over.wait()
        return answer

    def _send(self) -> None:
        self._writer.write(self._frames.data_to_send())

    async def _read(self) -> None:
        try:
            while received := await self._reader.read(65_536):
                for event in self._frames.receive_data(received):
                    self._happened(event)
                self._send()
        except (ConnectionError, h2.exceptions.ProtocolError):
            pass
        for answer in self._answers.values():
            if not answer.over.is_set():
                answer.cut = True
                answer.over.set()
        self._room.set()

    def _happened(self, event: h2.events.Event) -> None:
        answer = self._answers.get(getattr(event, "stream_id", None) or 0, Answer())
        if isinstance(event, h2.events.ResponseReceived):
            told = {str(name): str(value) for name, value in event.headers}
            answer.status, answer.headers = int(told.pop(":status")), told
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data
            self._frames.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
            answer.cut = isinstance(event, h2.events.StreamReset)
            answer.over.set()
        elif isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
            self._room.set()

    async def close(self) -> None:
        """Let go."""
        self._writer.close()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
