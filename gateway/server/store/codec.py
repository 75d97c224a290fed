"""Model ⇄ JSON text; of a cluster two texts, its spec and all else.

Driven by the dataclasses' own types; a field that is missing takes its default.

A field that is unknown is passed over: a newer version wrote it, which has said that this one may
use its database (`tables.READABLE_SINCE`), so nothing is lost with it that matters.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from typing import Any, TypeVar

from gateway.server.core.model import Adaptive, Cluster, Count, Spec, Worker

T = TypeVar("T")

# what the builders raise beside ValueError
_UNREADABLE = (KeyError, TypeError, AttributeError, OverflowError, RecursionError)


def encode(value: Any) -> str:
    """Return a dataclass as JSON; what equals its default is left out."""
    return _dumps(_encoder(type(value))(value))


_dumps = json.JSONEncoder(separators=(",", ":")).encode


_encoders: dict[type, Callable[[Any], Any]] = {}  # by the types that the model is made of


def _encoder(cls: type) -> Callable[[Any], Any]:
    """Return what makes plain JSON values of a value of a type."""
    found = _encoders.get(cls)
    if found is None:
        found = _encoders[cls] = _make_encoder(cls)
    return found


def _make_encoder(cls: type) -> Callable[[Any], Any]:
    if dataclasses.is_dataclass(cls):
        return _dataclass_encoder(cls)
    if issubclass(cls, Enum):
        return lambda value: value.value
    if issubclass(cls, str | int | float | None.__class__):
        return lambda value: value
    if issubclass(cls, Mapping):
        return lambda value: {str(key): _encoder(type(item))(item) for key, item in value.items()}
    if issubclass(cls, bytes):
        return bytes.hex
    if issubclass(cls, set | frozenset):
        return lambda value: sorted(_encoder(type(item))(item) for item in value)
    if issubclass(cls, list | tuple):
        return lambda value: [_encoder(type(item))(item) for item in value]
    return lambda value: value


def _dataclass_encoder(cls: Any, without: str = "") -> Callable[[Any], Any]:
    fields = [
        (f.name, f.default if f.default is not dataclasses.MISSING else _NONE)
        for f in dataclasses.fields(cls)
        if f.name != without
    ]

    def plain(value: Any) -> dict[str, Any]:
        told = {}
        for name, default in fields:
            found = getattr(value, name)
            if found is not default and found != default:
                kind = type(found)
                told[name] = found if kind is str or kind is int else _encoder(kind)(found)
        return told

    return plain


class _Nothing:
    """Stands for "no default"; equal to nothing else."""


_NONE = _Nothing()


def decode(cls: type[T], text: str) -> T:
    """Return the dataclass; ValueError if the text is not one."""
    try:
        result: T = _builder(typing.cast(Any, cls))(json.loads(text))
    except _UNREADABLE as error:
        raise ValueError(f"not a stored {cls.__name__}: {error}") from None
    return result


@functools.cache
def _builder(kind: Any) -> Callable[..., Any]:
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
    if kind is float:
        return _number
    return functools.partial(_exactly, kind) if kind in (str, int, bool) else lambda plain: plain


def _exactly(kind: type, plain: object) -> object:
    """Return a value that is of this very type: what took one for another would fail later, and far
    from here."""
    if type(plain) is not kind:
        raise TypeError(f"{plain!r:.50} is not of type {kind.__name__}")
    return plain


def _number(plain: Any) -> float:
    number = float(plain)
    if math.isnan(number) or isinstance(plain, str | bool):
        raise TypeError(f"{plain!r:.50} is no number")
    return number


def _dataclass_builder(cls: type) -> Callable[..., Any]:
    hints = typing.get_type_hints(cls)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    # most fields are plain, and need no call of their own
    plain_kinds = {name: kind for name, kind in fields.items() if kind in (str, int, bool)}
    builders = {name: _builder(kind) for name, kind in fields.items()}

    def build(plain: Mapping[str, Any], **given: Any) -> Any:
        for name, value in plain.items():
            if name in given:
                raise TypeError(f"{name} is told twice")
            if type(value) is plain_kinds.get(name):
                given[name] = value
            elif (builder := builders.get(name)) is not None:
                given[name] = builder(value)
        return cls(**given)

    return build


def encode_cluster(cluster: Cluster) -> str:
    """Return a cluster as JSON, all but its spec."""
    return _dumps(_cluster_encoder(cluster))


_cluster_encoder = _dataclass_encoder(Cluster, without="spec")


def encode_spec(spec: Spec) -> str:
    """Return a spec as JSON. Settings that a group shares with its cluster are written once."""
    shared = [
        name
        for name, group in spec.groups.items()
        if group.settings is spec.settings or group.settings == spec.settings
    ]
    groups = {
        name: replace(group, settings={}) if name in shared else group
        for name, group in spec.groups.items()
    }
    plain = _encoder(Spec)(replace(spec, groups=groups))
    for name in shared:
        del plain["groups"][name]["settings"]
    return _dumps(plain)


def decode_spec(text: str) -> Spec:
    """Return a spec; ValueError if the text is none."""
    try:
        plain = json.loads(text)
        spec: Spec = _builder(Spec)(plain)
        own = {name for name, group in plain.get("groups", {}).items() if "settings" in group}
    except _UNREADABLE as error:
        raise ValueError(f"not a stored Spec: {error}") from None
    return replace(
        spec,
        groups={
            n: group if n in own else replace(group, settings=spec.settings)
            for n, group in spec.groups.items()
        },
    )


def decode_cluster(text: str, spec: str | None, known: dict[str, Spec] | None = None) -> Cluster:
    """Return a cluster; ValueError if the texts are none, or there is no spec. `known`: specs by
    their texts, for who reads many clusters: most are alike."""
    if spec is None:
        raise ValueError("it has no spec")
    given = None if known is None else known.get(spec)
    if given is None:
        given = decode_spec(spec)
        if known is not None:
            known[spec] = given
    try:
        plain = json.loads(text)
        found: Cluster = _builder(Cluster)(plain, spec=given)
    except (*_UNREADABLE, ValueError) as error:
        raise ValueError(f"not a stored Cluster: {error}") from None
    return found


def decode_worker(text: str) -> Worker:
    """Return a worker."""
    return decode(Worker, text)
