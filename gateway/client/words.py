"""How the words of a command line are read: options by their kind, durations and sizes as
everywhere else in the client."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from gateway.client.calls import reading
from gateway.client.calls.options import Options, parsed
from gateway.printable import brief

F = TypeVar("F", bound=Callable[..., Any])


def options(offered: Options, pairs: Sequence[str]) -> dict[str, Any]:
    """Return options out of `name=value` words; a value is read by the kind of its option."""
    chosen: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_") if name.strip() not in offered else name.strip()
        if name in chosen:
            raise ValueError(f"-o {brief(pair)}: {brief(name)} is given twice")
        if not equals:
            raise ValueError(f"-o {brief(pair)}: options look like name=value")
        if name not in offered:
            hint = reading.meant(name, offered) or "; see `daskgateway options`"
            raise ValueError(f"-o {brief(pair)}: there is no option {brief(name)}{hint}")
        chosen[name] = parsed(offered.fields[name], text)
    return chosen


class Read(click.ParamType):  # type: ignore[type-arg]
    """A word of the command line that the client's own reader takes."""

    def __init__(self, name: str, read: Callable[[Any, str], Any]) -> None:
        self.name, self._read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what a word says, or tell in one line why it says nothing."""
        what = max(param.opts, key=len) if param is not None else self.name
        try:
            return self._read(value, what)
        except ValueError as error:
            return self.fail(str(error), param, ctx)


SPAN = Read("duration", reading.seconds)
SIZE = Read("number", reading.sizing)
TIMEOUTS = (
    ("--idle-timeout", "How long it may have neither task nor client, such as '1 hour'."),
    ("--max-lifetime", "How long it may live until it is stopped."),
    (
        "--no-task-timeout",
        "How long it may have no task, whoever is connected, until it is stopped.",
    ),
    ("--no-client-timeout", "How long it may run without a client until it is stopped."),
)


def lives(command: F) -> F:
    """Add the durations of a cluster's life to a command."""
    for name, words in reversed(TIMEOUTS):
        words += " 'never' is for ever."
        command = click.option(name, type=SPAN, default=None, metavar="DURATION", help=words)(
            command
        )
    return command


def labels(pairs: Sequence[str]) -> dict[str, str]:
    """Return labels out of `name=text` words."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"--label {brief(pair)}: labels look like name=text")
        if found.get(name, text) != text:
            raise ValueError(f"--label {pair}: {name} is given twice")
        found[name] = text
    return found
