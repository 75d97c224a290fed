"""Options as a form in a notebook: what is changed in the form is set in the options, and what is
set in the options shows in the form. A wrong value is told beside its field and changes nothing."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from gateway.client.calls import reading
from gateway.client.model.offer import (
    BoolField,
    FloatField,
    IntField,
    MappingField,
    OptionField,
    SelectField,
)

LEAST, MOST = -(2**53), 2**53  # whole numbers that a browser shows exactly


class Choosable(Protocol):
    """Options, as far as a form needs them."""

    fields: Mapping[str, OptionField]

    def __getitem__(self, name: str) -> Any: ...

    def __setitem__(self, name: str, value: Any) -> None: ...

    def described(self, name: str) -> tuple[str, str]:
        """Return what an option takes and what it means."""

    def watch(self, told: Callable[[str], None]) -> None:
        """Tell the name of whatever is set from now on."""


class Form:
    """The widgets of options, one for each."""

    def __init__(self, options: Choosable) -> None:
        import ipywidgets

        self._options = options
        self._kinds: Any = ipywidgets
        self.inputs: dict[str, Any] = {}
        self.words: dict[str, Any] = {}
        self._showing = False
        rows = [self._row(name, field) for name, field in options.fields.items()]
        self.widget = self._kinds.VBox(rows)
        options.watch(self._show)

    def _row(self, name: str, field: OptionField) -> Any:
        wide = self._kinds.Layout(width="14em")
        one = self.inputs[name] = _input(self._kinds, field, self._options[name], wide)
        self.words[name] = self._kinds.HTML(self._meaning(name))
        one.observe(lambda change: self._set(name, change["new"]), names="value")
        label = self._kinds.Label(field.label or name, layout=wide)
        return self._kinds.HBox([label, one, self.words[name]])

    def _meaning(self, name: str) -> str:
        return html.escape(": ".join(text for text in self._options.described(name) if text))

    def _set(self, name: str, shown: Any) -> None:
        if self._showing:
            return
        kind = self._options.fields[name].kind
        try:
            self._options[name] = pairs(shown) if isinstance(kind, MappingField) else shown
        except ValueError as error:
            self.words[name].value = f'<b style="color: #b00">{html.escape(str(error))}</b>'
        else:
            self.words[name].value = self._meaning(name)

    def _show(self, name: str) -> None:
        kind, value = self._options.fields[name].kind, self._options[name]
        shown = lines(value) if isinstance(kind, MappingField) else value
        one = self.inputs[name]
        if isinstance(kind, MappingField) and pairs_or_none(one.value) == dict(value):
            return  # as its user wrote it
        self._showing = True
        try:
            one.value = shown
            self.words[name].value = self._meaning(name)
        finally:
            self._showing = False


def _input(kinds: Any, field: OptionField, value: Any, layout: Any) -> Any:
    """Return the widget for an option's value."""
    kind = field.kind
    if isinstance(kind, BoolField):
        return kinds.Checkbox(value, indent=False, layout=layout)
    if isinstance(kind, SelectField):
        return kinds.Dropdown(options=list(kind.choices), value=value, layout=layout)
    if isinstance(kind, MappingField):
        return kinds.Textarea(lines(value), placeholder="NAME=text", layout=layout)
    if isinstance(kind, IntField | FloatField):
        bounded = kinds.BoundedIntText if isinstance(kind, IntField) else kinds.BoundedFloatText
        low = LEAST if kind.minimum is None else kind.minimum
        high = MOST if kind.maximum is None else kind.maximum
        return bounded(value, min=low, max=high, step=1, layout=layout)
    return kinds.Text(value, continuous_update=False, layout=layout)


def lines(value: Mapping[str, str]) -> str:
    """Return texts by name as a line each."""
    return "\n".join(f"{name}={text}" for name, text in value.items())


def pairs(text: str) -> dict[str, str]:
    """Return texts by name out of a line for each; ValueError names a line that is none."""
    found = {}
    for line in text.splitlines():
        name, equals, one = line.partition("=")
        if line.strip() and not equals:
            raise ValueError(f"{reading.shown(line)} is no line like NAME=text")
        if line.strip():
            found[name.strip()] = one
    return found


def pairs_or_none(text: str) -> dict[str, str] | None:
    """Return texts by name, None while a line is none."""
    try:
        return pairs(text)
    except ValueError:
        return None
