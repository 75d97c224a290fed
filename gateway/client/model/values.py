"""How the protocol's values become Python's own: instants, durations, words, options.

What a message leaves unset is None. What it tells beyond Python's range becomes the nearest value
that Python has: nothing that a peer sends makes the reading of an answer fail.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import TypeAlias, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.struct_pb2 import Value as StructValue
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.printable import quoted

K = TypeVar("K")
V = TypeVar("V")
W = TypeVar("W", bound="Word")

# of an option, as JSON says it
Value: TypeAlias = "bool | int | float | str | tuple[Value, ...] | Mapping[str, Value] | None"

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
FIRST, LAST = (
    datetime(1, 1, 1, tzinfo=timezone.utc),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=timezone.utc),
)
WHOLE = 2.0**53  # below it a float says every whole number exactly


class Word(str, Enum):
    """A value out of a closed list, which is a text too: `state == "ACTIVE"` holds for
    `ClusterState.ACTIVE`."""

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, form: str) -> str:
        return format(str(self.value), form)

    @classmethod
    def known(cls: type[W], text: str) -> W:
        """Return the word that a text is; ValueError names those there are."""
        try:
            return cls(text)
        except ValueError:
            there = [word.value for word in cls]
            like = difflib.get_close_matches(str(text).upper(), there, n=1)
            hint = f"; did you mean {like[0]}?" if like else ""
            raise ValueError(
                f"{quoted(text)} is no {cls.__name__}; there are {', '.join(there)}{hint}"
            ) from None


def word(kind: type[W], numbers: EnumTypeWrapper, number: int) -> W:
    """Return the word for a number of the protocol; UNKNOWN for none, and for one that came with a
    newer version."""
    try:
        return kind(numbers.Name(number).removeprefix(_prefix(numbers)))
    except ValueError:
        return kind("UNKNOWN")


def _prefix(numbers: EnumTypeWrapper) -> str:
    return numbers.Name(0).removesuffix("UNSPECIFIED")


class ReadOnly(Mapping[K, V]):
    """A mapping that does not change."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[K, V]) -> None:
        self._items = dict(items)

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


def instant(message: Message, field: str) -> datetime | None:
    """Return a field of the type Timestamp as an aware datetime in UTC; None if it is not set."""
    return _datetime(getattr(message, field)) if message.HasField(field) else None


def _datetime(told: Timestamp) -> datetime:
    try:
        return EPOCH + timedelta(seconds=told.seconds, microseconds=told.nanos // 1000)
    except OverflowError:
        return LAST if told.seconds > 0 else FIRST


def duration(message: Message, field: str) -> timedelta | None:
    """Return a field of the type Duration; None if it is not set."""
    return _timedelta(getattr(message, field)) if message.HasField(field) else None


def _timedelta(told: Duration) -> timedelta:
    try:
        return timedelta(seconds=told.seconds, microseconds=round(told.nanos / 1000))
    except OverflowError:
        return timedelta.max if told.seconds > 0 else timedelta.min


def options(struct: Struct) -> Mapping[str, Value]:
    """Return the values of options. The protocol knows only decimal numbers; what is whole becomes
    an int."""
    return ReadOnly({name: _value(value) for name, value in struct.fields.items()})


def _value(told: StructValue) -> Value:
    kind = told.WhichOneof("kind")
    if kind == "number_value":
        return (
            int(told.number_value)
            if told.number_value.is_integer() and abs(told.number_value) < WHOLE
            else told.number_value
        )
    if kind == "struct_value":
        return options(told.struct_value)
    if kind == "list_value":
        return tuple(_value(value) for value in told.list_value.values)
    if kind == "bool_value":
        return told.bool_value
    return told.string_value if kind == "string_value" else None
