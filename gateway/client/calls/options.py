"""What may be asked for in a new cluster, as attributes that are checked when they are set."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from daskgateway.v1 import cluster_service_pb2 as pb

from gateway.client import progress
from gateway.client.calls import reading
from gateway.client.model import show
from gateway.client.model.offer import (
    BoolField,
    FloatField,
    IntField,
    Limits,
    MappingField,
    OptionField,
    SelectField,
    StringField,
)
from gateway.client.model.spec import Lifecycle
from gateway.client.model.values import ReadOnly


class Options(MutableMapping[str, Any]):
    """The options of a gateway: `options.worker_cores = 2` or `options["worker_cores"] = 2`.

    Which there are, and of what type, is up to the gateway; a wrong name or value is refused when
    it is set. An option whose name is that of an attribute here, such as `limits`, is reached as an
    item only.
    """

    proto: pb.GetClusterOptionsResponse
    """The protobuf message that it was made from."""
    fields: Mapping[str, OptionField]
    """What may be set, by name."""
    backends: tuple[str, ...]
    """Backends to choose from; the first is the default."""
    limits: Limits
    """Limits of one cluster."""
    default_lifecycle: Lifecycle
    """When a cluster that names nothing else is stopped by the gateway."""
    _values: dict[str, Any]
    _told: list[Callable[[str], None]]

    def __init__(
        self, offer: pb.GetClusterOptionsResponse, values: Mapping[str, Any] | None = None
    ) -> None:
        own = {
            "proto": offer,
            "fields": ReadOnly(
                {field.name: OptionField.from_proto(field) for field in offer.fields}
            ),
            "backends": tuple(offer.backends),
            "limits": Limits.from_proto(offer.limits),
            "default_lifecycle": Lifecycle.from_proto(offer.default_lifecycle),
            "_values": {},
            "_told": [],
        }
        self.__dict__.update(own)  # attributes set otherwise are options
        for name, value in (values or {}).items():
            self[name] = value

    def __getitem__(self, name: str) -> Any:
        self._known(name)
        return self._values[name] if name in self._values else _default(self.fields[name])

    def __setitem__(self, name: str, value: Any) -> None:
        self._known(name)
        self._values[name] = checked(self.fields[name], value)
        self._tell(name)

    def __delitem__(self, name: str) -> None:
        self._known(name)
        self._values.pop(name, None)
        self._tell(name)

    def watch(self, told: Callable[[str], None]) -> None:
        """Have the name of whatever is set from now on told; a form does so."""
        self._told.append(told)

    def _tell(self, name: str) -> None:
        for told in self._told:
            told(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:
            raise AttributeError(
                f"{reading.shown(name)} is what the gateway tells; an option of that name is set as"
                f" options[{reading.shown(name)}]"
            )
        try:
            self[name] = value
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.fields]

    def _known(self, name: str) -> None:
        if name not in self.fields:
            raise KeyError(
                f"there is no option {reading.shown(name)}{reading.meant(name, self.fields)}; there"
                f" are {', '.join(sorted(self.fields)) or 'none'}"
            )

    def chosen(self) -> dict[str, Any]:
        """Return only what was set."""
        return dict(self._values)

    def described(self, name: str) -> tuple[str, str]:
        """Return what an option takes and what it means, in words for people; each may be empty."""
        self._known(name)
        field = self.fields[name]
        meaning = ": ".join(
            text for text in (field.label, field.description) if text and text != name
        )
        return takes(field), meaning + (" (also for one worker group)" if field.per_group else "")

    def __repr__(self) -> str:
        return "Options<" + ", ".join(f"{name}={self[name]!r}" for name in self) + ">"

    def widget(self) -> Any:
        """Return a form of ipywidgets: what is changed there is set here, and the other way round.
        A notebook shows it by itself."""
        from gateway.client.form import Form

        if "_form" not in self.__dict__:
            self.__dict__["_form"] = Form(self)
        return self.__dict__["_form"].widget

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """Return the form where a notebook can show it; else what else there is."""
        try:
            return self.widget()._repr_mimebundle_(**kwargs) if progress.in_notebook() else {}
        except ImportError:
            return {}

    def _repr_html_(self) -> str:
        rows = [
            (field.label or name, show.text(self[name]), takes(field), field.description)
            for name, field in self.fields.items()
        ]
        return show.html_table(("OPTION", "VALUE", "TAKES", "MEANS"), rows)


def _default(field: OptionField) -> Any:
    return dict(field.kind.default) if isinstance(field.kind, MappingField) else field.kind.default


def takes(field: OptionField) -> str:
    """Return which values a field takes, in words for people."""
    kind = field.kind
    if isinstance(kind, BoolField):
        return "true or false"
    if isinstance(kind, SelectField):
        return " or ".join(kind.choices)
    if isinstance(kind, IntField | FloatField):
        what = "a whole number" if isinstance(kind, IntField) else "a number"
        lowest = f" from {kind.minimum:.15g}" if kind.minimum is not None else ""
        highest = f" up to {kind.maximum:.15g}" if kind.maximum is not None else ""
        return what + lowest + highest
    if isinstance(kind, MappingField):
        return "texts by name" + (f", at most {kind.max_entries}" if kind.max_entries else "")
    return "a text" + (f" like {kind.pattern}" if kind.pattern else "")


def checked(field: OptionField, value: Any) -> Any:
    """Return a value as a field takes it; ValueError says what would be right."""
    kind, value = field.kind, reading.plain(value)
    if isinstance(kind, BoolField):
        value, wrong = _truth(value)
    elif isinstance(kind, IntField | FloatField):
        value, wrong = _number(value, kind)
    elif isinstance(kind, SelectField):
        wrong = "" if value in kind.choices else "must be one of " + ", ".join(kind.choices)
    elif isinstance(kind, MappingField):
        value, wrong = _mapping(value, kind)
    else:
        wrong = _text(value, kind)
    if wrong:
        raise ValueError(f"option {field.name} {wrong}, not {reading.shown(value)}")
    return value


def _truth(value: Any) -> tuple[Any, str]:
    try:
        if isinstance(value, str | bool):  # 1 and 0 are amounts, as likely as not
            return reading.truth(value, "it"), ""
    except ValueError:
        pass
    return value, "must be true or false"


def _number(value: Any, kind: IntField | FloatField) -> tuple[Any, str]:
    whole = isinstance(kind, IntField)
    try:
        found = reading.number(value, "it")
    except ValueError:
        return value, "must be a number"
    if whole and int(found) != found:
        return value, "must be a whole number"
    if kind.minimum is not None and found < kind.minimum:
        return value, f"must be at least {kind.minimum:.15g}"
    if kind.maximum is not None and found > kind.maximum:
        return value, f"must be at most {kind.maximum:.15g}"
    return (int(found) if whole else float(found)), ""


def _mapping(value: Any, kind: MappingField) -> tuple[Any, str]:
    if not isinstance(value, Mapping):
        return value, "must map texts to texts"
    if kind.structured:
        return dict(value), ""
    try:  # numbers as they are written, and nothing that is no text in a text's place
        texts = reading.texts({str(key): item for key, item in value.items()}, "it")
    except ValueError:
        return value, "must map texts to texts"
    if kind.max_entries and len(texts) > kind.max_entries:
        return value, f"must have at most {kind.max_entries} entries"
    return texts, ""


def parsed(field: OptionField, text: str) -> Any:
    """Return the value of a field that was written as text, by the field's kind: for a text, 3.10
    stays as it is. ValueError says what would be right."""
    kind, value = field.kind, json_value(text)
    if isinstance(kind, BoolField):
        value = reading.TRUTHS.get(text.strip().lower(), text)
    elif isinstance(kind, MappingField):
        value = value if isinstance(value, Mapping) else _pairs(text, kind.structured)
        if not isinstance(value, Mapping):
            raise ValueError(
                f"option {field.name} must map texts to"
                f" {'whatever YAML can say' if kind.structured else 'texts'}, as JSON"
                f' ({{"A": "b"}}) or as A=b,C=d, not {reading.shown(text)}'
            )
    elif isinstance(kind, IntField | FloatField) or not isinstance(value, str):
        value = text  # the text itself, unless it is one in quotes
    return checked(field, value)


def json_value(text: str) -> Any:
    """Return what a text says as JSON; the text itself if it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _pairs(text: str, structured: bool) -> Any:
    """Return values by name out of `A=1,B=2`; the text itself if it is none. They are texts, but
    what JSON can say where that may stand."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if not all(mark for _, mark, _ in pairs):
        return text
    return {name.strip(): json_value(one) if structured else one for name, _, one in pairs}


def _text(value: Any, kind: StringField) -> str:
    if not isinstance(value, str):
        return "must be a text"
    if kind.max_length and len(value) > kind.max_length:
        return f"must have at most {kind.max_length} characters"
    if kind.pattern and not re.fullmatch(kind.pattern, value):
        return f"must match {kind.pattern}"
    return ""
