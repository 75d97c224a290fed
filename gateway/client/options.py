"""What may be asked for in a new cluster, as attributes that are checked when they are set."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from daskgateway.v1 import cluster_service_pb2 as pb


class Options(MutableMapping[str, Any]):
    """The options of a gateway: `options.worker_cores = 2` or `options["worker_cores"] = 2`."""

    _fields: dict[str, pb.OptionField]
    _values: dict[str, Any]

    def __init__(self, offer: pb.GetClusterOptionsResponse, values: Mapping[str, Any] | None = None) -> None:
        object.__setattr__(self, "_fields", {field.name: field for field in offer.fields})
        object.__setattr__(self, "_values", {})
        object.__setattr__(self, "backends", list(offer.backends))
        for name, value in (values or {}).items():
            self[name] = value

    def __getitem__(self, name: str) -> Any:
        self._known(name)
        return self._values[name] if name in self._values else default(self._fields[name])

    def __setitem__(self, name: str, value: Any) -> None:
        self._known(name)
        self._values[name] = checked(self._fields[name], value)

    def __delitem__(self, name: str) -> None:
        self._known(name)
        self._values.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            self[name] = value
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._fields]

    def _known(self, name: str) -> None:
        if name not in self._fields:
            raise KeyError(f"there is no option {name!r}; there are {', '.join(sorted(self._fields)) or 'none'}")

    def chosen(self) -> dict[str, Any]:
        """Return only what was set."""
        return dict(self._values)

    def described(self, name: str) -> tuple[str, str]:
        """Return what an option takes and what it means, in words for people; each may be empty."""
        self._known(name)
        field = self._fields[name]
        meaning = ": ".join(text for text in (field.label, field.description) if text and text != name)
        return takes(field), meaning + (" (also for one worker group)" if field.per_group else "")

    def __repr__(self) -> str:
        return "Options<" + ", ".join(f"{name}={self[name]!r}" for name in self) + ">"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td style='text-align:left'>{html.escape(field.label or name)}</td>"
            f"<td style='text-align:left'><code>{html.escape(repr(self[name]))}</code></td>"
            f"<td style='text-align:left'>{html.escape(takes(field))}</td>"
            f"<td style='text-align:left'>{html.escape(field.description)}</td></tr>"
            for name, field in self._fields.items()
        )
        return f"<table><tr><th>Option</th><th>Value</th><th>Takes</th><th></th></tr>{rows}</table>"


def default(field: pb.OptionField) -> Any:
    """Return the value a field takes when none is given."""
    kind = getattr(field, field.WhichOneof("kind") or "string_field")
    return dict(kind.default) if isinstance(kind, pb.MappingField) else kind.default


def takes(field: pb.OptionField) -> str:
    """Return which values a field takes, in words for people."""
    kind = field.WhichOneof("kind")
    description: Any = getattr(field, kind) if kind else None
    if kind == "bool_field":
        return "true or false"
    if kind == "select_field":
        return " or ".join(description.choices)
    if kind in ("int_field", "float_field"):
        what = "a whole number" if kind == "int_field" else "a number"
        lowest = f" from {description.minimum:.15g}" if description.HasField("minimum") else ""
        highest = f" up to {description.maximum:.15g}" if description.HasField("maximum") else ""
        return what + lowest + highest
    if kind == "mapping_field":
        return "texts by name" + (f", at most {description.max_entries}" if description.max_entries else "")
    pattern = description.pattern if description is not None else ""
    return "a text" + (f" like {pattern}" if pattern else "")


def checked(field: pb.OptionField, value: Any) -> Any:
    """Return a value as a field takes it; ValueError says what would be right."""
    kind = field.WhichOneof("kind")
    description: Any = getattr(field, kind) if kind else None
    wrong = ""
    if kind == "bool_field":
        wrong = "" if isinstance(value, bool) else "must be true or false"
    elif kind in ("int_field", "float_field"):
        value, wrong = _number(value, description, whole=kind == "int_field")
    elif kind == "select_field":
        wrong = "" if value in description.choices else "must be one of " + ", ".join(description.choices)
    elif kind == "mapping_field":
        value, wrong = _mapping(value, description)
    else:
        wrong = _text(value, description)
    if wrong:
        raise ValueError(f"option {field.name} {wrong}, not {value!r}")
    return value


def _number(value: Any, description: Any, *, whole: bool) -> tuple[Any, str]:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return value, "must be a number"
    if whole and int(value) != value:
        return value, "must be a whole number"
    if description.HasField("minimum") and value < description.minimum:
        return value, f"must be at least {description.minimum}"
    if description.HasField("maximum") and value > description.maximum:
        return value, f"must be at most {description.maximum}"
    return (int(value) if whole else float(value)), ""


def _mapping(value: Any, description: Any) -> tuple[Any, str]:
    if not isinstance(value, Mapping):
        return value, "must map texts to texts"
    texts = {str(key): str(item) for key, item in value.items()}
    if description.max_entries and len(texts) > description.max_entries:
        return value, f"must have at most {description.max_entries} entries"
    return texts, ""


def _text(value: Any, description: Any) -> str:
    if not isinstance(value, str):
        return "must be a text"
    if description is not None and description.max_length and len(value) > description.max_length:
        return f"must have at most {description.max_length} characters"
    if description is not None and description.pattern and not re.fullmatch(description.pattern, value):
        return f"must match {description.pattern}"
    return ""
