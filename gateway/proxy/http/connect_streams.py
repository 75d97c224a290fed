"""Calls that stream their answers, in Connect's shape over HTTP/1.1 (connectrpc.com/docs/protocol,
"Streaming RPCs"): messages in envelopes, the last of which tells how the call has ended.

The HTTP status is 200 whatever happens: errors stand in the last envelope, as clients expect.
"""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc
from aiohttp import web
from daskgateway.v1 import cluster_service_pb2
from google.protobuf import json_format, message_factory
from google.protobuf.message import DecodeError

from gateway.proxy.http import bridge
from gateway.proxy.http.bridge import Method
from gateway.proxy.http.front import Front
from gateway.proxy.http.http_server import BodyRefused, read_body
from gateway.proxy.http.transcoding import Busy, Transcoder
from gateway.proxy.upstream.channels import Channels
from gateway.turns import Crowded

BINARY, JSON = "application/connect+proto", "application/connect+json"
KINDS = (BINARY, JSON)
HEAD = struct.Struct(">BI")  # flags, bytes that follow
COMPRESSED, END = 1, 2  # flags
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
                found[path] = Method(path, request, answer)
    return found


def envelope(content: bytes, flags: int = 0) -> bytes:
    """Return a message as it travels."""
    return HEAD.pack(flags, len(content)) + content


def opened(body: bytes) -> bytes:
    """Return the one message of a request; ValueError says what is wrong with its envelope."""
    if len(body) < HEAD.size:
        raise ValueError("must be one message in an envelope of 5 bytes and more")
    flags, size = HEAD.unpack_from(body)
    if flags & COMPRESSED:
        raise ValueError("must not be compressed within its envelope")
    if flags or len(body) != HEAD.size + size:
        raise ValueError(f"must be one envelope of {size} bytes, and nothing behind it")
    return body[HEAD.size :]


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
            return self._ended_at_once(bridge.unauthenticated(), kind)
        try:
            asked = await self._asked(request, method, kind)
        except BodyRefused as refused:
            return bridge.refused_body(refused)
        except (ValueError, DecodeError, json_format.ParseError, RecursionError) as error:
            words = " ".join(str(error).split())[:500] or "cannot be read"
            return self._ended_at_once(bridge.invalid(words), kind)
        except Busy:
            return self._ended_at_once(bridge.crowded(), kind)
        caller, shown = self._front.seen(request).address, bridge.credentials(request)
        made = (method.request.SerializeToString, method.response.FromString)
        try:
            call, begun = await self._channels.stream(method.path, asked, caller, shown, made=made)
        except grpc.aio.AioRpcError as error:
            return self._ended_at_once(bridge.rpc_failure(error), kind)
        except Crowded:
            return self._ended_at_once(bridge.crowded(), kind)
        response = web.StreamResponse(headers=_headers(kind))
        whose = self._channels.whose(shown, caller)
        last, first = b"{}", True
        try:
            await response.prepare(request)
            async with aclosing(_messages(call)) as messages:
                async for message in messages:
                    if first:
                        begun()
                        first = False
                    content = (
                        message.SerializeToString()
                        if kind == BINARY
                        else await self._transcoder.written(whose, message, patient=True)
                    )
                    await response.write(envelope(content))
        except grpc.aio.AioRpcError as error:
            last = _told(bridge.rpc_failure(error))
        finally:
            call.cancel()
        await response.write(envelope(last, END))
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

    def _ended_at_once(self, failed: web.Response, kind: str) -> web.Response:
        return web.Response(body=envelope(_told(failed), END), headers=_headers(kind))


def _told(failed: web.Response) -> bytes:
    """Return what the last envelope tells of a failure; trailers are metadata there."""
    told: dict[str, Any] = {"error": json.loads(failed.text or "{}")}
    metadata = {
        name.lower().removeprefix("trailer-"): [value]
        for name, value in failed.headers.items()
        if name.lower().startswith("trailer-")
    }
    if metadata:
        told["metadata"] = metadata
    return json.dumps(told).encode()


def _headers(kind: str) -> dict[str, str]:
    return {"Content-Type": kind, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def _messages(call: Any) -> AsyncGenerator[Any, None]:
    while (message := await call.read()) is not EOF:
        yield message
