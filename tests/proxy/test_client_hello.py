"""First bytes: real hellos cut anywhere, and junk."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.door.client_hello import (
    MAX_HELLO_BYTES,
    Hello,
    Http1,
    Http2,
    Junk,
    NeedMore,
    judge,
)


def real_hello(name: str, protocols: tuple[str, ...] = ()) -> bytes:
    """Return what Python's own TLS says first."""
    context = ssl.create_default_context()
    if protocols:
        context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def in_records(hello: bytes, size: int) -> bytes:
    """Return a hello spread over records of a size."""
    body = hello[5:]
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(hello[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


HELLO = real_hello("cabc.daskgateway", ("h2", "http/1.1"))


def test_a_real_hello_tells_name_and_protocols() -> None:
    assert judge(HELLO) == Hello("cabc.daskgateway", (b"h2", b"http/1.1"))
    assert judge(HELLO + b"more") == judge(HELLO)


@pytest.mark.parametrize("cut", range(1, len(HELLO)))
def test_a_hello_cut_anywhere_asks_for_more(cut: int) -> None:
    verdict = judge(HELLO[:cut])
    assert isinstance(verdict, NeedMore)
    assert cut < verdict.total <= len(HELLO)


@given(st.integers(1, 300))
def test_a_hello_in_many_records_is_put_together(size: int) -> None:
    assert judge(in_records(HELLO, size)) == judge(HELLO)


@given(st.binary(max_size=600))
def test_no_bytes_break_it(data: bytes) -> None:
    assert isinstance(judge(data), NeedMore | Hello | Http1 | Http2 | Junk)


@given(st.integers(5, len(HELLO) - 1), st.binary(min_size=1, max_size=4))
def test_a_damaged_hello_breaks_nothing(position: int, bytes_: bytes) -> None:
    assert isinstance(
        judge(HELLO[:position] + bytes_ + HELLO[position + len(bytes_) :]), NeedMore | Hello | Junk
    )


def test_an_endless_hello_is_junk() -> None:
    record = b"\x16\x03\x01\x00\x01"
    data = b"\x16\x03\x01\x00\x04\x01\xff\xff\xff" + (record + b"x") * MAX_HELLO_BYTES
    assert isinstance(judge(data), Junk)


@pytest.mark.parametrize(
    "text", [b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\n"]
)
def test_http_1_is_told(text: bytes) -> None:
    assert judge(text) == Http1()


def test_http_2_is_told_apart_from_patch_and_put() -> None:
    assert judge(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == Http2()
    assert isinstance(judge(b"P"), NeedMore)
    assert judge(b"PUT / HTTP/1.1") == Http1()
    assert isinstance(judge(b"SSH-2.0-x"), Junk)
