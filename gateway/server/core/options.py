"""What users may choose for a cluster, as typed fields, and whether given values, and the fields
themselves, are right."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard, TypeVar

from gateway.server.core.errors import Violation, key
from gateway.server.core.quantities import MAX_COUNT, MAX_WHOLE
from gateway.server.core.texts import is_sound

MAX_TEXT = 1024
MAX_ENTRIES = 64
MAX_NESTED = 16  # mappings and lists within each other, of a structured option
SHOWN = 60  # characters of a key that is told


class Refused(Exception):
    """Raised by an administrator's callable of options: its user reads the text as the reason."""


T = TypeVar("T")
FIRST = "the first of the choices"  # a default that stands for itself alone


def _told(kind: type[T]) -> type[T]:
    """Return a kind of option whose wrong arguments are told in one sentence: an administrator
    writes them, who has not read this file."""
    make: Callable[..., None] = kind.__init__
    taken = inspect.signature(kind)

    @functools.wraps(make)
    def init(self: T, *values: Any, **named: Any) -> None:
        try:
            taken.bind(*values, **named)
        except TypeError as error:
            raise TypeError(_wrong_call(kind.__name__, taken, values, named, error)) from None
        make(self, *values, **named)

    kind.__init__ = init  # type: ignore[method-assign, assignment]
    return kind


def _wrong_call(
    kind: str,
    taken: inspect.Signature,
    values: Sequence[object],
    named: Mapping[str, object],
    error: TypeError,
) -> str:
    names = list(taken.parameters)
    unknown = [name for name in named if name not in names]
    shown = f"{kind}({repr(values[0])[:80] if values else '…'})"
    if not unknown:
        return f"{shown}: {error}; it takes {', '.join(names)}"
    like = {"min": "minimum", "max": "maximum", "options": "choices", "field": "name"}
    found = []
    for name in unknown:
        meant = [one for one in (like.get(name),) if one in names] or [
            *difflib.get_close_matches(name, names, n=1)
        ]
        found.append(f"it takes no {name}" + (f", did you mean {meant[0]}?" if meant else ""))
    return f"{shown}: {'; '.join(found)}; it takes {', '.join(names)}"


@_told
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


@_told
@dataclass(frozen=True, slots=True)
class Bool:
    """A truth value."""

    name: str
    default: bool = False
    label: str = ""
    description: str = ""
    per_group: bool = False


@_told
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


@_told
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


@_told
@dataclass(frozen=True, slots=True)
class Select:
    """One of several texts, by default the first."""

    name: str
    choices: tuple[str, ...]
    default: str = FIRST
    label: str = ""
    description: str = ""
    per_group: bool = False

    def __post_init__(self) -> None:
        if self.default is FIRST and isinstance(self.choices, tuple | list) and self.choices:
            object.__setattr__(self, "default", self.choices[0])


@_told
@dataclass(frozen=True, slots=True)
class Mapped:
    """Texts by name, such as environment variables; `structured`: whatever YAML can say by name,
    such as Dask's configuration."""

    name: str
    default: Mapping[str, object] = field(default_factory=dict)
    max_entries: int = MAX_ENTRIES
    label: str = ""
    description: str = ""
    per_group: bool = False
    structured: bool = False


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
    if not is_sound(value):
        return value, "must be Unicode without NUL"
    if option.pattern and not re.fullmatch(option.pattern, value):
        return value, f"must match {option.pattern}"
    return value, ""


def _bool(_: Bool, value: object) -> tuple[object, str]:
    return value, "" if isinstance(value, bool) else "must be true or false"


def _integer(option: Integer, value: object) -> tuple[object, str]:
    if not _is_number(value) or int(value) != value:
        return value, "must be a whole number"
    if abs(value) > MAX_WHOLE:
        return value, f"must be between {-MAX_WHOLE} and {MAX_WHOLE}"
    return int(value), _bounds(option, value)


def _float(option: Float, value: object) -> tuple[object, str]:
    if not _is_number(value):
        return value, "must be a number"
    return float(value), _bounds(option, value)


def _is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a number that a float can tell."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, float) and math.isfinite(value)


def _bounds(option: Integer | Float, value: float) -> str:
    if option.minimum is not None and value < option.minimum:
        return f"must be at least {option.minimum:.15g}"
    if option.maximum is not None and value > option.maximum:
        return f"must be at most {option.maximum:.15g}"
    return ""


def _select(option: Select, value: object) -> tuple[object, str]:
    return value, "" if value in option.choices else "must be one of " + ", ".join(option.choices)


def _mapped(option: Mapped, value: object) -> tuple[object, str]:
    if option.structured:
        return _structured(option, value)
    if not isinstance(value, Mapping):
        return value, "must map texts to texts"
    for name, text in value.items():  # which is not shown: it may be a secret
        if not isinstance(name, str) or not isinstance(text, str):
            return value, f"must map texts to texts, and {str(name)[:SHOWN]!r} is otherwise"
    if len(value) > option.max_entries:
        return value, f"must have at most {option.max_entries} entries"
    for name, text in value.items():
        if not name or len(name) > MAX_TEXT or len(text) > 8 * MAX_TEXT or "=" in name:
            return (
                value,
                f"keys must have 1 to {MAX_TEXT} characters and no '=', values at most"
                f" {8 * MAX_TEXT}; {name[:SHOWN]!r} has otherwise",
            )
    if not all(is_sound(key) and is_sound(text) for key, text in value.items()):
        return value, "must be Unicode without NUL"
    return dict(value), ""


def _structured(option: Mapped, value: object) -> tuple[object, str]:
    if not isinstance(value, Mapping):
        return value, "must map texts to whatever YAML can say"
    if len(value) > option.max_entries:
        return value, f"must have at most {option.max_entries} entries"
    return dict(value), _unlike_yaml(value, 0)


def _unlike_yaml(value: object, depth: int) -> str:
    """Return what is wrong with a value that is to be texts, finite numbers, truth values, nothing,
    lists and mappings of these."""
    if depth > MAX_NESTED:
        return f"must be nested at most {MAX_NESTED} deep"
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) and key and is_sound(key) for key in value):
            return "must have names that are texts"
        return next((w for item in value.values() if (w := _unlike_yaml(item, depth + 1))), "")
    if isinstance(value, list | tuple):
        return next((w for item in value if (w := _unlike_yaml(item, depth + 1))), "")
    if isinstance(value, str):
        return "" if is_sound(value) else "must be Unicode without NUL"
    plain = value is None or isinstance(value, bool) or _is_number(value)
    return "" if plain else "must hold texts, finite numbers, truth values, lists and mappings only"


def weight_bytes(values: object) -> int:
    """Return about how many bytes values take where they are stored or sent."""
    if isinstance(values, str):
        return len(values) if values.isascii() else len(values.encode(errors="replace"))
    if isinstance(values, list | tuple):
        return sum(weight_bytes(value) + 4 for value in values)
    if isinstance(values, Mapping):
        return sum(weight_bytes(key) + weight_bytes(value) + 4 for key, value in values.items())
    return 8


def check_options(
    fields: Sequence[Field], given: Mapping[str, object], path: str, *, per_group: bool = False
) -> tuple[dict[str, object], list[Violation]]:
    """Return every value (for a group: only those given) and every violation, under the field path
    `path`."""
    known = {option.name: option for option in fields}
    violations = [
        Violation(f"{path}.{key(name)}", _unknown(name, known))
        for name in given
        if name not in known
    ]
    values: dict[str, object] = (
        {} if per_group else {option.name: option.default for option in fields}
    )
    for name in given:
        option = known.get(name)
        if option is None:
            continue
        if per_group and not option.per_group:
            violations.append(
                Violation(f"{path}.{name}", "cannot be set for one group; set it in spec.options")
            )
            continue
        values[name], wrong = check_value(option, given[name])
        if wrong:
            violations.append(Violation(f"{path}.{name}", wrong))
    return values, violations


def wrong_field(option: Field) -> str:
    """Return what is wrong with a field itself, as it was configured; an empty text if users can be
    shown it."""
    texts = {"name": option.name, "label": option.label, "description": option.description}
    for name, text in texts.items():
        if not isinstance(text, str) or not is_sound(text):
            return f"its {name} must be a text"
    if not option.name.isidentifier():
        return "its name must be an identifier"
    if not isinstance(option.per_group, bool):
        return "its per_group must be True or False"
    if (wrong := _wrong_bounds(option)) or (wrong := _wrong_default(option)):
        return wrong
    return ""


def _wrong_bounds(option: Field) -> str:
    match option:
        case Text():
            try:
                re.compile(option.pattern)
            except (re.error, TypeError) as error:
                return f"its pattern is no regular expression ({error})"
            return (
                ""
                if _is_count(option.max_length)
                else f"its max_length must be between 0 and {MAX_COUNT}"
            )
        case Integer() | Float():
            bounds = {"minimum": option.minimum, "maximum": option.maximum}
            loose = type(option)(option.name)
            wrong = {
                name: check_value(loose, bound)[1]
                for name, bound in bounds.items()
                if bound is not None
            }
            return next((f"its {name} {words}" for name, words in wrong.items() if words), "")
        case Select():
            return _wrong_choices(option.choices)
        case Mapped():
            return (
                ""
                if _is_count(option.max_entries)
                else f"its max_entries must be between 0 and {MAX_COUNT}"
            )
    return ""


def _wrong_choices(choices: object) -> str:
    right = "its choices must be texts, at least one"
    if not isinstance(choices, tuple | list):
        return f"{right}, in a list, not {choices!r:.100}"
    wrong = [one for one in choices if not isinstance(one, str) or not is_sound(one)]
    if wrong:
        return f"{right}; {wrong[0]!r:.100} is none"
    if twice := [one for number, one in enumerate(choices) if one in choices[:number]]:
        return f"its choices name {twice[0]!r:.100} twice"
    return "" if choices else right


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= MAX_COUNT


def _wrong_default(option: Field) -> str:
    _, wrong = check_value(option, option.default)
    return f"its default {option.default!r:.100} {wrong}" if wrong else ""


def _unknown(name: str, known: Mapping[str, Field]) -> str:
    if not known:
        return "is no option: this gateway offers none"
    return "is no option; there are " + ", ".join(sorted(known))
