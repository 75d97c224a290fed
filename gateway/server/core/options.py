"""What users may choose for a cluster, as typed fields, and whether given values are right."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.server.core.errors import Violation

MAX_TEXT = 1024
MAX_ENTRIES = 64


@dataclass(frozen=True, slots=True)
class Text:
    """A text, bounded in length, that may have to match a pattern as a whole."""

    name: str
    default: str = ""
    max_length: int = MAX_TEXT
    pattern: str = ""
    label: str = ""
    description: str = ""
    per_group: bool = False


@dataclass(frozen=True, slots=True)
class Bool:
    """A truth value."""

    name: str
    default: bool = False
    label: str = ""
    description: str = ""
    per_group: bool = False


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number between bounds."""

    name: str
    default: int = 0
    minimum: int | None = None
    maximum: int | None = None
    label: str = ""
    description: str = ""
    per_group: bool = False


@dataclass(frozen=True, slots=True)
class Float:
    """A decimal number between bounds."""

    name: str
    default: float = 0.0
    minimum: float | None = None
    maximum: float | None = None
    label: str = ""
    description: str = ""
    per_group: bool = False


@dataclass(frozen=True, slots=True)
class Select:
    """One of several texts."""

    name: str
    choices: tuple[str, ...]
    default: str
    label: str = ""
    description: str = ""
    per_group: bool = False


@dataclass(frozen=True, slots=True)
class Mapped:
    """Texts by name, such as environment variables."""

    name: str
    default: Mapping[str, str] = field(default_factory=dict)
    max_entries: int = MAX_ENTRIES
    label: str = ""
    description: str = ""
    per_group: bool = False


Field = Text | Bool | Integer | Float | Select | Mapped


def check_value(option: Field, value: object) -> tuple[object, str]:
    """Return the value as its type, and what would be right if it is wrong (else an empty text)."""
    checks: dict[type, Callable[..., tuple[object, str]]] = {
        Text: _text,
        Bool: _bool,
        Integer: _integer,
        Float: _float,
        Select: _select,
        Mapped: _mapped,
    }
    return checks[type(option)](option, value)


def _text(option: Text, value: object) -> tuple[object, str]:
    if not isinstance(value, str):
        return value, "must be a text"
    if len(value) > option.max_length:
        return value, f"must have at most {option.max_length} characters"
    if option.pattern and not re.fullmatch(option.pattern, value):
        return value, f"must match {option.pattern}"
    return value, ""


def _bool(_: Bool, value: object) -> tuple[object, str]:
    return value, "" if isinstance(value, bool) else "must be true or false"


def _integer(option: Integer, value: object) -> tuple[object, str]:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or int(value) != value:
        return value, "must be a whole number"
    return int(value), _bounds(option, value)


def _float(option: Float, value: object) -> tuple[object, str]:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return value, "must be a number"
    return float(value), _bounds(option, value)


def _bounds(option: Integer | Float, value: float) -> str:
    if option.minimum is not None and value < option.minimum:
        return f"must be at least {option.minimum}"
    if option.maximum is not None and value > option.maximum:
        return f"must be at most {option.maximum}"
    return ""


def _select(option: Select, value: object) -> tuple[object, str]:
    return value, "" if value in option.choices else "must be one of " + ", ".join(option.choices)


def _mapped(option: Mapped, value: object) -> tuple[object, str]:
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        return value, "must map texts to texts"
    if len(value) > option.max_entries:
        return value, f"must have at most {option.max_entries} entries"
    if any(not key or len(key) > MAX_TEXT or len(text) > 8 * MAX_TEXT or "\0" in key + text or "=" in key for key, text in value.items()):
        return value, f"keys must have 1 to {MAX_TEXT} characters and no '=', values at most {8 * MAX_TEXT}"
    return dict(value), ""


def check_options(
    fields: Sequence[Field], given: Mapping[str, object], path: str, *, per_group: bool = False
) -> tuple[dict[str, object], list[Violation]]:
    """Return every value (for a group: only those given) and every violation, under the field path `path`."""
    known = {option.name: option for option in fields}
    violations = [Violation(f"{path}.{name}", _unknown(name, known)) for name in given if name not in known]
    values: dict[str, object] = {} if per_group else {option.name: option.default for option in fields}
    for name in given:
        option = known.get(name)
        if option is None:
            continue
        if per_group and not option.per_group:
            violations.append(Violation(f"{path}.{name}", "cannot be set for one group; set it in spec.options"))
            continue
        values[name], wrong = check_value(option, given[name])
        if wrong:
            violations.append(Violation(f"{path}.{name}", wrong))
    return values, violations


def _unknown(name: str, known: Mapping[str, Field]) -> str:
    if not known:
        return "is no option: this gateway offers none"
    return "is no option; there are " + ", ".join(sorted(known))
