"""OpenSSL as the judge of the judge of first bytes: which server name it takes out of them, and
whether the two may differ so."""

from __future__ import annotations

import random
import ssl
import sys
from collections.abc import Sequence

from gateway.proxy.door.client_hello import Hello, Junk, NeedMore, judge
from gateway.proxy.door.hello_shapes import Shapes

NOT_ASKED = "(the callback was not called)"  # refused before, or incomplete

_shapes = Shapes()
_heard: list[str | None] = []
_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def _hear(_: object, name: str | None, __: object) -> int:
    _heard.append(name)
    return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR  # nothing more is wanted


_context.sni_callback = _hear


def openssl_name(data: bytes) -> str | None:
    """Return the name that OpenSSL finds in first bytes, None for none, NOT_ASKED if it does not
    get so far."""
    _heard.clear()
    incoming = ssl.MemoryBIO()
    incoming.write(data)
    connection = _context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    # A name that is not ASCII makes CPython report a UnicodeDecodeError that nobody can catch.
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        connection.do_handshake()
    except ssl.SSLError:
        pass
    finally:
        sys.unraisablehook = before
    return _heard[0] if _heard else NOT_ASKED


def disagreement(data: bytes) -> str:
    """Return how the two disagree on where a connection goes, "" if they do not.

    What is taken here is taken by OpenSSL with the same name, or refused by it for what is none of
    the edge's business (ciphers, keys). What is refused here may be taken there: this is the
    stricter one.
    """
    verdict, name, quick = judge(data), openssl_name(data), _shapes.find(data)
    if quick is not None and quick != verdict:
        return f"{verdict!r} when read, {quick!r} by its shape"
    if isinstance(verdict, Hello):
        _shapes.learn(data, verdict)
    if (
        isinstance(verdict, Hello)
        and name != NOT_ASKED
        and (name or "").lower() != verdict.server_name
    ):
        return f"{verdict.server_name!r} here, {name!r} there"
    if isinstance(verdict, NeedMore) and name != NOT_ASKED:
        return f"more is waited for here, {name!r} there"
    if not isinstance(verdict, Hello | Junk | NeedMore) and name != NOT_ASKED:
        return f"{verdict!r} here, {name!r} there"
    return ""


def made_hello(
    extensions: Sequence[tuple[int, bytes]],
    *,
    session_id: bytes = b"s" * 32,
    suites: bytes = b"\x13\x01\x13\x02",
) -> bytes:
    """Return a ClientHello with these extensions, in one record."""
    block = b"".join(kind.to_bytes(2, "big") + _vector(2, content) for kind, content in extensions)
    body = (
        b"\x03\x03"
        + b"r" * 32
        + _vector(1, session_id)
        + _vector(2, suites)
        + b"\x01\x00"
        + _vector(2, block)
    )
    message = b"\x01" + _vector(3, body)
    return b"\x16\x03\x01" + _vector(2, message)


def name_extension(*names: bytes, kind: int = 0) -> tuple[int, bytes]:
    """Return a server_name extension."""
    return 0, _vector(2, b"".join(bytes([kind]) + _vector(2, name) for name in names))


def _vector(width: int, content: bytes) -> bytes:
    return len(content).to_bytes(width, "big") + content


def in_records(hello: bytes, size: int) -> bytes:
    """Return a hello spread over records of a size."""
    body = hello[5:]
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(hello[:3] + _vector(2, piece) for piece in pieces)


def mutated(chance: random.Random, hello: bytes) -> bytes:
    """Return a hello with a few things wrong, mostly with lengths made right again so that more of
    it is looked at."""
    data = bytearray(hello)
    for _ in range(chance.choice((0, 1, 1, 2, 4))):
        at = (
            chance.randrange(len(data))
            if chance.random() < 0.5
            else chance.randrange(min(len(data), 160))
        )
        how = chance.randrange(5)
        if how == 0:
            data[at] = chance.randrange(256)
        elif how == 1:
            data[at] ^= 1 << chance.randrange(8)
        elif how == 2:
            del data[at : at + chance.choice((1, 2, 5))]
        elif how == 3:
            data[at:at] = bytes(chance.randrange(256) for _ in range(chance.choice((1, 2, 5))))
        else:
            other = chance.randrange(len(data))
            data[at : at + 4] = data[other : other + 4]
        if len(data) < 10:
            break
    if chance.random() < 0.7 and len(data) > 9 and data[0] == 22:
        data[3:5] = ((len(data) - 5) & 0xFFFF).to_bytes(2, "big")
        data[6:9] = ((len(data) - 9) & 0xFFFFFF).to_bytes(3, "big")
    made = bytes(data)
    if chance.random() < 0.2 and len(made) > 9:
        made = in_records(made, chance.choice((1, 3, 17, 100, 300)))
    if chance.random() < 0.1:
        made = made[: chance.randrange(1, len(made) + 1)]
    return made
