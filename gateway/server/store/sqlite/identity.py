"""Which database it is, and whether it is the one that the server last used.

A database that is older than what was last used, such as a backup, goes on under an identity of its
own: what was done since the backup is not in it, and never will be. Its revisions go on beyond
those that were given out, so that none of them means two things: who resumes a watch from one of
those is told to list again.
"""

from __future__ import annotations

import os

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from gateway.server.store import tables as t
from gateway.server.store.contract import Last
from gateway.server.store.sqlite.revisions import COMPACTED_KEY, REVISION_KEY, revision_of

IDENTITY_KEY = "identity"
AHEAD = 100_000  # revisions that may have been given out since it was last written down what was


def recognize(connection: Connection, last: Last | None) -> tuple[str, str]:
    """Return the database's identity, and why it is not what was last used (an empty text if it
    is)."""
    stored = connection.execute(select(t.meta.c.value).where(t.meta.c.key == IDENTITY_KEY)).scalar()
    identity, revision = _identity(stored), revision_of(connection)
    why = _why(identity, revision, last)
    if last is not None and revision < last.revision:
        _put(connection, REVISION_KEY, str(last.revision + AHEAD))
        _put(connection, COMPACTED_KEY, str(last.revision + AHEAD))
    if not identity or (last is not None and why and identity == last.identity):
        identity = os.urandom(16).hex()
        _put(connection, IDENTITY_KEY, identity)
    return identity, why


def _identity(stored: object) -> str:
    if stored is not None and not (isinstance(stored, bytes) and stored.isalnum()):
        raise ValueError(f"its identity is {str(stored)[:50]}")
    return stored.decode() if stored is not None else ""


def _why(identity: str, revision: int, last: Last | None) -> str:
    if last is None:
        return ""
    used = f"the one that this server last used, which had come to revision {last.revision}"
    if revision == 0:
        return f"is empty, and not {used}"
    if identity == last.identity:
        return (
            f"is older than {used}: it ends at revision {revision}"
            if revision < last.revision
            else ""
        )
    return f"is not {used}"


def _put(connection: Connection, key: str, value: str) -> None:
    row = insert(t.meta).values(key=key, value=value.encode())
    connection.execute(
        row.on_conflict_do_update(index_elements=["key"], set_={"value": row.excluded.value})
    )
