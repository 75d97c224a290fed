"""What a connection's first bytes say: TLS with which name and protocols, HTTP/2, HTTP/1, or junk.
Sans-IO: bytes in, a verdict out.

TLS: RFC 8446 §4.1.2, §4.2 and §5.1, RFC 6066 §3 (SNI), RFC 7301 (ALPN). A ClientHello may be spread
over records and segments. What is read is read strictly: lengths that fit exactly, no extension
twice, one name or none, and that a DNS name. What OpenSSL would take for a name and this for
another does not exist; fuzzing compares them.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import NamedTuple

MAX_HELLO_BYTES = 16 * 1024  # all that is looked at
MAX_NAME_BYTES = 253  # RFC 1035 §2.3.4, without the final dot
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HTTP1_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ")

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ALPN = 0, 16
_MAX_FRAGMENT = 2**14
_RANDOM_END = 34  # version and random come before the session id
_MAX_SESSION_ID = 32
_LABEL = rb"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# Letters, digits, hyphens (RFC 952, RFC 1123); the last label is not all digits: an address is no
# name (RFC 6066 §3).
DNS_NAME = re.compile(rb"(?:" + _LABEL + rb"\.)*(?![0-9]+$)" + _LABEL)
_NO_PROTOCOLS: tuple[bytes, ...] = ()
_two_numbers = struct.Struct(">HH").unpack_from


@dataclass(frozen=True, slots=True)
class NeedMore:
    """Too little yet: at least so many bytes in all are needed to say more."""

    total: int


class Hello(NamedTuple):
    """A ClientHello; the name is in lower case, empty if there is none."""

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
    """The hello breaks its own lengths, or the rules."""


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
    message = b""
    position = 0
    while True:
        end = _record_end(received, position)
        if not isinstance(end, int):
            return end
        message += received[position + 5 : end]
        position = end
        if message[0] != _CLIENT_HELLO:
            return Junk("the first handshake message is no ClientHello")
        if len(message) < 4:
            continue
        whole = 4 + int.from_bytes(message[1:4], "big")
        if whole > MAX_HELLO_BYTES:
            return Junk(f"the ClientHello has more than {MAX_HELLO_BYTES} bytes")
        if len(message) > whole:
            return Junk("another message follows the ClientHello in its record")
        if len(message) == whole:
            try:
                return _read(message, 4)
            except (_Malformed, IndexError, struct.error):
                return Junk("the ClientHello is malformed")


def _record_end(received: bytes, start: int) -> int | NeedMore | Junk:
    """Return where the handshake record that starts here ends."""
    if start + 5 > MAX_HELLO_BYTES:
        return Junk(f"no whole ClientHello within {MAX_HELLO_BYTES} bytes")
    if len(received) < start + 5:
        return NeedMore(start + 5)
    size = received[start + 3] << 8 | received[start + 4]
    if received[start] != _HANDSHAKE or received[start + 1] != 3 or not 0 < size <= _MAX_FRAGMENT:
        return Junk("a record is no TLS handshake")
    end = start + 5 + size
    if end > MAX_HELLO_BYTES:
        return Junk(f"no whole ClientHello within {MAX_HELLO_BYTES} bytes")
    return end if len(received) >= end else NeedMore(end)


def _read(message: bytes, start: int) -> Hello:
    """Return what a whole ClientHello says whose body begins at `start`; _Malformed, IndexError or
    struct.error if it breaks the rules."""
    if message[start] != 3:
        raise _Malformed
    at = start + _RANDOM_END
    session_id = message[at]
    at += 1 + session_id
    suites = message[at] << 8 | message[at + 1]
    at += 2 + suites
    compressions = message[at]
    at += 1 + compressions
    if (
        session_id > _MAX_SESSION_ID
        or suites < 2
        or suites % 2
        or 0 not in message[at - compressions : at]
    ):
        raise _Malformed
    if at == len(message):
        return Hello()
    if at + 2 + (message[at] << 8 | message[at + 1]) != len(message):
        raise _Malformed
    return _extensions(message, at + 2)


def _extensions(message: bytes, at: int) -> Hello:
    name, protocols = "", _NO_PROTOCOLS
    kinds = []
    end = len(message)
    while at < end:
        kind, size = _two_numbers(message, at)
        at += 4 + size
        kinds.append(kind)
        if kind == _SERVER_NAME:
            name = _server_name(message[at - size : at])
        elif kind == _ALPN:
            protocols = _protocols(message[at - size : at])
    if at != end or len(set(kinds)) != len(kinds):
        raise _Malformed
    return Hello(name, protocols)


def _server_name(content: bytes) -> str:
    """Return the one host_name of a server_name extension: list length, kind 0, name length, name,
    and nothing more."""
    if len(content) < 6 or content[2] != 0:
        raise _Malformed
    whole, size = content[0] << 8 | content[1], content[3] << 8 | content[4]
    host = content[5:].lower()
    if (
        whole != len(content) - 2
        or size != len(host)
        or size > MAX_NAME_BYTES
        or not DNS_NAME.fullmatch(host)
    ):
        raise _Malformed
    return host.decode("ascii")


def _protocols(content: bytes) -> tuple[bytes, ...]:
    if len(content) < 4 or content[0] << 8 | content[1] != len(content) - 2:
        raise _Malformed
    found = []
    at = 2
    while at < len(content):
        size = content[at]
        at += 1 + size
        if size == 0 or at > len(content):
            raise _Malformed
        found.append(content[at - size : at])
    return tuple(found)


def unrecognized_name_alert() -> bytes:
    """Return the TLS record that refuses a name (alert 112, RFC 6066 §3)."""
    return bytes([21, 3, 3, 0, 2, 2, 112])
