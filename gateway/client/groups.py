"""Groups of commands whose refusals stay short, however long the word is that is refused: they
repeat it, and so does whatever shows them, such as a log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from gateway.printable import brief

MAX_REFUSAL = 500  # characters


class Commands(click.Group):
    """A group of commands."""

    def make_context(self, *words: Any, **more: Any) -> click.Context:
        """Read what stands before the command."""
        with _short():
            return super().make_context(*words, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Read what stands behind it, and run it."""
        with _short():
            return super().invoke(ctx)


@contextmanager
def _short() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        vars(error)["message"] = brief(error.message, MAX_REFUSAL)
        raise
