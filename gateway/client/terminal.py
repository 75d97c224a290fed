"""How the command line shows what it is told: tables, JSON, one line for an error. Nothing in it
acts on the terminal."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from gateway.client.calls import errors
from gateway.client.model import Answer
from gateway.printable import printable


def any_text(*streams: Any) -> None:
    """Let streams show what their encoding has no characters for, as escapes: a terminal that knows
    ASCII only is no reason to fail."""
    for stream in streams:
        if hasattr(stream, "reconfigure") and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Tell the client's own warnings on standard error as people read them, without a place in
    code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", errors.GatewayWarning)
        shown, said = warnings.showwarning, set[str]()

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, errors.GatewayWarning):
                if str(message) not in said:
                    say(f"daskgateway: {message}", err=True)
                said.add(str(message))
            else:
                shown(message, category, *rest, **more)

        warnings.showwarning = show
        yield


def say(words: str, *, err: bool = False) -> None:
    """Print what is for people."""
    click.echo(printable(words), err=err)


def secret(question: str) -> str:
    """Return what a user answers, which nobody sees; a line of standard input where that is no
    terminal."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    answer: str = click.prompt(printable(question), prompt_suffix="", hide_input=True, err=True)
    return answer


def fail(words: str, code: int = 1) -> None:
    say(f"daskgateway: {words}", err=True)
    sys.exit(code)


def print_json(value: Any) -> None:
    click.echo(as_json(value, indent=2))


def as_json(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON, in printable ASCII: the same to whoever reads it, and nothing that a
    terminal acts on."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


def plain(answer: Answer[Message]) -> dict[str, Any]:
    """Return an answer as JSON has it: in the protocol's own words, as every other client sees
    it."""
    told = MessageToDict(answer.proto)
    return {name: whole(one) for name, one in told.items()}


def whole(value: Any) -> Any:
    """Return a value with whole numbers as such: the protocol knows only decimal ones in options,
    and 60 is no 60.0."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {name: whole(one) for name, one in value.items()}
    return [whole(one) for one in value] if isinstance(value, list) else value


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their headings: aligned, plain where the output is no terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(printable(cell) for cell in row))
    width = None if sys.stdout.isatty() else 200
    Console(width=width, markup=False, highlight=False, emoji=False).print(table)
