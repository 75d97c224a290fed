"""Statements of SQLAlchemy Core that are run thousands of times a second: compiled once, then
handed to the driver as text.

Core's own way from a statement to the driver costs about ten times what SQLite needs to run it. And
each statement that is sent lets go of Python's lock: to take it back from a busy event loop costs
several times as much again, so many rows go as one statement. Knows no table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import BindParameter, bindparam
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement

CHUNKS = (64, 16, 4, 1)  # rows of one statement: few sizes, so that few texts are compiled and kept


class Cursor(Protocol):
    """What is used of a driver's cursor (PEP 249)."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Any:
        """Run a statement."""

    def fetchone(self) -> Any:
        """Return a row, None if there is no more."""

    def fetchall(self) -> Any:
        """Return all rows."""


class Prepared:
    """One statement. Its values must be what the driver takes as they are: texts, numbers,
    bytes."""

    def __init__(self, statement: ClauseElement, columns: Sequence[str] = ()) -> None:
        self._statement, self._columns = statement, list(columns) or None
        # text and order of its values, by dialect
        self._compiled: dict[str, tuple[str, Sequence[str] | None]] = {}

    def _text(self, dialect: Dialect) -> tuple[str, Sequence[str] | None]:
        found = self._compiled.get(dialect.name)
        if found is None:
            compiled: Any = self._statement.compile(dialect=dialect, column_keys=self._columns)
            found = self._compiled[dialect.name] = (
                str(compiled),
                compiled.positiontup if compiled.positional else None,
            )
        return found

    def run(self, cursor: Cursor, dialect: Dialect, values: Mapping[str, Any]) -> Cursor:
        """Run it once."""
        text, order = self._text(dialect)
        cursor.execute(text, values if order is None else [values[name] for name in order])
        return cursor


Binds = Sequence[Mapping[str, BindParameter[Any]]]
# text; row and column of each value; whether they go by place
_Compiled = tuple[str, Mapping[str, tuple[int, str]], bool]


class PreparedRows:
    """One statement for some rows at a time: `make` returns it for the places of so many rows, each
    a mapping by column."""

    def __init__(self, make: Callable[[Binds], ClauseElement], columns: Sequence[str]) -> None:
        self._make, self._columns = make, columns
        self._compiled: dict[tuple[str, int], _Compiled] = {}  # by dialect and number of rows

    def _text(self, dialect: Dialect, count: int) -> _Compiled:
        found = self._compiled.get((dialect.name, count))
        if found is None:
            places = {
                f"{column}_{n}": (n, column) for n in range(count) for column in self._columns
            }
            binds: Binds = [
                {column: bindparam(f"{column}_{n}") for column in self._columns}
                for n in range(count)
            ]
            compiled: Any = self._make(binds).compile(dialect=dialect)
            if compiled.positional:
                places = {name: places[name] for name in compiled.positiontup}
            found = self._compiled[dialect.name, count] = (
                str(compiled),
                places,
                compiled.positional,
            )
        return found

    def run(self, cursor: Cursor, dialect: Dialect, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it for rows, in their order."""
        begun = 0
        for size in CHUNKS:
            while len(rows) - begun >= size:
                text, places, positional = self._text(dialect, size)
                if positional:
                    cursor.execute(text, [rows[begun + n][column] for n, column in places.values()])
                else:
                    cursor.execute(
                        text,
                        {name: rows[begun + n][column] for name, (n, column) in places.items()},
                    )
                begun += size
