"""How a database of an older version becomes one of this version: forward only, each step once, in
one transaction.

A newer version's database is used if that version says so: while servers are replaced one by one,
some of both run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, inspect, select, text

from gateway.server.store import tables
from gateway.server.store.contract import StoreError

VERSION_KEY = "schema_version"
READABLE_KEY = "readable_since"  # the oldest schema version whose programs may use the database

Migration = Callable[[Connection], None]


def _tokens_without_rights(connection: Connection) -> None:
    """Take out of tokens what their users were when they made them: that is asked with every
    call."""
    table = tables.token
    for found in connection.execute(select(table.c.id, table.c.document)).all():
        document = _object(found.document)
        kept = {name: value for name, value in document.items() if name not in ("admin", "groups")}
        if kept != document:
            connection.execute(
                table.update()
                .where(table.c.id == found.id)
                .values(document=json.dumps(kept, separators=(",", ":")))
            )


def _what_is_spent(connection: Connection) -> None:
    """Make the table of what was good for one use."""
    tables.spent.create(connection)


def _specs_apart(connection: Connection) -> None:
    """Move the wish for each cluster into a table of its own."""
    tables.spec.create(connection, checkfirst=True)
    table = tables.cluster
    for found in connection.execute(select(table.c.uid, table.c.document)).all():
        document = _object(found.document)
        if "spec" in document:
            spec = json.dumps(document.pop("spec"), separators=(",", ":"))
            connection.execute(tables.spec.insert().values(uid=found.uid, document=spec))
            connection.execute(
                table.update()
                .where(table.c.uid == found.uid)
                .values(document=json.dumps(document, separators=(",", ":")))
            )


def _signs_of_life(connection: Connection) -> None:
    """Nothing: records have new fields, whose defaults say that nobody asked for any of it."""


def _sessions(connection: Connection) -> None:
    """Nothing: a token has a new field, whose default says that it is no session's. Older programs
    take no session's token for one of theirs, by its form, and write no token twice."""


def _proofs(connection: Connection) -> None:
    """Nothing: a session has a new field, whose default says that it stands until it ends."""


def _names_end_with_the_wish(connection: Connection) -> None:
    """Let a name be free as soon as its cluster is told to stop."""
    there = {column["name"] for column in inspect(connection).get_columns("cluster")}
    if "holds_name" not in there:
        connection.execute(
            text("ALTER TABLE cluster ADD COLUMN holds_name BOOLEAN NOT NULL DEFAULT 0")
        )
    connection.execute(text("DROP INDEX IF EXISTS cluster_living_name"))
    table = tables.cluster
    for found in connection.execute(select(table.c.uid, table.c.finished, table.c.document)).all():
        holds = not found.finished and not _object(found.document).get("stop")
        connection.execute(table.update().where(table.c.uid == found.uid).values(holds_name=holds))
    for index in table.indexes:
        if index.name == "cluster_holds_name":
            index.create(connection, checkfirst=True)


def _gpus_and_named_resources(connection: Connection) -> None:
    """Nothing: records have new fields, whose defaults say that nobody asked for any of it."""


def _object(document: str) -> dict[str, object]:
    """Return what a record holds; nothing of one that cannot be read: it is told of, and passed
    over, when it is needed."""
    try:
        found = json.loads(document)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


# Step n brings version n to version n + 1. Version 1 is the first there was.
MIGRATIONS: Sequence[Migration] = (
    _tokens_without_rights,
    _what_is_spent,
    _specs_apart,
    _signs_of_life,
    _names_end_with_the_wish,
    _gpus_and_named_resources,
    _sessions,
    _proofs,
)


def migrate(connection: Connection) -> None:
    """Make or update the schema; StoreError if the database is too new for this program, or no
    database of ours."""
    names = set(inspect(connection).get_table_names())
    if not names:
        tables.metadata.create_all(connection)
        _write_version(connection, tables.SCHEMA_VERSION)
        return
    if "meta" not in names:
        raise StoreError(
            f"the database holds tables of another program ({sorted(names)[0]}); name another file"
        )
    version = _read(connection, VERSION_KEY)
    if version is None:
        raise StoreError("the database has no schema version; name another file")
    since = _read(connection, READABLE_KEY)
    if version > tables.SCHEMA_VERSION and (since is None or since > tables.SCHEMA_VERSION):
        raise StoreError(
            f"the database has schema version {version}, this program knows up to"
            f" {tables.SCHEMA_VERSION}; install a newer daskgateway"
        )
    for step in range(version, tables.SCHEMA_VERSION):
        MIGRATIONS[step - 1](connection)
        _write_version(connection, step + 1)


def _read(connection: Connection, key: str) -> int | None:
    value = connection.execute(select(tables.meta.c.value).where(tables.meta.c.key == key)).scalar()
    return int(value) if value is not None and value.isdigit() else None


def _write_version(connection: Connection, version: int) -> None:
    _write(connection, VERSION_KEY, version)
    _write(connection, READABLE_KEY, min(version, tables.READABLE_SINCE))


def _write(connection: Connection, key: str, version: int) -> None:
    connection.execute(tables.meta.delete().where(tables.meta.c.key == key))
    connection.execute(tables.meta.insert().values(key=key, value=str(version).encode()))
