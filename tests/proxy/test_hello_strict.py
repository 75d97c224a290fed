"""One strict answer to every kind of hello, and never another name than OpenSSL's."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.proxy.door.client_hello import MAX_HELLO_BYTES, Hello, Junk, NeedMore, judge
from gateway.proxy.door.hello_shapes import Shapes
from tests.proxy.hello_fuzz import SEEDS
from tests.proxy.hello_oracle import (
    NOT_ASKED,
    disagreement,
    in_records,
    made_hello,
    mutated,
    name_extension,
    openssl_name,
)
from tests.proxy.test_client_hello import real_hello

KEY_SHARE = (51, bytes(1250))  # as large as X25519MLKEM768 makes it
GREASE = [(0x0A0A, b""), (0xFAFA, b"\0")]


@pytest.mark.parametrize(
    ("extensions", "name"),
    [
        ([name_extension(b"a.example")], "a.example"),
        ([name_extension(b"UPPER.Example")], "upper.example"),
        ([*GREASE, name_extension(b"greased.example")], "greased.example"),
        ([KEY_SHARE, name_extension(b"quantum.example")], "quantum.example"),
        ([name_extension(b"xn--bcher-kva.example")], "xn--bcher-kva.example"),
        (
            [name_extension(b".".join([b"a" * 63] * 3) + b"." + b"b" * 61)],
            ".".join(["a" * 63] * 3) + "." + "b" * 61,
        ),
        ([(43, b"\x02\x03\x04")], ""),
        ([], ""),
    ],
)
def test_what_is_right_is_taken(extensions: list[tuple[int, bytes]], name: str) -> None:
    hello = made_hello(extensions)
    assert judge(hello) == Hello(name)
    for size in (1, 2, 100, 1000):
        records = in_records(hello, size)
        if len(records) <= MAX_HELLO_BYTES:
            assert judge(records) == Hello(name)


@pytest.mark.parametrize(
    "extensions",
    [
        [name_extension(b"")],
        [name_extension(b"dot.example.")],
        [name_extension(b"127.0.0.1")],
        [name_extension(b"::1")],
        [name_extension(b"under_score.example")],
        [name_extension(b"sp ace.example")],
        [name_extension(b"nul\0.example")],
        [name_extension("bücher.example".encode())],
        [name_extension(b"-a.example")],
        [name_extension(b"a-.example")],
        [name_extension(b"a..example")],
        [name_extension(b"a" * 64 + b".example")],
        [name_extension(b".".join([b"a" * 63] * 4))],
        [name_extension(b"one.example", b"two.example")],
        [name_extension(b"a.example", kind=1)],
        [name_extension(b"a.example"), name_extension(b"a.example")],
        [(0x0A0A, b""), (0x0A0A, b"")],
        [(0, b"")],
        [(0, b"\0\5\0\0\3abc")],
        [(16, b"\0\0")],
        [(16, b"\0\1\0")],
        [(16, b"\0\4\2h2")],
    ],
)
def test_what_is_wrong_is_junk(extensions: list[tuple[int, bytes]]) -> None:
    assert isinstance(judge(made_hello(extensions)), Junk)


@pytest.mark.parametrize(
    "data",
    [
        made_hello([], session_id=b"s" * 33),
        made_hello([], suites=b""),
        made_hello([], suites=b"\x13"),
        made_hello([(51, bytes(MAX_HELLO_BYTES))]),
        b"\x80\x2e\x01\x00\x02" + bytes(60),  # SSLv2
        b"\x16\x03\x01\x00\x00",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x16\x02\x01\x00\x05" + bytes(5),
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
    ],
)
def test_what_breaks_the_record_is_junk_or_never_whole(data: bytes) -> None:
    verdict = judge(data)
    assert isinstance(verdict, Junk | NeedMore)
    assert isinstance(judge(data + bytes(MAX_HELLO_BYTES)), Junk)


def test_openssl_finds_the_same_names_in_real_hellos() -> None:
    for name in ("cabc.daskgateway", "a.example"):
        for size in (1, 50, 5000):
            assert openssl_name(in_records(real_hello(name), size)) == name
    assert openssl_name(real_hello("cabc.daskgateway")[:-1]) == NOT_ASKED
    assert openssl_name(made_hello([(0, b"\0\x0c\0\0\x09\xff\xfe.example")])) == NOT_ASKED


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(SEEDS))
def test_no_damaged_hello_has_another_name_here_than_in_openssl(seed: int, hello: bytes) -> None:
    chance = random.Random(seed)
    for _ in range(20):
        data = mutated(chance, hello)
        assert disagreement(data) == "", data.hex()


def test_a_hello_of_a_known_shape_is_told_as_if_it_were_read() -> None:
    shapes = Shapes()
    first, second = real_hello("aaaa.example", ("h2",)), real_hello("Bbbb.example", ("h2",))
    assert shapes.find(first) is None
    shapes.learn(first, judge(first))  # type: ignore[arg-type]
    assert shapes.find(second) == judge(second) == Hello("bbbb.example", (b"h2",))
    assert shapes.find(second + b"what follows") == Hello("bbbb.example", (b"h2",))
    assert shapes.find(second[:-1]) is None
    assert shapes.find(second.replace(b"Bbbb", b"b_bb")) is None
    assert shapes.find(second.replace(b"\x02h2", b"\x02h3")) is None


def test_any_damage_to_a_hello_of_a_known_shape_is_seen_or_does_not_matter() -> None:
    shapes, hello = Shapes(), real_hello("aaaa.example", ("h2",))
    shapes.learn(hello, judge(hello))  # type: ignore[arg-type]
    for at in range(len(hello)):
        for bit in range(8):
            data = hello[:at] + bytes([hello[at] ^ 1 << bit]) + hello[at + 1 :]
            assert shapes.find(data) in (None, judge(data))
