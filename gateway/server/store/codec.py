"""Model ⇄ JSON text. Driven by the dataclasses' own types; a field that is missing takes its default, one that is unknown is an error.

An unknown field means that a newer version wrote it, and the schema check should have refused that database before.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeVar

from gateway.server.core.model import Adaptive, Cluster, Count, Worker

T = TypeVar("T")


def encode(value: Any) -> str:
    """Return a dataclass as JSON; what equals its default is left out."""
    return json.dumps(_plain(value), separators=(",", ":"))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        defaults = _defaults(typing.cast(typing.Hashable, type(value)))
        return {name: _plain(found) for name, default in defaults.items() if (found := getattr(value, name)) != default or default is _NONE}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, set | frozenset):
        return sorted(_plain(item) for item in value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


class _Nothing:
    """Stands for "no default"; equal to nothing else."""


_NONE = _Nothing()


@functools.cache
def _defaults(cls: Any) -> dict[str, Any]:
    return {f.name: f.default if f.default is not dataclasses.MISSING else _NONE for f in dataclasses.fields(cls)}


def decode(cls: type[T], text: str) -> T:
    """Return the dataclass; ValueError if the text is not one."""
    try:
        result: T = _builder(typing.cast(Any, cls))(json.loads(text))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a stored {cls.__name__}: {error}") from None
    return result


@functools.cache
def _builder(kind: Any) -> Callable[[Any], Any]:
    """Return what makes a value of a type out of plain JSON values."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind == Count | Adaptive:
        count, adaptive = _builder(Count), _builder(Adaptive)
        return lambda plain: adaptive(plain) if "maximum" in plain else count(plain)
    if dataclasses.is_dataclass(kind):
        return _dataclass_builder(typing.cast(type, kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if origin in (typing.Union, types.UnionType):
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        build = _builder(inner)
        return lambda plain: None if plain is None else build(plain)
    if origin is not None and issubclass(origin, Mapping):
        item = _builder(arguments[1])
        return lambda plain: {key: item(value) for key, value in plain.items()}
    if origin is tuple:
        item = _builder(arguments[0])
        return lambda plain: tuple(item(value) for value in plain)
    if origin is frozenset:
        item = _builder(arguments[0])
        return lambda plain: frozenset(item(value) for value in plain)
    if kind is bytes:
        return bytes.fromhex
    return float if kind is float else lambda plain: plain


def _dataclass_builder(cls: type) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(cls)
    builders: dict[str, Callable[[Any], Any]] = {field.name: _builder(hints[field.name]) for field in dataclasses.fields(cls)}
    return lambda plain: cls(**{name: builders[name](value) for name, value in plain.items()})


def encode_cluster(cluster: Cluster) -> str:
    """Return a cluster as JSON."""
    return encode(cluster)


def decode_cluster(text: str) -> Cluster:
    """Return a cluster."""
    return decode(Cluster, text)


def decode_worker(text: str) -> Worker:
    """Return a worker."""
    return decode(Worker, text)
