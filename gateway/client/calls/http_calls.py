"""Calls over HTTP/1.1, for what gRPC does not pass: unary in the shape of Connect
(connectrpc.com/docs/protocol), streams as server-sent events (HTML Living Standard, §9.2). Uses
nothing but the standard library; blocks. Knows no retries.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar
from urllib.parse import quote, urlencode

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message

from gateway.client.calls import errors, forward_proxy
from gateway.client.calls.api import Streaming, Unary
from gateway.client.calls.forward_proxy import ProxyRefused
from gateway.client.calls.settings import Settings
from gateway.printable import printable
from gateway.wire import CONNECT_CODES

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 16 * 1024 * 1024  # of one event
SILENCE_S = 60.0  # the edge says something every 15 s; a stream silent for so long is dead
CODES = {name: code for code, (name, _) in CONNECT_CODES.items()}  # of gRPC, by Connect's names


def unary(
    settings: Settings, rpc: Unary[Q, A], request: Q, headers: Mapping[str, str], timeout_s: float
) -> A:
    """Make one call; GatewayError tells what went wrong."""
    sent = {
        "content-type": "application/proto",
        "connect-protocol-version": "1",
        "connect-timeout-ms": str(int(timeout_s * 1000)),
        **headers,
    }
    try:
        connection = _connect(settings, timeout_s)
        try:
            connection.request(
                "POST", settings.prefix + rpc.path, request.SerializeToString(), sent
            )
            response = connection.getresponse()
            body = response.read(MAX_ANSWER_BYTES)
        finally:
            connection.close()
    except TimeoutError:
        raise errors.DeadlineExceeded(
            f"no answer within {timeout_s:g} s", code="DEADLINE_EXCEEDED"
        ) from None
    except ProxyRefused as error:
        raise errors.Unreachable(f"{settings.address}: {error}", code="UNAVAILABLE") from None
    except (OSError, http.client.HTTPException) as error:
        raise errors.Unavailable(
            f"{settings.address}: {str(error) or type(error).__name__}", code="UNAVAILABLE"
        ) from None
    if response.status != 200 or response.headers.get_content_type() != "application/proto":
        raise _failure_at(settings, response, body)
    try:
        return rpc.answer.FromString(body)
    except DecodeError:
        raise _no_gateway(settings, response) from None


class EventStream(Iterator[A], Generic[A]):
    """Answers of a streaming call as they come; `close` ends it, from any thread."""

    def __init__(
        self, settings: Settings, rpc: Streaming[Q, A], request: Q, headers: Mapping[str, str]
    ) -> None:
        self._address, self._answer = settings.address, rpc.answer
        try:
            self._connection = _connect(settings, settings.timeout_s)
            place = f"{settings.prefix}{rpc.events_path}?{query(request, rpc.parameters)}"
            self._connection.request(
                "GET", place, headers={**headers, "accept": "text/event-stream"}
            )
            self._socket = self._connection.sock
            self._socket.settimeout(SILENCE_S)
            self._response = self._connection.getresponse()
            if self._response.status != 200:
                body = self._response.read(MAX_ANSWER_BYTES)
                raise _failure_at(settings, self._response, body)
            if self._response.headers.get_content_type() != "text/event-stream":
                raise _no_gateway(settings, self._response)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._broken(error) from None
        except errors.GatewayError:
            self._connection.close()
            raise
        self._events = parsed(iter(lambda: self._response.readline(MAX_LINE_BYTES), b""))

    def __next__(self) -> A:
        try:
            kind, text = next(self._events)
        # also of a response closed meanwhile
        except (OSError, ValueError, AttributeError, http.client.HTTPException) as error:
            raise self._broken(error) from None
        if kind == "error":
            raise failure(500, text.encode())
        return json_format.Parse(text, self._answer(), ignore_unknown_fields=True)

    def _broken(self, error: Exception) -> errors.GatewayError:
        kind = errors.Unreachable if isinstance(error, ProxyRefused) else errors.Unavailable
        return kind(f"{self._address}: {str(error) or type(error).__name__}", code="UNAVAILABLE")

    def close(self) -> None:
        """End the call."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for the next answer
        except OSError:
            pass
        self._connection.close()
        self._response.close()

    def __enter__(self) -> EventStream[A]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def query(request: Message, fields: Iterable[str]) -> str:
    """Return a request's fields as the parameters of an address."""
    pairs: list[tuple[str, str]] = []
    for name in fields:
        value = getattr(request, name)
        if isinstance(value, bool):
            pairs += [(name, "true")] if value else []
        elif isinstance(value, str | int):
            pairs += [(name, str(value))] if value else []
        else:
            pairs += [(name, str(one)) for one in value]
    return urlencode(pairs, quote_via=quote)


def parsed(lines: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Yield name and data of every event; comments and other fields are passed over, and so is an
    event that was cut off."""
    kind = "message"
    found: list[str] = []
    for line in lines:
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text:
            if found:
                yield kind, "\n".join(found)
            kind, found = "message", []
            continue
        field, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            found.append(value)


def failure(status: int, body: bytes) -> errors.GatewayError:
    """Return the error that an answer in Connect's shape tells."""
    try:
        told = json.loads(body)
        details = []
        for detail in told.get("details", ()):
            value = base64.b64decode(detail["value"] + "=" * (-len(detail["value"]) % 4))
            details.append(
                AnyMessage(type_url=f"type.googleapis.com/{detail['type']}", value=value)
            )
        return errors.make(
            CODES.get(told.get("code", ""), "UNKNOWN"), str(told.get("message", "")), details
        )
    except (ValueError, KeyError, AttributeError, TypeError):
        code = "UNAVAILABLE" if status in (502, 503, 504) else "UNKNOWN"
        return errors.make(code, f"the answer is not the gateway's (HTTP status {status})")


def _failure_at(
    settings: Settings, response: http.client.HTTPResponse, body: bytes
) -> errors.GatewayError:
    """Return the error that an answer tells; with the address, if that is what is wrong."""
    error = failure(response.status, body)
    if error.reason == "PATH_UNKNOWN":
        return errors.NoGateway(
            f"the gateway serves nothing below {settings.prefix or '/'}: is the path of"
            f" {settings.address} right? It is from {settings.source}",
            code="UNAVAILABLE",
        )
    if error.reason or error.code not in ("UNKNOWN", "UNAVAILABLE"):
        return error
    if response.status < 500:
        return _no_gateway(settings, response)
    return errors.make(error.code, f"{settings.address}: {error}")


def _no_gateway(settings: Settings, response: http.client.HTTPResponse) -> errors.NoGateway:
    """Return that something else answers at an address: no waiting helps."""
    place = response.headers.get("location") if 300 <= response.status < 400 else None
    # what comes after the path may be somebody's secret
    leads = f", it leads to {printable(place.split('?')[0][:200], keep='')}" if place else ""
    return errors.NoGateway(
        f"what answers at {settings.address} is no gateway (HTTP status {response.status}{leads});"
        f" is the address right? It is from {settings.source}",
        code="UNAVAILABLE",
    )


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Return how a gateway's certificate is verified, for HTTP/1.1."""
    context = ssl.create_default_context(cafile=settings.ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _connect(settings: Settings, timeout_s: float) -> http.client.HTTPConnection:
    if settings.address.startswith("unix:"):
        raise errors.GatewayError("a unix socket speaks gRPC only", code="UNIMPLEMENTED")
    host, port = settings.host_port
    context = tls_context(settings) if settings.secure else None
    return forward_proxy.connection(settings.address, host, port, timeout_s, context)
