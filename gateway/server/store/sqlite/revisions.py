"""Revisions as a database keeps them, read with doubt: a damaged one would be the end of every
commit, far from where it stands."""

from __future__ import annotations

from sqlalchemy import Connection, select

from gateway.server.store import tables as t
from gateway.server.store.contract import MAX_REVISION

# the last that was given out, and the last that is forgotten
REVISION_KEY, COMPACTED_KEY = "revision", "compacted_revision"


def revision_of(connection: Connection, key: str = REVISION_KEY) -> int:
    """Return a revision, 0 in a new database; ValueError if what stands there is none."""
    stored = connection.execute(select(t.meta.c.value).where(t.meta.c.key == key)).scalar()
    if stored is None:
        return 0
    plain = isinstance(stored, bytes) and stored.isdigit() and len(stored) <= len(str(MAX_REVISION))
    if not plain or int(stored) > MAX_REVISION:
        raise ValueError(
            f"{key} is {str(stored)[:50]}; it must be a whole number between 0 and {MAX_REVISION}"
        )
    return int(stored)
