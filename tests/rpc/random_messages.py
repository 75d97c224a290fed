"""Random messages of any type out of its descriptor: what a hostile or broken client might send."""

from __future__ import annotations

import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

TEXTS = (
    "",
    "etl",
    "users/alice/clusters/etl",
    "users/bob/clusters/etl",
    "users/-/clusters/-",
    "users/*/clusters/x",
    "users/alice",
    "users/*",
    "default",
    "spec.worker_groups",
    "spec.worker_groups.default",
    "labels",
    "../../etc/passwd",
    "\0",
    "‮evil",
    "x" * 5000,
    "W10=",
    "[[[[[[",
    "00000000-0000-4000-8000-000000000000",
)
NUMBERS = (0, 1, -1, 2, 500, 10**6, 2**31 - 1, -(2**31))
FLOATS = (0.0, -1.0, 1e308, float("inf"), float("-inf"), float("nan"))
MAX_DEPTH = 6

_TEXT, _BYTES, _BOOL = (
    FieldDescriptor.CPPTYPE_STRING,
    FieldDescriptor.TYPE_BYTES,
    FieldDescriptor.CPPTYPE_BOOL,
)
_REAL = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)
_LONG, _UNSIGNED = (
    FieldDescriptor.CPPTYPE_INT64,
    (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64),
)


def _scalar(field: Any, rng: random.Random) -> Any:
    if field.type == _BYTES:
        return rng.randbytes(rng.choice((0, 1, 40)))
    if field.cpp_type == _TEXT:
        return rng.choice(TEXTS)
    if field.cpp_type == _BOOL:
        return rng.random() < 0.5
    if field.cpp_type in _REAL:
        return rng.choice(FLOATS)
    if field.cpp_type == _LONG:
        return rng.choice((*NUMBERS, 2**63 - 1, -(2**63)))
    number = rng.choice(NUMBERS)
    return abs(number) if field.cpp_type in _UNSIGNED else number


def fill(message: Message, rng: random.Random, depth: int = 0) -> Message:
    """Set some fields to something; return the message."""
    for field in message.DESCRIPTOR.fields:
        if rng.random() < 0.4 or depth > MAX_DEPTH:
            continue
        if (
            field.is_repeated
            and field.message_type is not None
            and field.message_type.GetOptions().map_entry
        ):
            _fill_map(getattr(message, field.name), field, rng, depth)
        elif field.is_repeated:
            for _ in range(rng.choice((1, 3))):
                if field.message_type is not None:
                    fill(getattr(message, field.name).add(), rng, depth + 1)
                else:
                    getattr(message, field.name).append(_scalar(field, rng))
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            fill(getattr(message, field.name), rng, depth + 1)
        else:
            setattr(message, field.name, _scalar(field, rng))
    return message


def _fill_map(entries: Any, field: Any, rng: random.Random, depth: int) -> None:
    value = field.message_type.fields_by_name["value"]
    for _ in range(rng.choice((1, 2, 40))):
        key = rng.choice(TEXTS)
        if value.message_type is not None:
            fill(entries[key], rng, depth + 1)
        else:
            entries[key] = _scalar(value, rng)
