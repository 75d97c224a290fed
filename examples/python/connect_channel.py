"""A channel for generated stubs that speaks Connect's JSON over HTTP/1.1, where gRPC does not pass:
unary calls, and calls that stream their answers (connectrpc.com/docs/protocol)."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import struct
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.rpc import code_pb2, status_pb2

_HEAD = struct.Struct(">BI")  # of an envelope: flags, and how many bytes follow
_LAST = 2  # flag of the last envelope, which tells how the call has ended
_GRACE_S = 5.0  # for the gateway's own word that a deadline has passed
Metadata = Sequence[tuple[str, str]]


class ConnectError(grpc.RpcError):
    """A refusal, as gRPC's clients know it."""

    def __init__(self, told: dict[str, Any]) -> None:
        word = str(told.get("code", "unknown"))
        name = {"canceled": "CANCELLED"}.get(word, word.upper())
        self._status = status_pb2.Status(
            code=code_pb2.Code.Value(name), message=str(told.get("message", ""))
        )
        for detail in told.get("details", ()):
            value = base64.b64decode(detail["value"] + "=" * (-len(detail["value"]) % 4))
            self._status.details.add(type_url=f"type.googleapis.com/{detail['type']}", value=value)
        super().__init__(f"{name}: {self._status.message}")

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode[code_pb2.Code.Name(self._status.code)]

    def details(self) -> str:
        return str(self._status.message)

    def trailing_metadata(self) -> Any:
        return (("grpc-status-details-bin", self._status.SerializeToString()),)


class ConnectChannel:
    """What the generated stubs need of a channel."""

    def __init__(self, address: str, ca_file: str | None = None) -> None:
        """`address`: http:// or https://, with the path that the gateway is served below."""
        self._address = urlsplit(address)
        self._context = ssl.create_default_context(cafile=ca_file)

    def unary_unary(self, path: str, *_: Any, **__: Any) -> Unary:
        return Unary(self, path)

    def unary_stream(self, path: str, *_: Any, **__: Any) -> Streaming:
        return Streaming(self, path)

    def close(self) -> None:
        """Each call has a connection of its own, so that nothing is left to close."""

    def post(
        self, path: str, kind: str, body: bytes, timeout: float, metadata: Metadata
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Return the answer's head, and the connection that is to be closed."""
        host, port = self._address.hostname or "", self._address.port
        connection: http.client.HTTPConnection
        if self._address.scheme == "https":
            connection = http.client.HTTPSConnection(
                host, port, timeout=timeout + _GRACE_S, context=self._context
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout + _GRACE_S)
        headers = {
            "Content-Type": kind,
            "Connect-Protocol-Version": "1",
            "Connect-Timeout-Ms": str(int(timeout * 1000)),
            **dict(metadata),
        }
        try:
            connection.request("POST", f"{self._address.path}{path}", body, headers)
            return connection, connection.getresponse()
        except TimeoutError:
            connection.close()
            raise ConnectError({"code": "deadline_exceeded"}) from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ConnectError({"code": "unavailable", "message": str(error)}) from None


class Answered:
    """What a call has told beside its answer."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        prefix = "trailer-"
        self._trailers = tuple(
            (name.lower().removeprefix(prefix), value)
            for name, value in response.getheaders()
            if name.lower().startswith(prefix)
        )

    def trailing_metadata(self) -> Any:
        return self._trailers


class Unary:
    """A method with one answer."""

    def __init__(self, channel: ConnectChannel, path: str) -> None:
        self._channel, self._path, self._answer = channel, path, _answer_of(path)

    def __call__(self, request: Any, timeout: float = 60.0, metadata: Metadata = ()) -> Any:
        return self.with_call(request, timeout, metadata)[0]

    def with_call(self, request: Any, timeout: float = 60.0, metadata: Metadata = ()) -> Any:
        body = json_format.MessageToJson(request).encode()
        connection, response = self._channel.post(
            self._path, "application/json", body, timeout, metadata
        )
        try:
            text = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise ConnectError(_error(response, text))
        answer = json_format.Parse(text, self._answer(), ignore_unknown_fields=True)
        return answer, Answered(response)


class Streaming:
    """A method whose answers come one by one."""

    def __init__(self, channel: ConnectChannel, path: str) -> None:
        self._channel, self._path, self._answer = channel, path, _answer_of(path)

    def __call__(self, request: Any, timeout: float = 60.0, metadata: Metadata = ()) -> Answers:
        message = json_format.MessageToJson(request).encode()
        connection, response = self._channel.post(
            self._path,
            "application/connect+json",
            _HEAD.pack(0, len(message)) + message,
            timeout,
            metadata,
        )
        return Answers(connection, response, self._answer)


class Answers(Iterator[Any]):
    """The answers of one call."""

    def __init__(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, kind: Any
    ) -> None:
        self._connection, self._response, self._kind = connection, response, kind

    def __next__(self) -> Any:
        if self._response.status != 200:
            text = self._response.read()
            self.cancel()
            raise ConnectError(_error(self._response, text))
        flags, size = _HEAD.unpack(self._read(_HEAD.size))
        content = self._read(size)
        if not flags & _LAST:
            return json_format.Parse(content, self._kind(), ignore_unknown_fields=True)
        self.cancel()
        told = json.loads(content or b"{}")
        if "error" in told:
            raise ConnectError(told["error"])
        raise StopIteration

    def _read(self, size: int) -> bytes:
        try:
            found = self._response.read(size)
        except TimeoutError:
            raise ConnectError({"code": "deadline_exceeded"}) from None
        except (OSError, http.client.HTTPException) as error:
            raise ConnectError({"code": "unavailable", "message": str(error)}) from None
        if len(found) < size:
            raise ConnectError({"code": "unavailable", "message": "the stream was cut"})
        return found

    def cancel(self) -> None:
        """End the call, and what is left of it."""
        self._response.close()
        self._connection.close()


def _answer_of(path: str) -> Any:
    service, _, method = path.strip("/").partition("/")
    described = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method]
    return message_factory.GetMessageClass(described.output_type)


def _error(response: http.client.HTTPResponse, text: bytes) -> dict[str, Any]:
    """Return Connect's error; a proxy on the way may have words of its own."""
    try:
        told = json.loads(text)
        if isinstance(told, dict) and "code" in told:
            return told
    except ValueError:
        pass
    return {"code": "unavailable", "message": f"HTTP {response.status} {response.reason}"}
