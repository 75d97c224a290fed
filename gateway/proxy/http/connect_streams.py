"""Calls that stream their answers, in Connect's shape over HTTP/1.1: messages in envelopes.

The HTTP status is 200 whatever happens: errors stand in the last envelope, as clients expect. Those
from before the first message are put there by the application.
"""

from __future__ import annotations

from typing import Any

import grpc
from aiohttp import web
from daskgateway.v1 import cluster_service_pb2
from google.protobuf import json_format, message_factory
from google.protobuf.message import DecodeError

from gateway.proxy.http import bridge, failures
from gateway.proxy.http.bridge import Method
from gateway.proxy.http.envelopes import (
    BINARY,
    END,
    JSON,
    envelope,
    opened,
)
from gateway.proxy.http.front import Front
from gateway.proxy.http.http_server import BodyRefused, read_body
from gateway.proxy.http.transcoding import Busy, Transcoder
from gateway.proxy.upstream.channels import Channels
from gateway.turns import Crowded
from gateway.wire import decimal

EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]


def streaming_methods() -> dict[str, Method]:
    """Return every call of the public services that streams its answers, by its path."""
    found = {}
    for service in cluster_service_pb2.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            if method.server_streaming and not method.client_streaming:
                path = f"/{service.full_name}/{method.name}"
                request = message_factory.GetMessageClass(method.input_type)
                answer = message_factory.GetMessageClass(method.output_type)
                found[path] = Method(path, request, answer, bridge.reads(method))
    return found


class ConnectStreams:
    """Answers POST /{service}/{method} of calls that stream."""

    def __init__(
        self, channels: Channels, front: Front, body_timeout_s: float, transcoder: Transcoder
    ) -> None:
        self._channels, self._front = channels, front
        self._body_timeout_s, self._transcoder = body_timeout_s, transcoder
        self.methods = streaming_methods()

    async def handle(self, request: web.Request, method: Method) -> web.StreamResponse:
        """Answer one call with messages as they come."""
        kind = request.content_type
        if not bridge.credentials(request):  # told without asking: a body costs time to read
            return failures.unauthenticated()
        try:
            asked = await self._asked(request, method, kind)
        except BodyRefused as refused:
            return failures.of_body(str(refused), refused.answer.status)
        except (ValueError, DecodeError, json_format.ParseError, RecursionError) as error:
            words = " ".join(str(error).split())[:500] or "cannot be read"
            return failures.invalid(words)
        except Busy:
            return failures.busy()
        caller, shown = self._front.seen(request).address, bridge.credentials(request)
        made = (method.request.SerializeToString, None)  # answers as they come
        try:
            call, begun = await self._channels.stream(
                method.path, asked, caller, shown, made=made, timeout_s=_timeout_s(request)
            )
        except grpc.aio.AioRpcError as error:
            return failures.of_rpc(error)
        except Crowded:
            return failures.crowded()
        response = web.StreamResponse(headers=failures.stream_headers(kind))
        whose = self._channels.whose(shown, caller)
        last, first = envelope(b"{}", END), True
        try:
            await response.prepare(request)
            while (message := await call.read()) is not EOF:
                if first:
                    begun()
                    first = False
                content = (
                    message
                    if kind == BINARY
                    else await self._transcoder.rewritten(whose, method.response, message)
                )
                await response.write(envelope(content))
        except grpc.aio.AioRpcError as error:
            last = failures.of_rpc(error).in_envelope()
        finally:
            call.cancel()
        await response.write(last)
        await response.write_eof()
        return response

    async def _asked(self, request: web.Request, method: Method, kind: str) -> Any:
        most = bridge.MAX_JSON_BYTES if kind == JSON else None
        message = opened(await read_body(request, self._body_timeout_s, decode=True, most=most))
        if kind == BINARY:
            return method.request.FromString(message)
        if message.lstrip()[:1] != b"{":
            raise ValueError("must be a JSON object, such as {}")
        whose = self._channels.whose(bridge.credentials(request), self._front.seen(request).address)
        return await self._transcoder.parsed(whose, method.request, message)


def _timeout_s(request: web.Request) -> float | None:
    """Return how long the stream may last; None where the caller does not say."""
    told_ms = decimal(request.headers.get(bridge.TIMEOUT, ""), 10)
    return None if told_ms is None else told_ms / 1000
