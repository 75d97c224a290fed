"""How a call reaches the gateway: over gRPC, or over HTTP/1.1 where gRPC cannot be used, with retries and typed errors.

Never grpc.aio: a process may have several event loops, and only one may touch it. Calls block in the thread they are made in;
asynchronous callers make them in a small pool. gRPC does not survive a fork, so a child of a process that has used it goes on over
HTTP: slower, and it works.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import status_pb2

from gateway.client import errors
from gateway.client.settings import Settings
from gateway.wire import AUTHORIZATION

M = TypeVar("M", bound=Message)
T = TypeVar("T")

BACKOFF_S = (0.1, 3.0)
THREADS = 8
MAX_ANSWER_BYTES = 64 * 1024 * 1024
CHANNEL_OPTIONS = [
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.enable_retries", 0),  # retries are made here, with one request_id
]
_CODES = {
    "canceled": "CANCELLED",
    "unknown": "UNKNOWN",
    "invalid_argument": "INVALID_ARGUMENT",
    "deadline_exceeded": "DEADLINE_EXCEEDED",
    "not_found": "NOT_FOUND",
    "already_exists": "ALREADY_EXISTS",
    "permission_denied": "PERMISSION_DENIED",
    "resource_exhausted": "RESOURCE_EXHAUSTED",
    "failed_precondition": "FAILED_PRECONDITION",
    "aborted": "ABORTED",
    "out_of_range": "OUT_OF_RANGE",
    "unimplemented": "UNIMPLEMENTED",
    "internal": "INTERNAL",
    "unavailable": "UNAVAILABLE",
    "data_loss": "DATA_LOSS",
    "unauthenticated": "UNAUTHENTICATED",
}

_lock = threading.Lock()
_channels: dict[tuple[str, str | None], grpc.Channel] = {}
_grpc_pid: int | None = None  # the process that gRPC was first used in
_pools: dict[int, ThreadPoolExecutor] = {}


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _channels.clear()  # they belong to the parent; closing them here would hang
    _pools.clear()


os.register_at_fork(after_in_child=_after_fork)


def _channel(settings: Settings) -> grpc.Channel:
    """Return this process's channel to an address, made when first needed."""
    global _grpc_pid
    key = (settings.address, settings.ca_file)
    with _lock:
        _grpc_pid = os.getpid()
        channel = _channels.get(key)
        if channel is None:
            channel = _channels[key] = _new_channel(settings)
        return channel


def _new_channel(settings: Settings) -> grpc.Channel:
    if settings.address.startswith("unix:"):
        return grpc.insecure_channel(settings.address, CHANNEL_OPTIONS)
    host, port = settings.host_port
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if not settings.secure:
        return grpc.insecure_channel(target, CHANNEL_OPTIONS)
    roots = None
    if settings.ca_file:
        with open(settings.ca_file, "rb") as file:
            roots = file.read()
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(roots), CHANNEL_OPTIONS)


def uses_http(settings: Settings) -> bool:
    """Whether calls go over HTTP/1.1: by wish, or because this process was forked from one that has used gRPC."""
    return settings.transport == "http" or (_grpc_pid is not None and _grpc_pid != os.getpid())


class Connection:
    """Calls to one gateway."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def call(self, service: str, method: str, request: Message, answer: type[M], *, timeout_s: float | None = None) -> M:
        """Make a unary call; tried again while the gateway does not answer. GatewayError tells what went wrong."""
        timeout_s = self.settings.timeout_s if timeout_s is None else timeout_s
        once = self._http if uses_http(self.settings) else self._grpc
        deadline = time.monotonic() + self.settings.retry_s
        wait_s = BACKOFF_S[0]
        while True:
            try:
                return once(f"/{service}/{method}", request, answer, timeout_s)
            except errors.Unavailable:
                pause_s = random.uniform(0.5, 1.0) * wait_s
                if time.monotonic() + pause_s > deadline:
                    raise
                time.sleep(pause_s)
                wait_s = min(BACKOFF_S[1], wait_s * 2)

    async def call_async(self, service: str, method: str, request: Message, answer: type[M], *, timeout_s: float | None = None) -> M:
        """Make a unary call from an event loop, whichever."""
        return await in_thread(lambda: self.call(service, method, request, answer, timeout_s=timeout_s))

    def stream(self, service: str, method: str, request: Message, answer: type[M]) -> Stream[M]:
        """Begin a call that streams its answers. Needs gRPC."""
        if uses_http(self.settings):
            raise errors.GatewayError("streams need gRPC; this process calls over HTTP", code="UNIMPLEMENTED")
        multi = _channel(self.settings).unary_stream(
            f"/{service}/{method}", request_serializer=_serialize, response_deserializer=answer.FromString
        )
        return Stream(multi(request, metadata=self._credentials()))

    def _credentials(self) -> tuple[tuple[str, str], ...]:
        header = self.settings.auth.header()
        return ((AUTHORIZATION, header),) if header else ()

    def _grpc(self, path: str, request: Message, answer: type[M], timeout_s: float) -> M:
        call = _channel(self.settings).unary_unary(path, request_serializer=_serialize, response_deserializer=answer.FromString)
        try:
            result: M = call(request, timeout=timeout_s, metadata=self._credentials())
            return result
        except grpc.RpcError as error:
            raise _from_grpc(error) from None

    def _http(self, path: str, request: Message, answer: type[M], timeout_s: float) -> M:
        """Make the call in the shape of Connect's unary protocol (connectrpc.com/docs/protocol)."""
        headers = {"content-type": "application/proto", "connect-timeout-ms": str(int(timeout_s * 1000))}
        headers.update(self._credentials())
        try:
            connection = self._http_connection(timeout_s)
            try:
                connection.request("POST", path, request.SerializeToString(), headers)
                response = connection.getresponse()
                body = response.read(MAX_ANSWER_BYTES)
            finally:
                connection.close()
        except TimeoutError:
            raise errors.DeadlineExceeded(f"no answer within {timeout_s:g} s", code="DEADLINE_EXCEEDED") from None
        except (OSError, http.client.HTTPException) as error:
            raise errors.Unavailable(f"{self.settings.address}: {error}", code="UNAVAILABLE") from None
        if response.status != 200:
            raise _from_connect(response.status, body)
        return answer.FromString(body)

    def _http_connection(self, timeout_s: float) -> http.client.HTTPConnection:
        if self.settings.address.startswith("unix:"):
            raise errors.GatewayError("a unix socket speaks gRPC only", code="UNIMPLEMENTED")
        host, port = self.settings.host_port
        if not self.settings.secure:
            return http.client.HTTPConnection(host, port, timeout=timeout_s)
        context = ssl.create_default_context(cafile=self.settings.ca_file)
        context.set_alpn_protocols(["http/1.1"])
        return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)


class Stream(Iterator[M]):
    """Answers as they come; `close` ends the call."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __next__(self) -> M:
        try:
            answer: M = next(self._call)
            return answer
        except grpc.RpcError as error:
            raise _from_grpc(error) from None

    def close(self) -> None:
        """End the call."""
        self._call.cancel()

    def __enter__(self) -> Stream[M]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _from_grpc(error: Any) -> errors.GatewayError:
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
    return errors.make(error.code().name, error.details() or "", status.details)


def _from_connect(status: int, body: bytes) -> errors.GatewayError:
    try:
        told = json.loads(body)
        details = []
        for detail in told.get("details", ()):
            value = base64.b64decode(detail["value"] + "=" * (-len(detail["value"]) % 4))
            details.append(AnyMessage(type_url=f"type.googleapis.com/{detail['type']}", value=value))
        return errors.make(_CODES.get(told.get("code", ""), "UNKNOWN"), str(told.get("message", "")), details)
    except (ValueError, KeyError, AttributeError, TypeError):
        code = "UNAVAILABLE" if status in (502, 503, 504) else "UNKNOWN"
        return errors.make(code, f"the answer is not the gateway's (HTTP status {status})")


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work off the event loop, in this process's small pool."""
    with _lock:
        pool = _pools.get(os.getpid())
        if pool is None:
            pool = _pools[os.getpid()] = ThreadPoolExecutor(THREADS, thread_name_prefix="daskgateway")
    return await asyncio.get_running_loop().run_in_executor(pool, work)
