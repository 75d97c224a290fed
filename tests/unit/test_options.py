"""What users may choose: which values an option takes, which it refuses and in which words, and
which options can be shown at all."""

from __future__ import annotations

import math
import sys

import pytest

from gateway.server.core.errors import Violation
from gateway.server.core.options import (
    Bool,
    Field,
    Float,
    Integer,
    Mapped,
    Select,
    Text,
    check_options,
    check_value,
    weight_bytes,
    wrong_field,
)

WHOLE = "must be a whole number"
NUMBER = "must be a number"
FAR = "must be between -9007199254740991 and 9007199254740991"
TRUTH = "must be true or false"
DEEP = "must be nested at most 16 deep"
NAMED = "must have names that are texts"
UNICODE = "must be Unicode without NUL"
TABLE = "must map texts to texts"
KEYS = "keys must have 1 to 1024 characters and no '=', values at most 8192"
INT32 = "must be between 0 and 2147483647"


def nested(depth: int, *, lists: bool = False) -> object:
    """Return so many mappings, or lists, within each other."""
    value: object = 1
    for _ in range(depth):
        value = [value] if lists else {"a": value}
    return value


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        (Text("n"), "", ""),
        (Text("n"), "häß", ""),
        (Text("n"), "x" * 1024, ""),
        (Text("n"), "x" * 1025, "must have at most 1024 characters"),
        (Text("n"), 7, "must be a text"),
        (Text("n"), b"x", "must be a text"),
        (Text("n"), "a\0", UNICODE),
        (Text("n", max_length=3), "abc", ""),
        (Text("n", max_length=3), "abcd", "must have at most 3 characters"),
        (Text("n", max_length=0), "", ""),
        (Text("n", pattern="a+"), "aa", ""),
        (Text("n", pattern="a+"), "", "must match a+"),
        (Text("n", pattern="a+"), "aab", "must match a+"),
        (Text("n", pattern="a+"), "aa\n", "must match a+"),
        (Bool("n"), True, ""),
        (Bool("n"), False, ""),
        (Bool("n"), 1, TRUTH),
        (Bool("n"), 0, TRUTH),
        (Bool("n"), "true", TRUTH),
        (Bool("n"), None, TRUTH),
        (Integer("n"), 7, ""),
        (Integer("n"), 7.5, WHOLE),
        (Integer("n"), True, WHOLE),
        (Integer("n"), "7", WHOLE),
        (Integer("n"), 2**53, FAR),
        (Integer("n"), -(2**53), FAR),
        (Integer("n", minimum=2, maximum=4), 1, "must be at least 2"),
        (Integer("n", minimum=2, maximum=4), 2, ""),
        (Integer("n", minimum=2, maximum=4), 4, ""),
        (Integer("n", minimum=2, maximum=4), 5, "must be at most 4"),
        (Integer("n", minimum=0), -1, "must be at least 0"),
        (Integer("n", maximum=0), 1, "must be at most 0"),
        (Float("n"), 0.1, ""),
        (Float("n"), -1e308, ""),
        (Float("n"), True, NUMBER),
        (Float("n"), "1", NUMBER),
        (Float("n"), math.nan, NUMBER),
        (Float("n"), math.inf, NUMBER),
        (Float("n"), int(sys.float_info.max) + 1, NUMBER),
        (Float("n"), -int(sys.float_info.max) - 1, NUMBER),
        (Float("n", minimum=0.5, maximum=1.5), 0.49, "must be at least 0.5"),
        (Float("n", minimum=0.5, maximum=1.5), 0.5, ""),
        (Float("n", minimum=0.5, maximum=1.5), 1.5, ""),
        (Float("n", minimum=0.5, maximum=1.5), 1.51, "must be at most 1.5"),
        (Float("n", minimum=0.0), -0.1, "must be at least 0"),
        (Select("n", ("a", "b"), "a"), "b", ""),
        (Select("n", ("a", "b"), "a"), "c", "must be one of a, b"),
        (Select("n", ("a", "b"), "a"), None, "must be one of a, b"),
        (Mapped("n"), {}, ""),
        (Mapped("n"), {"A": "x", "B": ""}, ""),
        (Mapped("n"), [], TABLE),
        (Mapped("n"), None, TABLE),
        (Mapped("n"), {"A": 1}, f"{TABLE}, and 'A' is otherwise"),
        (Mapped("n"), {1: "x"}, f"{TABLE}, and '1' is otherwise"),
        (Mapped("n"), {"A": "x", "B": None}, f"{TABLE}, and 'B' is otherwise"),
        (Mapped("n"), {str(number): "" for number in range(64)}, ""),
        (Mapped("n"), {str(number): "" for number in range(65)}, "must have at most 64 entries"),
        (Mapped("n", max_entries=1), {"A": ""}, ""),
        (Mapped("n", max_entries=1), {"A": "", "B": ""}, "must have at most 1 entries"),
        (Mapped("n", max_entries=0), {}, ""),
        (Mapped("n"), {"k" * 1024: "v" * 8192}, ""),
        (Mapped("n"), {"k" * 1025: ""}, f"{KEYS}; '{'k' * 60}' has otherwise"),
        (Mapped("n"), {"k": "v" * 8193}, f"{KEYS}; 'k' has otherwise"),
        (Mapped("n"), {"": "x"}, f"{KEYS}; '' has otherwise"),
        (Mapped("n"), {"a=b": "x"}, f"{KEYS}; 'a=b' has otherwise"),
        (Mapped("n"), {"a": "b=c"}, ""),
        (Mapped("n"), {"a": "\0"}, UNICODE),
        (Mapped("n"), {"a\0": ""}, UNICODE),
        (Mapped("n", structured=True), {"": 1}, NAMED),
        (Mapped("n", structured=True), {1: 1}, NAMED),
        (Mapped("n", structured=True), {"a\0": 1}, NAMED),
        (Mapped("n", structured=True), {"a": [{"": 1}]}, NAMED),
        (Mapped("n", structured=True), {"a": [{"b": 1}, "\0"]}, UNICODE),
        (Mapped("n", structured=True), {"a": {"b": [1.5, None, True, "x"]}}, ""),
        (Mapped("n", structured=True), {"a": nested(15)}, ""),
        (Mapped("n", structured=True), {"a": nested(16)}, DEEP),
        (Mapped("n", structured=True), {"a": nested(16, lists=True)}, DEEP),
    ],
)
def test_which_values_an_option_takes(option: Field, value: object, words: str) -> None:
    found, wrong = check_value(option, value)
    assert wrong == words
    assert found == value or words


@pytest.mark.parametrize(
    ("option", "value", "found"),
    [
        (Integer("n"), 7.0, 7),
        (Integer("n"), -(2.0**53) + 1, -(2**53) + 1),
        (Float("n"), 7, 7.0),
        (Float("n"), int(sys.float_info.max), sys.float_info.max),
        (Text("n"), "7", "7"),
        (Bool("n"), True, True),
    ],
)
def test_a_value_becomes_what_its_option_is(option: Field, value: object, found: object) -> None:
    checked, wrong = check_value(option, value)
    assert (checked, type(checked), wrong) == (found, type(found), "")


def test_a_table_is_the_options_own() -> None:
    given = {"A": "x"}
    found, _ = check_value(Mapped("n"), given)
    assert found == given
    assert found is not given


@pytest.mark.parametrize(
    ("values", "size_bytes"),
    [
        ("", 0),
        ("abc", 3),
        ("ä🙂", 6),
        ("\ud800", 1),
        (7, 8),
        (1.5, 8),
        (True, 8),
        (None, 8),
        ({}, 0),
        ({"ab": "cde"}, 9),
        ({"ab": 1, "c": {"d": "e"}}, 2 + 8 + 4 + 1 + (1 + 1 + 4) + 4),
    ],
)
def test_what_values_weigh(values: object, size_bytes: int) -> None:
    assert weight_bytes(values) == size_bytes


FIELDS: tuple[Field, ...] = (
    Integer("cores", 2, 1, 8, per_group=True),
    Text("image", "plain"),
    Bool("gpu", per_group=True),
)


def test_a_cluster_has_every_value_and_a_group_only_its_own() -> None:
    assert check_options(FIELDS, {}, "o") == ({"cores": 2, "image": "plain", "gpu": False}, [])
    assert check_options(FIELDS, {"cores": 4.0}, "o") == (
        {"cores": 4, "image": "plain", "gpu": False},
        [],
    )
    assert check_options(FIELDS, {}, "o", per_group=True) == ({}, [])
    assert check_options(FIELDS, {"cores": 4, "gpu": True}, "o", per_group=True) == (
        {"cores": 4, "gpu": True},
        [],
    )


def test_every_violation_is_told_under_its_path() -> None:
    _, wrong = check_options(
        FIELDS, {"cores": 9, "colour": "red", "gpu": 1, "image": "x"}, "spec.options"
    )
    assert wrong == [
        Violation("spec.options.colour", "is no option; there are cores, gpu, image"),
        Violation("spec.options.cores", "must be at most 8"),
        Violation("spec.options.gpu", TRUTH),
    ]
    values, wrong = check_options(FIELDS, {"image": "x", "gpu": 1, "cores": 3}, "o", per_group=True)
    assert wrong == [
        Violation("o.image", "cannot be set for one group; set it in spec.options"),
        Violation("o.gpu", TRUTH),
    ]
    assert values["cores"] == 3
    assert "image" not in values
    assert check_options((), {"x": 1}, "o") == (
        {},
        [Violation("o.x", "is no option: this gateway offers none")],
    )


@pytest.mark.parametrize(
    "option",
    [
        Text("n"),
        Bool("n"),
        Integer("n"),
        Float("n"),
        Mapped("n"),
        Select("n", ("a",), "a"),
        *(kind("n") for kind in (Text, Bool, Integer)),
    ],
)
def test_an_option_that_says_nothing_is_plain(option: Field) -> None:
    assert wrong_field(option) == ""
    assert not option.per_group
    assert check_value(option, option.default)[1] == ""
    assert not isinstance(option, Text | Bool | Integer | Float | Mapped) or not option.default


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (Bool("n", label="n", description="of it"), ""),
        (Bool(7), "its name must be a text"),  # type: ignore[arg-type]
        (Bool("a\0"), "its name must be a text"),
        (Bool("n", label=None), "its label must be a text"),  # type: ignore[arg-type]
        (Bool("n", label="\ud800"), "its label must be a text"),
        (Bool("n", description=7), "its description must be a text"),  # type: ignore[arg-type]
        (Bool("a-b"), "its name must be an identifier"),
        (Bool(""), "its name must be an identifier"),
        (Bool("n", per_group=1), "its per_group must be True or False"),  # type: ignore[arg-type]
        (Bool("n", per_group=True), ""),
        (Bool("n", default=1), f"its default 1 {TRUTH}"),  # type: ignore[arg-type]
        (Text("n", "b", pattern="a"), "its default 'b' must match a"),
        (
            Text("n", pattern="("),
            "its pattern is no regular expression (missing ), unterminated subpattern at position"
            " 0)",
        ),
        (
            Text("n", pattern=7),  # type: ignore[arg-type]
            "its pattern is no regular expression (first argument must be string or compiled"
            " pattern)",
        ),
        (
            Text("n", "x" * 2000, max_length=1999),
            "its default '" + "x" * 99 + " must have at most 1999 characters",
        ),
        (Text("n", max_length=0), ""),
        (Text("n", max_length=-1), f"its max_length {INT32}"),
        (Text("n", max_length=2**31 - 1), ""),
        (Text("n", max_length=2**31), f"its max_length {INT32}"),
        (Text("n", max_length=1.5), f"its max_length {INT32}"),  # type: ignore[arg-type]
        (Mapped("n", max_entries=0), ""),
        (Mapped("n", max_entries=-1), f"its max_entries {INT32}"),
        (Mapped("n", max_entries=2**31 - 1), ""),
        (Mapped("n", max_entries=2**31), f"its max_entries {INT32}"),
        (
            Mapped("n", {"a": "b"}, max_entries=0),
            "its default {'a': 'b'} must have at most 0 entries",
        ),
        (Integer("n", 3, minimum=3, maximum=3), ""),
        (Integer("n", 0, minimum=1), "its default 0 must be at least 1"),
        (Integer("n", minimum=-(2**53)), f"its minimum {FAR}"),
        (Integer("n", maximum=2**53), f"its maximum {FAR}"),
        (Integer("n", minimum=0.5), f"its minimum {WHOLE}"),  # type: ignore[arg-type]
        (Float("n", minimum=math.nan), f"its minimum {NUMBER}"),
        (Float("n", maximum=math.inf), f"its maximum {NUMBER}"),
        (Float("n", math.nan), f"its default nan {NUMBER}"),
        (Select("n", ("a", "b"), "c"), "its default 'c' must be one of a, b"),
        (Select("n", (), ""), "its choices must be texts, at least one"),
        (Select("n", ("a", 1), "a"), "its choices must be texts, at least one; 1 is none"),  # type: ignore[arg-type]
        (Select("n", ("a", "\0")), "its choices must be texts, at least one; '\\x00' is none"),
        (Select("n", "ab"), "its choices must be texts, at least one, in a list, not 'ab'"),  # type: ignore[arg-type]
        (Select("n", ("b", "a")), ""),
        (Select("n", ()), "its choices must be texts, at least one"),
        (Select("n", ["a", "b"], "a"), ""),  # type: ignore[arg-type]
    ],
)
def test_which_options_can_be_shown(option: Field, words: str) -> None:
    assert wrong_field(option) == words
