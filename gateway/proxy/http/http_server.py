"""What holds for every HTTP/1.1 connection: limits on heads and bodies, a time for every phase, one
answer to what is malformed.

Knows no paths. Built on aiohttp's server, whose parser is strict but has no time limit of its own
for heads and bodies.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections import OrderedDict
from typing import Any

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from gateway.proxy.config import Proxy
from gateway.proxy.http.strict import MAX_HEADERS, MAX_LINE_BYTES, violation

logger = logging.getLogger(__name__)

LOOKED_AT = 50  # connections, for one that is idle
LINGER_S = 5.0  # for the rest of a body that nobody wants
TOO_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain\r\nConnection:"
    b" close\r\n\r\nthe request's head is too slow\n"
)


class _Kept:
    """Connections in the order of what they last said. An idle one costs a tenth of a megabyte with
    TLS, so of more than `most` the one that has been idle for longest ends."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._order: OrderedDict[_Connection, None] = OrderedDict()

    def enter(self, connection: _Connection) -> None:
        """Note a new connection, and end an idle one if there are too many."""
        self._order[connection] = None
        for _ in range(min(LOOKED_AT, len(self._order) - self._most)):
            oldest = next(iter(self._order))
            if oldest.idle:
                self.leave(oldest)
                oldest.force_close()
                return
            self.said_something(oldest)  # it is answered, or is a stream

    def said_something(self, connection: _Connection) -> None:
        """Note that a connection is not idle."""
        if connection in self._order:
            self._order.move_to_end(connection)

    def leave(self, connection: _Connection) -> None:
        """Forget a connection."""
        self._order.pop(connection, None)


class _Connection(RequestHandler):
    """One connection; it must tell a whole head in time, at its beginning and after every
    answer."""

    __slots__ = ("_head_timeout_s", "_head_timer", "_kept")

    def __init__(self, server: Any, head_timeout_s: float, kept: _Kept, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._head_timeout_s, self._kept = head_timeout_s, kept
        self._head_timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether no request is being read or answered."""
        return self._current_request is None and not self._messages and self._head_timer is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._expect_head()
        self._kept.enter(self)

    def data_received(self, data: bytes) -> None:
        self._kept.said_something(self)
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._forget_head()
            self._break_off()
        elif self._head_timer is None and self._waiter is not None and not self._waiter.done():
            self._expect_head()  # the first bytes after an answer

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_head()
        self._kept.leave(self)
        super().connection_lost(exc)

    def _break_off(self) -> None:
        """Tell the handler of a request that its body went wrong: the parser tells only who would
        come next."""
        malformed_next = bool(self._messages) and not isinstance(
            self._messages[-1][0], RawRequestMessage
        )
        if (
            malformed_next
            and self._current_request is not None
            and not self._current_request.content.is_eof()
        ):
            self._current_request.content.set_exception(web.RequestPayloadError("malformed"))

    def _expect_head(self) -> None:
        self._head_timer = self._loop.call_later(self._head_timeout_s, self._too_late)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_late(self) -> None:
        self._head_timer = None
        if isinstance(self.transport, asyncio.Transport):
            self.transport.write(TOO_LATE)
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what the parser refuses; what it says of it is for the log alone, as it repeats
        what was sent."""
        if isinstance(exc, ConnectionError):
            # the caller is gone, or must see that the answer is not whole: aiohttp closes the
            # connection upon it
            raise exc
        if status != 400:
            return super().handle_error(request, status, exc, message)
        logger.debug("a malformed request: %s", message)
        return malformed("the request is no valid HTTP/1.1")


class HttpServer:
    """Serves an application on sockets that were accepted elsewhere."""

    def __init__(self, app: web.Application, options: Proxy) -> None:
        self._options = options
        self._kept = _Kept(options.max_idle_http_connections)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=1.0
        )

    async def open(self) -> None:
        """Make ready."""
        await self._runner.setup()

    async def close(self) -> None:
        """End every connection, those in the middle of an answer after a second."""
        await self._runner.cleanup()

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._runner.server.connections) if self._runner.server is not None else 0

    def protocol(self) -> asyncio.Protocol:
        """Return what serves one new connection."""
        options = self._options
        return _Connection(
            self._runner.server,
            options.header_timeout_s,
            self._kept,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=options.keepalive_timeout_s,
            access_log=None,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
            lingering_time=LINGER_S,
            auto_decompress=False,
        )


def malformed(why: str, status: int = 400) -> web.Response:
    """Return the answer to a request that cannot be served as it was sent; the connection ends with
    it."""
    answer = web.Response(status=status, text=f"{why}\n", headers={"Cache-Control": "no-store"})
    answer.force_close()
    return answer


def checked(request: web.BaseRequest) -> web.Response | None:
    """Return the answer to a head that two readers could read in two ways, None for a good one."""
    wrong = violation(
        request._message.path, (request.version.major, request.version.minor), request.raw_headers
    )
    return malformed(wrong) if wrong is not None else None


class BodyRefused(Exception):
    """A body cannot be had; `answer` says why."""

    def __init__(self, answer: web.Response) -> None:
        super().__init__((answer.text or "").strip())
        self.answer = answer


async def read_body(
    request: web.Request, timeout_s: float, *, decode: bool = False, most: int | None = None
) -> bytes:
    """Return the whole body, unpacked if `decode`; BodyRefused if it is too large, too slow or
    malformed.

    `most`: bytes, where less is taken than the application's limit.
    """
    limit = request.client_max_size if most is None else min(most, request.client_max_size)
    try:
        async with asyncio.timeout(timeout_s):
            body = await request.read()
    except TimeoutError:
        raise BodyRefused(malformed("the request's body is too slow", 408)) from None
    except web.HTTPRequestEntityTooLarge:
        raise BodyRefused(malformed(f"the body has more than {limit} bytes", 413)) from None
    except web.RequestPayloadError:
        raise BodyRefused(malformed("the request's body is no valid HTTP/1.1")) from None
    coding = request.headers.get("Content-Encoding", "identity").lower()
    if not decode or coding == "identity" or not body:
        if len(body) > limit:
            raise BodyRefused(malformed(f"the body has more than {limit} bytes", 413))
        return body
    if coding != "gzip":
        raise BodyRefused(malformed("the only Content-Encoding is gzip", 415))
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(body, limit)
    except zlib.error:
        raise BodyRefused(malformed("the body is no gzip")) from None
    if unpacker.unconsumed_tail:
        raise BodyRefused(malformed(f"the body has more than {limit} bytes unpacked", 413))
    if not unpacker.eof:
        raise BodyRefused(malformed("the body is cut short"))
    return unpacked
