"""What a connection's first bytes say: TLS with which name and protocols, HTTP/2, HTTP/1, or junk. Sans-IO: bytes in, a verdict out.

TLS: RFC 8446 §4.1.2 and §5.1, RFC 6066 §3 (SNI), RFC 7301 (ALPN). A ClientHello may be spread over records and segments.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_HELLO_BYTES = 16 * 1024  # all that is looked at
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HTTP1_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ")

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ALPN, _HOST_NAME = 0, 16, 0
_MAX_RECORD = 2**14 + 256


@dataclass(frozen=True, slots=True)
class NeedMore:
    """Too little yet: at least so many bytes in all are needed to say more."""

    total: int


@dataclass(frozen=True, slots=True)
class Hello:
    """A ClientHello."""

    server_name: str = ""
    protocols: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Http1:
    """A request of HTTP/1 in clear text."""


@dataclass(frozen=True, slots=True)
class Http2:
    """HTTP/2 in clear text, with prior knowledge."""


@dataclass(frozen=True, slots=True)
class Junk:
    """Nothing that is spoken here."""

    why: str


Verdict = NeedMore | Hello | Http1 | Http2 | Junk


class _Malformed(Exception):
    """The hello breaks its own lengths."""


def judge(received: bytes) -> Verdict:
    """Return what the first bytes of a connection, as far as received, say."""
    if not received:
        return NeedMore(1)
    if received[0] == _HANDSHAKE:
        return _judge_tls(received)
    if received.startswith(HTTP2_PREFACE):
        return Http2()
    if HTTP2_PREFACE.startswith(received[: len(HTTP2_PREFACE)]):
        return NeedMore(len(HTTP2_PREFACE))
    for method in HTTP1_METHODS:
        if received.startswith(method):
            return Http1()
        if method.startswith(received):
            return NeedMore(len(method))
    return Junk("neither TLS nor HTTP")


def _judge_tls(received: bytes) -> Verdict:
    message = bytearray()
    position = 0
    while True:
        if len(message) >= 4:
            length = int.from_bytes(message[1:4], "big")
            if message[0] != _CLIENT_HELLO:
                return Junk("the first handshake message is no ClientHello")
            if length > MAX_HELLO_BYTES:
                return Junk(f"the ClientHello has more than {MAX_HELLO_BYTES} bytes")
            if len(message) >= 4 + length:
                return _read(bytes(message[4 : 4 + length]))
        if position + 5 > MAX_HELLO_BYTES:
            return Junk(f"no whole ClientHello within {MAX_HELLO_BYTES} bytes")
        if len(received) < position + 5:
            return NeedMore(position + 5)
        kind, major = received[position], received[position + 1]
        size = int.from_bytes(received[position + 3 : position + 5], "big")
        if kind != _HANDSHAKE or major != 3 or not 0 < size <= _MAX_RECORD:
            return Junk("a record is no TLS handshake")
        end = position + 5 + size
        if len(received) < end:
            return NeedMore(end) if end <= MAX_HELLO_BYTES else Junk(f"no whole ClientHello within {MAX_HELLO_BYTES} bytes")
        message += received[position + 5 : end]
        position = end


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise _Malformed
        taken, self.position = self.data[self.position : end], end
        return taken

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> _Reader:
        return _Reader(self.take(self.number(width)))

    @property
    def left(self) -> int:
        return len(self.data) - self.position


def _read(body: bytes) -> Hello | Junk:
    try:
        reader = _Reader(body)
        reader.take(2 + 32)  # version, random
        reader.vector(1)  # session id
        reader.vector(2)  # cipher suites
        reader.vector(1)  # compression methods
        return _extensions(reader.vector(2)) if reader.left else Hello()
    except _Malformed:
        return Junk("the ClientHello is malformed")


def _extensions(extensions: _Reader) -> Hello | Junk:
    name, protocols = "", []
    while extensions.left:
        kind, content = extensions.number(2), extensions.vector(2)
        if kind == _SERVER_NAME and content.left:
            names = content.vector(2)
            while names.left:
                form, host = names.number(1), names.vector(2).data
                if form == _HOST_NAME:
                    if not host.isascii() or len(host) > 255:
                        return Junk("the server name is no DNS name")
                    name = host.decode("ascii")
        elif kind == _ALPN:
            offered = content.vector(2)
            while offered.left:
                protocols.append(offered.vector(1).data)
    return Hello(name, tuple(protocols))


def unrecognized_name_alert() -> bytes:
    """Return the TLS record that refuses a name (alert 112, RFC 6066 §3)."""
    return bytes([21, 3, 3, 0, 2, 2, 112])
