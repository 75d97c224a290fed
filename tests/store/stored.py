"""What this version stores, as text: every field of a record and every column, with its type.

`python -m tests.store.stored` writes it down for a new schema version; what an older version stored
is never changed.
"""

from __future__ import annotations

import dataclasses
import enum
import pathlib
import sys
import typing
from collections.abc import Iterator

from gateway.server.core.model import Cluster, Token, Worker
from gateway.server.store import tables

PLACE = pathlib.Path(__file__).with_name("stored")


def written(version: int = tables.SCHEMA_VERSION) -> pathlib.Path:
    """Return the file that says what a schema version stores."""
    return PLACE / f"version-{version}.txt"


def stored() -> str:
    """Return what is stored, a line for each field, value and column."""
    records = {line for kind in (Cluster, Worker, Token) for line in _of(kind, set())}
    columns = {
        f"table {table.name}.{column.name}: {column.type}{'' if column.nullable else ' NOT NULL'}"
        for table in tables.metadata.tables.values()
        for column in table.columns
    }
    return "\n".join(sorted(records | columns)) + "\n"


def _of(kind: object, seen: set[object]) -> Iterator[str]:
    """Yield the fields of a dataclass, or the values of an enum, and of all that they are made
    of."""
    for argument in typing.get_args(kind):
        yield from _of(argument, seen)
    if not isinstance(kind, type) or kind in seen:
        return
    seen.add(kind)
    if issubclass(kind, enum.Enum):
        yield from (f"{kind.__name__}: {member.value}" for member in kind)
    elif dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            hint = hints[field.name]
            told = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
            yield f"{kind.__name__}.{field.name}: {told}"
            yield from _of(hint, seen)


if __name__ == "__main__":
    if written().exists() and written().read_text() != stored():
        sys.exit(
            f"schema version {tables.SCHEMA_VERSION} is written down: raise"
            " gateway.server.store.tables.SCHEMA_VERSION, and give it a step in migrations.py"
        )
    PLACE.mkdir(exist_ok=True)
    written().write_text(stored())
