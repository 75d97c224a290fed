"""Statements of SQLAlchemy Core that are run thousands of times a second: compiled once, then handed to the driver as text.

Core's own way from a statement to the driver costs about ten times what SQLite needs to run it. Knows no table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement


class Cursor(Protocol):
    """What is used of a driver's cursor (PEP 249)."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Any:
        """Run a statement."""

    def executemany(self, sql: str, parameters: Any, /) -> Any:
        """Run a statement for each of many."""

    def fetchone(self) -> Any:
        """Return a row, None if there is no more."""

    def fetchall(self) -> Any:
        """Return all rows."""


class Prepared:
    """One statement. Its values must be what the driver takes as they are: texts, numbers, bytes."""

    def __init__(self, statement: ClauseElement, columns: Sequence[str] = ()) -> None:
        self._statement, self._columns = statement, list(columns) or None
        self._compiled: dict[str, tuple[str, Sequence[str] | None]] = {}  # text and order of its values, by dialect

    def _text(self, dialect: Dialect) -> tuple[str, Sequence[str] | None]:
        found = self._compiled.get(dialect.name)
        if found is None:
            compiled: Any = self._statement.compile(dialect=dialect, column_keys=self._columns)
            found = self._compiled[dialect.name] = (str(compiled), compiled.positiontup if compiled.positional else None)
        return found

    def run(self, cursor: Cursor, dialect: Dialect, values: Mapping[str, Any]) -> Cursor:
        """Run it once."""
        text, order = self._text(dialect)
        cursor.execute(text, values if order is None else [values[name] for name in order])
        return cursor

    def run_many(self, cursor: Cursor, dialect: Dialect, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it for each of many rows."""
        text, order = self._text(dialect)
        cursor.executemany(text, rows if order is None else [[row[name] for name in order] for row in rows])
