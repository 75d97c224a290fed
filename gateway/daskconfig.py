"""Dask's configuration on its way into schedulers and workers: by nested names, merged, and to the
letter. Pure.

A variable for each key would not do: Dask reads names of variables in lower case, and of a value
that is no Python literal only the text. All of it goes in the one variable that holds a whole
configuration; variables that a user sets for single keys still come after it.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

VARIABLE = "DASK_INTERNAL_INHERIT_CONFIG"  # Dask's own, for a whole configuration
# Keys that the gateway sets itself.
OWN_KEYS = (
    "temporary-directory",
    "distributed.comm.require-encryption",
    "distributed.comm.tls",
)
MAX_BYTES = 90 * 1024  # of the variable: the system takes 128 KiB of one
MAX_YAML = 1024  # characters of a text that is read as YAML
MAX_VALUES = 10_000  # in one value: few characters of YAML can stand for very many
MAX_DEPTH = 32

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def expanded(config: Mapping[str, object]) -> dict[str, Any]:
    """Return a configuration by nested names: dots in the names at its top become paths. What they
    lead to is left to the letter."""
    whole: dict[str, Any] = {}
    for name, value in config.items():
        for part in reversed(str(name).split(".")):
            value = {part: value}
        whole = merged(whole, value)  # type: ignore[arg-type]
    return whole


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return two nested configurations as one: what is above wins, mappings are merged. As for
    Dask, `-` and `_` are the same in a name that is there already."""
    whole = dict(below)
    for name, value in above.items():
        there = name_in(whole, name)
        before = whole.get(there)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        whole[there] = merged(before, value) if both else value  # type: ignore[arg-type]
    return whole


def name_in(config: Mapping[str, object], name: str) -> str:
    """Return how a name is written in a configuration; as it is, if it is not there."""
    if name not in config and isinstance(name, str):
        for other in (name.replace("_", "-"), name.replace("-", "_")):
            if other in config:
                return other
    return name


def complaint(config: Mapping[str, object]) -> str:
    """Return what is wrong with a configuration (dotted or nested), an empty text if nothing is."""
    if wrong := _unlike_yaml(config, 0, [MAX_VALUES]):
        return wrong
    whole = expanded(config)
    for own in OWN_KEYS:
        if wrong := _own(whole, own.split("."), own):
            return wrong
    size = len(variable(whole))
    return f"is too large: {size} bytes as it is sent, of {MAX_BYTES}" if size > MAX_BYTES else ""


def _own(config: Mapping[str, Any], path: list[str], own: str) -> str:
    for name, inner in config.items():
        if name.replace("_", "-") != path[0]:
            continue
        if len(path) == 1:
            return f"{own!r} is set by the gateway itself"
        if not isinstance(inner, Mapping):
            above = own[: -len(".".join(path[1:])) - 1]
            return f"{above!r} must be a mapping: below it is what the gateway sets itself"
        if wrong := _own(inner, path[1:], own):
            return wrong
    return ""


def without_own(config: Mapping[str, object]) -> dict[str, Any]:
    """Return a configuration by nested names without what the gateway sets itself, and without what
    would keep it from that."""
    whole = expanded(config)
    for own in OWN_KEYS:
        whole = _without(whole, own.split("."))
    return whole


def _without(config: Mapping[str, Any], path: list[str]) -> dict[str, Any]:
    kept = {}
    for name, inner in config.items():
        if name.replace("_", "-") != path[0]:
            kept[name] = inner
        elif len(path) > 1 and isinstance(inner, Mapping):
            kept[name] = _without(inner, path[1:])
    return kept


def _unlike_yaml(value: object, depth: int, room: list[int]) -> str:
    """Return what is wrong with a value that cannot be told as it is."""
    room[0] -= 1
    if depth > MAX_DEPTH or room[0] < 0:
        return f"must have at most {MAX_VALUES} values, nested at most {MAX_DEPTH} deep"
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or not key:
                return f"{key!r:.64} must be a text: names of Dask's configuration are"
        return next((w for v in value.values() if (w := _unlike_yaml(v, depth + 1, room))), "")
    if isinstance(value, list | tuple):
        return next((w for v in value if (w := _unlike_yaml(v, depth + 1, room))), "")
    if isinstance(value, str):
        sound = "\0" not in value and not any("\ud800" <= one <= "\udfff" for one in value)
        return "" if sound else "must be Unicode without NUL"
    if value is None or isinstance(value, bool | int):
        return ""
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{value!r} must be a finite number"
    return (
        f"{str(value)!r:.64} must hold texts, finite numbers, truth values, lists and mappings"
        f" only, not {type(value).__name__}; quote it if it is a text"
    )


def variable(whole: Mapping[str, Any]) -> str:
    """Return a nested configuration as the value of VARIABLE."""
    return base64.urlsafe_b64encode(json.dumps(whole).encode()).decode()


def read_texts(values: Mapping[str, str]) -> tuple[dict[str, object], str]:
    """Return what texts by dotted names mean as YAML, and what is wrong with one (else an empty
    text)."""
    found: dict[str, object] = {}
    for name, text in values.items():
        if len(text) > MAX_YAML:
            return {}, f"{name!r:.64} must have at most {MAX_YAML} characters of YAML"
        try:
            found[name] = yaml.load(text, _Loader)
        except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
            words = " ".join(str(error).split())
            return {}, f"{name!r:.64} is no YAML: {words:.200}"
    return found, ""


def whole_numbers(value: object) -> object:
    """Return a value whose numbers are whole where they can be: JSON of protobuf knows only
    floats."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2.0**53:
        return int(value)
    if isinstance(value, Mapping):
        return {key: whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [whole_numbers(item) for item in value]
    return value


def paths(config: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path to each value of a nested configuration that is no mapping."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from paths(value, (*above, name))
        else:
            yield (*above, name)
