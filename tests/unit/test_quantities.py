"""Amounts of memory and of time: what is read, what is refused and in which words, and how they are
written."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.server.core.options import Integer, check_value
from gateway.server.core.quantities import (
    MAX_MEMORY_BYTES,
    format_bytes,
    format_duration,
    parse_bytes,
    parse_named,
)

WRITTEN = "must be an amount of memory such as 4 GiB, 512 MB or 2000000000"
POSITIVE = "must be a positive amount of memory"
TOO_MUCH = "must be at most 1 EiB"


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("7", 7),
        ("7B", 7),
        ("7 b", 7),
        ("3K", 3_000),
        ("3 kB", 3_000),
        ("3M", 3_000_000),
        ("3MB", 3_000_000),
        ("3G", 3_000_000_000),
        ("3GB", 3_000_000_000),
        ("3T", 3_000_000_000_000),
        ("3TB", 3_000_000_000_000),
        ("3P", 3_000_000_000_000_000),
        ("3PB", 3_000_000_000_000_000),
        ("3Ki", 3_072),
        ("3KiB", 3_072),
        ("3Mi", 3_145_728),
        ("3MiB", 3_145_728),
        ("3Gi", 3_221_225_472),
        ("3GiB", 3_221_225_472),
        ("3Ti", 3_298_534_883_328),
        ("3TiB", 3_298_534_883_328),
        ("3Pi", 3_377_699_720_527_872),
        ("3PiB", 3_377_699_720_527_872),
        ("  1.5   gib ", 1_610_612_736),
        ("0.9", 1),
        (0, 0),
        (0.0, 0),
        (1, 1),
        (12.9, 12),
        ("1024 PiB", 2**60),
        (2**60, 2**60),
        ("0" * 39 + "8", 8),  # 40 characters
    ],
)
def test_what_is_read(text: str | float, size_bytes: int) -> None:
    found = parse_bytes(text)
    assert found == size_bytes
    assert type(found) is int


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", WRITTEN),
        ("GiB", WRITTEN),
        ("1 EiB", WRITTEN),
        ("1 BB", WRITTEN),
        ("1 iB", WRITTEN),
        ("1 KBB", WRITTEN),
        ("-1", WRITTEN),
        (".5 GiB", WRITTEN),
        ("1. GiB", WRITTEN),
        ("1 GiB 2", WRITTEN),
        ("0" * 40 + "8", WRITTEN),  # 41 characters
        (None, WRITTEN),
        (True, WRITTEN),
        (False, WRITTEN),
        ([1], WRITTEN),
        (-1, POSITIVE),
        (-0.001, POSITIVE),
        (math.inf, POSITIVE),
        (-math.inf, POSITIVE),
        (math.nan, POSITIVE),
        (2**60 + 1, TOO_MUCH),
        (10**400, TOO_MUCH),
        (1e300, TOO_MUCH),
        ("1024.1 PiB", TOO_MUCH),
        ("1152921504606847232", TOO_MUCH),  # the next that a float can tell
    ],
)
def test_what_is_refused(text: object, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}$"):
        parse_bytes(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (2**20 - 1, "1024 KiB"),
        (2**20, "1 MiB"),
        (3 * 2**20, "3 MiB"),
        (2**30 - 2**20, "1023 MiB"),
        (2**30, "1 GiB"),
        (5 * 2**29, "2.5 GiB"),
        (2**40 - 2**30, "1023 GiB"),
        (2**40, "1 TiB"),
        (2**60, "1.049e+06 TiB"),
        (123_456_789, "117.7 MiB"),
    ],
)
def test_how_memory_is_written(size_bytes: int, text: str) -> None:
    assert format_bytes(size_bytes) == text


@given(st.integers(0, 2**50 - 1))
def test_what_is_written_is_read_as_almost_the_same(size_bytes: int) -> None:
    assert parse_bytes(format_bytes(size_bytes)) == pytest.approx(size_bytes, rel=1e-3)


@given(st.integers(0, MAX_MEMORY_BYTES))
def test_a_number_is_that_many_bytes(size_bytes: int) -> None:
    assert parse_bytes(size_bytes) == size_bytes


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.25, "0.25 s"),
        (59, "59 s"),
        (60, "1 min"),
        (90, "1.5 min"),
        (3599, "59.98 min"),
        (3600, "1 h"),
        (5400, "1.5 h"),
        (86_399, "24 h"),
        (86_400, "1 d"),
        (129_600, "1.5 d"),
        (10 * 365 * 86_400, "3650 d"),
    ],
)
def test_how_a_duration_is_written(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers())
def test_a_whole_number_that_is_taken_is_the_same_after_json(value: int) -> None:
    _, wrong = check_value(Integer("n"), value)
    if not wrong:
        assert int(float(value)) == value


@pytest.mark.parametrize(
    ("value", "taken"), [(2**53 - 1, True), (2**53, False), (-(2**53) + 1, True), (-(2**53), False)]
)
def test_whole_numbers_are_taken_as_far_as_each_is_told_from_the_next(
    value: int, taken: bool
) -> None:
    words = "" if taken else "must be between -9007199254740991 and 9007199254740991"
    assert check_value(Integer("n"), value) == (value, words)


def test_an_amount_of_a_named_resource_has_at_most_forty_characters() -> None:
    assert parse_named({"fpga": "2".zfill(40)}) == {"fpga": 2.0}
    with pytest.raises(ValueError, match="fpga: must be a number between 0 and"):
        parse_named({"fpga": "2".zfill(41)})
