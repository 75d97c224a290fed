"""Every unary RPC over HTTP/1.1, as JSON or protobuf, in the shape of Connect's unary protocol
(connectrpc.com/docs/protocol).

The edge only transcodes: it is a client of the API like any other, and passes the caller's own
credentials on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from aiohttp import web
from daskgateway.v1 import cluster_service_pb2, credential_service_pb2
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import DecodeError, Message

from gateway.proxy.http import failures, queries
from gateway.proxy.http.front import Front
from gateway.proxy.http.http_server import BodyRefused, read_body
from gateway.proxy.http.queries import WrongParameter
from gateway.proxy.http.transcoding import Busy, Transcoder
from gateway.proxy.upstream.channels import Channels
from gateway.proxy.upstream.turns import Share
from gateway.turns import Crowded
from gateway.wire import (
    AUTHORIZATION,
    CREATE_SESSION,
    MAX_REQUEST_BYTES,
    SIGN_IN_OPTIONS,
    decimal,
)

# Where the caller says nothing: longer than the server lets anybody wait (60 s, WaitCluster), or
# every such call would end in 504.
DEFAULT_TIMEOUT_S = 75.0
MAX_TIMEOUT_S = 300.0
TIMEOUT = "connect-timeout-ms"
MAX_AUTHORIZATION = 16 * 1024
MAX_JSON_BYTES = 64 * 1024  # protobuf reads JSON in Python, at 1.6 s for 1 MiB
BINARY = ("application/proto", "application/x-protobuf")
JSON = (
    "application/json",
    "application/x-www-form-urlencoded",
    "application/octet-stream",
    "text/plain",
)


@dataclass(frozen=True, slots=True)
class Method:
    """A unary RPC."""

    path: str
    request: type[Message]
    response: type[Message]
    reads: bool  # and changes nothing: it may be asked by GET


def unary_methods() -> dict[str, Method]:
    """Return every unary RPC of the public services by its path."""
    found = {}
    for file in (cluster_service_pb2, credential_service_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                if not method.server_streaming and not method.client_streaming:
                    path = f"/{service.full_name}/{method.name}"
                    request = message_factory.GetMessageClass(method.input_type)
                    answer = message_factory.GetMessageClass(method.output_type)
                    found[path] = Method(path, request, answer, reads(method))
    return found


def reads(method: MethodDescriptor) -> bool:
    """Whether a method changes nothing."""
    level: int = method.GetOptions().idempotency_level
    return level == MethodOptions.NO_SIDE_EFFECTS


def credentials(request: web.Request) -> list[tuple[str, str]]:
    """Return the caller's credentials as gRPC metadata; none if there are none, or if no header
    could hold them."""
    header = request.headers.get("Authorization", "")
    return (
        [(AUTHORIZATION, header)]
        if header and header.isascii() and len(header) <= MAX_AUTHORIZATION
        else []
    )


def _shown(path: str, request: web.Request) -> list[tuple[str, str]]:
    """Return the credentials that go with a call. An answer to a call that needs none would not
    mean that they are right."""
    return [] if path == SIGN_IN_OPTIONS else credentials(request)


def timeout_s(request: web.Request) -> float:
    """Return how long the caller is patient."""
    told_ms = decimal(request.headers.get(TIMEOUT, ""), 10)
    return DEFAULT_TIMEOUT_S if told_ms is None else min(MAX_TIMEOUT_S, told_ms / 1000)


class Bridge:
    """Answers POST /{service}/{method}, and GET of what changes nothing."""

    def __init__(
        self, channels: Channels, front: Front, body_timeout_s: float, transcoder: Transcoder
    ) -> None:
        self._channels, self._front, self._body_timeout_s, self._transcoder = (
            channels,
            front,
            body_timeout_s,
            transcoder,
        )
        self._methods = unary_methods()

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one call."""
        path = f"/{request.match_info['service']}/{request.match_info['method']}"
        method = self._methods.get(path)
        if method is None:
            return failures.no_method(path)
        if request.method != "POST" and not (method.reads and request.method == "GET"):
            return failures.must_be("GET,POST" if method.reads else "POST")
        if request.headers.get("Connect-Protocol-Version", "1") != "1":
            return failures.invalid("must be 1", "connect-protocol-version")
        # health and reflection, which need none either, are not served here; the refusal of a
        # sign-in tells by what one may
        if path not in (SIGN_IN_OPTIONS, CREATE_SESSION) and not credentials(request):
            return failures.unauthenticated()
        try:
            if request.method == "GET":
                kind, body = queries.asked(request.query, MAX_JSON_BYTES, request.client_max_size)
            else:
                queries.check(request.query, ())
                kind, body = request.content_type, None
        except WrongParameter as wrong:
            return failures.invalid(str(wrong), wrong.name)
        if kind not in BINARY and kind not in JSON:
            words = "must be application/json or application/proto"
            return failures.wrong("INVALID_ARGUMENT", "content-type", words, 415)
        try:
            if body is None:
                most = None if kind in BINARY else MAX_JSON_BYTES
                body = await read_body(request, self._body_timeout_s, decode=True, most=most)
            return await (self._proto if kind in BINARY else self._json)(method, body, request)
        except BodyRefused as refused:
            return failures.of_body(str(refused), refused.answer.status)
        except Busy:
            return failures.busy()

    async def _proto(self, method: Method, body: bytes, request: web.Request) -> web.Response:
        try:
            # more the server refuses by its size, and to read it takes time
            if len(body) <= MAX_REQUEST_BYTES:
                method.request.FromString(body)
        except DecodeError:
            return failures.invalid(f"is no {method.request.DESCRIPTOR.full_name} in protobuf")
        return await self._answer(
            method.path, body, request, (None, None), "application/proto", _as_it_is
        )

    async def _json(self, method: Method, body: bytes, request: web.Request) -> web.Response:
        if body.lstrip()[:1] != b"{":  # protobuf takes [], "" and nothing at all for {}
            return failures.invalid("must be a JSON object, such as {}")
        try:
            message = await self._transcoder.parsed(self._whose(request), method.request, body)
        except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
            return failures.invalid(" ".join(str(error).split())[:500] or "is no JSON")
        made = (method.request.SerializeToString, method.response.FromString)

        async def written(answer: Message) -> bytes:
            return await self._transcoder.written(self._whose(request), answer)

        return await self._answer(method.path, message, request, made, "application/json", written)

    def _whose(self, request: web.Request) -> Share:
        return self._channels.whose(credentials(request), self._front.seen(request).address)

    async def _answer(
        self,
        path: str,
        asked: Any,
        request: web.Request,
        made: Any,
        kind: str,
        written: Callable[[Any], Awaitable[bytes]],
    ) -> web.Response:
        caller = self._front.seen(request).address
        try:
            answer, trailers = await self._channels.unary(
                path, asked, caller, _shown(path, request), timeout_s(request), made=made
            )
        except grpc.aio.AioRpcError as error:
            return failures.of_rpc(error)
        except Crowded:
            return failures.crowded()
        body = await written(answer)
        headers = {"Cache-Control": "no-store", **failures.passed(trailers)}
        return web.Response(body=body, content_type=kind, headers=headers)


async def _as_it_is(answer: bytes) -> bytes:
    return answer
