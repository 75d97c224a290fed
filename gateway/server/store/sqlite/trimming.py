"""How what clusters and users leave behind is kept small: the oldest rows go. Looks at the database
only when there may be too many.

What transactions of the same group have written and not sent yet is not counted; and what is
deleted here stays deleted though the transaction is undone that was the occasion: it was too much
without it.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from gateway.server.store import tables as t
from gateway.server.store.sqlite.counts import RowCounts

# events of a cluster that may be too many, so that they are not looked through with each
SLACK = 50


def trim_events(connection: Connection, uid: str, most: int) -> None:
    """Keep the newest events of a cluster."""
    c = t.event.c
    beyond = (
        select(c.sequence).where(c.uid == uid).order_by(c.sequence.desc()).offset(most).limit(1)
    )
    last = connection.execute(beyond).scalar()
    if last is not None:
        connection.execute(t.event.delete().where(c.uid == uid, c.sequence <= last))


def trim_events_of(
    connection: Connection, owner: str, counts: RowCounts, added: int, most: int
) -> None:
    """Keep the newest events of all clusters of a user, and a tenth more; 0: all."""
    there = counts.add(owner, added)
    if not most or (there is not None and there <= most + most // 10):
        return
    c = t.event.c
    theirs = c.uid.in_(select(t.cluster.c.uid).where(t.cluster.c.owner == owner))
    there = (
        connection.execute(select(func.count()).select_from(t.event).where(theirs)).scalar() or 0
    )
    if there > most + most // 10:
        oldest = select(c.sequence).where(theirs).order_by(c.sequence).limit(there - most)
        there -= connection.execute(t.event.delete().where(c.sequence.in_(oldest))).rowcount
    counts.know(owner, there)


def trim_effects_of(connection: Connection, user: str, counts: RowCounts, most: int) -> None:
    """Keep the newest remembered effects of a user, and a tenth more; 0: all."""
    there = counts.add(user, 1)
    if not most or (there is not None and there <= most + most // 10):
        return
    c = t.idempotency.c
    there = (
        connection.execute(
            select(func.count()).select_from(t.idempotency).where(c.user == user)
        ).scalar()
        or 0
    )
    if there > most + most // 10:
        beyond = (
            select(c.at)
            .where(c.user == user)
            .order_by(c.at.desc())
            .offset(most)
            .limit(1)
            .scalar_subquery()
        )
        there -= connection.execute(
            t.idempotency.delete().where(c.user == user, c.at <= beyond)
        ).rowcount
    counts.know(user, there)
