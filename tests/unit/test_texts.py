"""Words of others become text that can be stored, sent and handed on: whole characters, so many at
most, and the end kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.server.core.texts import CUT, abridged, is_sound, sound

ANY = st.text(st.characters() | st.sampled_from("ab\0ä🙂\ud800\udcff"))  # halves of characters too


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("plain", True),
        ("häß 🙂", True),
        ("a\0b", False),
        ("ä\0b", False),
        ("a\ud800b", False),
        ("\udcff", False),
    ],
)
def test_what_is_sound(text: str, expected: bool) -> None:
    assert is_sound(text) is expected


@given(ANY, st.integers(0, 50))
def test_a_text_becomes_whole_characters_and_so_many_at_most(text: str, most: int) -> None:
    found = sound(text, most)
    found.encode()
    assert len(found) == min(len(text), most)
    if is_sound(text):
        assert found == text[:most]


@given(ANY, st.integers(16, 60))
def test_of_a_long_text_its_beginning_and_its_end_are_kept(text: str, most: int) -> None:
    found = abridged(text, most)
    if len(text) <= most:
        assert found == sound(text, most)
        return
    head = most // 4
    tail = most - head - len(f" {CUT} ")
    assert found == sound(text[:head], most) + f" {CUT} " + sound(text[-tail:], most)
    assert len(found) == most


def test_a_text_of_just_the_length_is_left_whole() -> None:
    assert abridged("x" * 40, 40) == "x" * 40
    assert abridged("0123456789" * 5, 40) == "0123456789 […] 5678901234567890123456789"
