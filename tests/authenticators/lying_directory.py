"""Who answers in the place of a directory (LDAP, RFC 4511), and never as it should. Just enough BER
(X.690) for that."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping

from tests.parts.jupyterhub import Liar

BIND, UNBIND, SEARCH = 0x60, 0x42, 0x63  # requests
BOUND, ENTRY, DONE, REFERENCE, EXTENDED = 0x61, 0x64, 0x65, 0x73, 0x78  # answers
MANY = 200_000  # entries
MIB = 1024 * 1024


def der(tag: int, *parts: bytes) -> bytes:
    """Return something of a kind, with its length."""
    body = b"".join(parts)
    size = len(body)
    if size < 128:
        return bytes([tag, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + body


def text(value: bytes) -> bytes:
    """Return a text."""
    return der(0x04, value)


def message(number: bytes, *parts: bytes) -> bytes:
    """Return a message."""
    return der(0x30, der(0x02, number), *parts)


def result(tag: int, code: int = 0, *more: bytes) -> bytes:
    """Return how something ended."""
    return der(tag, der(0x0A, bytes([code])), text(b""), text(b""), *more)


def entry(name: bytes, **values: bytes | list[bytes]) -> bytes:
    """Return an entry with its attributes."""
    told = [
        der(
            0x30,
            text(attribute.encode()),
            der(0x31, *(text(one) for one in ([value] if isinstance(value, bytes) else value))),
        )
        for attribute, value in values.items()
    ]
    return der(ENTRY, text(name), der(0x30, *told))


async def asked(reader: asyncio.StreamReader) -> tuple[bytes, int, bytes]:
    """Return a request: number, kind and what stands in it."""
    first = await reader.readexactly(2)
    size = first[1]
    if size & 0x80:
        size = int.from_bytes(await reader.readexactly(size & 0x7F))
    body = await reader.readexactly(size)
    digits = body[1]
    return body[2 : 2 + digits], body[2 + digits], body[3 + digits :]


Answer = Callable[[bytes, bytes], Iterable[bytes]]  # to a request, by number and content


def liar(search: Answer, bind: Answer | None = None, pause_s: float = 0.0) -> Liar:
    """Return somebody who takes every password, unless told otherwise, and answers searches."""

    async def lies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                number, kind, content = await asked(reader)
                if kind == UNBIND:
                    return
                answer = search if kind == SEARCH else bind or bound
                for piece in answer(number, content):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(pause_s)
        except asyncio.IncompleteReadError:
            pass

    return lies


def bound(number: bytes, content: bytes) -> Iterator[bytes]:
    """Take any password."""
    yield message(number, result(BOUND))


def always(*pieces: bytes) -> Answer:
    """Answer the same."""
    return lambda number, content: pieces


def found(*entries: bytes) -> Answer:
    """Answer entries, whatever is looked for; groups are looked for by `member`."""

    def answer(number: bytes, content: bytes) -> Iterator[bytes]:
        for one in entries:
            yield message(number, one)
        yield message(number, result(DONE))

    return answer


def with_groups(groups: Callable[[bytes], Iterable[bytes]]) -> Answer:
    """Answer bob's entry, and groups: the messages for a number."""

    def answer(number: bytes, content: bytes) -> Iterator[bytes]:
        if b"member" in content:
            yield from groups(number)
        else:
            yield message(number, BOB)
        yield message(number, result(DONE))

    return answer


def a_group(name: bytes) -> bytes:
    """Return a group's entry."""
    return entry(b"cn=g,ou=groups,dc=example,dc=org", cn=name)


def _many(number: bytes) -> Iterator[bytes]:
    for start in range(0, MANY, 500):
        yield b"".join(
            message(number, a_group(f"group-{one}".encode())) for one in range(start, start + 500)
        )


def _endless(number: bytes) -> Iterator[bytes]:
    piece = message(number, a_group(b"physics")) * 100
    yield from itertools.repeat(piece)


def bob(**values: bytes | list[bytes]) -> bytes:
    """Return bob's entry."""
    told = {"uid": b"bob", "description": b"serial 1", **values}
    return entry(b"uid=bob,ou=people,dc=example,dc=org", **told)


BOB = bob()
HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<title>Sign in</title>"

# what is no answer whoever is asked, by what it is
LIES: Mapping[str, Liar] = {
    "a page of HTML": liar(always(), always(HTML)),
    "nothing, and the end": liar(always(), always(b"")),
    "bytes": liar(always(), always(bytes(range(256)) * 64)),
    "a message of 2 GiB": liar(always(), always(b"\x30\x84\x7f\xff\xff\xff" + bytes(1000))),
    "a length of 127 octets": liar(always(), always(b"\x30\xff" + b"\xff" * 200)),
    "lengths that go beyond the message": liar(
        always(), lambda n, _: [der(0x30, der(0x02, n), b"\x61\x7f\x0a\x01\x00")]
    ),
    "another kind of answer to a password": liar(always(), lambda n, _: [message(n, result(DONE))]),
    "an extended answer to a password": liar(always(), lambda n, _: [message(n, result(EXTENDED))]),
    "a code there is not": liar(always(), lambda n, _: [message(n, result(BOUND, 0x7F))]),
    "that it is busy": liar(always(), lambda n, _: [message(n, result(BOUND, 51))]),
    "garbage for a search": liar(always(bytes(range(256)) * 64)),
    "the end at a search": liar(lambda n, _: [b"\x30\x00"]),
    "a fault at a search": liar(lambda n, _: [message(n, result(DONE, 80))]),
    "a password's answer to a search": liar(lambda n, _: [message(n, result(BOUND))]),
    "no uid": liar(found(entry(b"uid=bob,ou=people,dc=example,dc=org", cn=b"bob"))),
    "an empty uid": liar(found(bob(uid=b""))),
    "a uid that is no UTF-8": liar(found(bob(uid=b"\xff\xfe"))),
    "an entry without end": liar(
        lambda n, _: itertools.chain([b"\x30\x84\x00\xff\xff\xff"], itertools.repeat(bytes(MIB)))
    ),
    "an entry that comes by and by": liar(
        lambda n, _: itertools.chain([b"\x30\x84\x00\xff\xff\xff"], itertools.repeat(b"\0")),
        pause_s=0.05,
    ),
    "groups of two hundred thousand": liar(with_groups(_many)),
    "groups without end": liar(with_groups(_endless)),
    "a group of a million letters": liar(
        with_groups(lambda n: [message(n, a_group(b"p" * 1_000_000))])
    ),
    "NUL in a group": liar(with_groups(lambda n: [message(n, a_group(b"phys\0ics"))])),
    "a group that is no UTF-8": liar(with_groups(lambda n: [message(n, a_group(b"\xff\xfe"))])),
}
# of anybody it tells bob's entry
IMPOSTOR = liar(found(BOB))


def elsewhere(url: str) -> tuple[Liar, Liar]:
    """Return somebody who says at the password, and one who says at a search, that all this is at
    another address."""
    told = der(0xA3, text(url.encode()))

    def search(number: bytes, content: bytes) -> Iterator[bytes]:
        yield message(number, der(REFERENCE, text(url.encode())))
        yield message(number, result(DONE, 10, told))

    return liar(always(), lambda n, _: [message(n, result(BOUND, 10, told))]), liar(search)
