"""A transaction that is one of a group: what it writes waits in memory until the group is whole,
and it is undone by itself."""

from __future__ import annotations

from sqlalchemy import Connection

from gateway.server.store.sqlite.pending import Pending
from gateway.server.store.sqlite.prepared import Cursor


class GroupLost(Exception):
    """What earlier transactions of the group wrote did not reach the database: nothing of the group
    can be kept."""


class Grouped:
    """What is written most waits in memory until the group is whole. Whatever must see it in the
    database goes through `_database`.

    `before`: what others in its group wrote; None without a group.
    """

    def __init__(
        self, connection: Connection, revision: int, cursor: Cursor | None, before: Pending | None
    ) -> None:
        self._connection, self._before = connection, before
        self._revision = revision  # what this transaction's writes are stamped with
        self._dialect = connection.dialect
        self._cursor: Cursor = connection.connection.cursor() if cursor is None else cursor
        self._pending = Pending()
        self._savepoint = False
        self.wrote = False

    def _stamp(self) -> int:
        self.wrote = True
        return self._revision

    def _database(self) -> Connection:
        """Return the connection, once the database knows all that was written; what this
        transaction does there can be undone by itself."""
        if self._before is not None and not self._savepoint:
            try:
                self._before.write(self._cursor, self._dialect)
            except Exception as error:  # some of it may be there, and would be written again
                raise GroupLost(str(error) or type(error).__name__) from error
            self._cursor.execute("SAVEPOINT job")
            self._savepoint = True
        self._pending.write(self._cursor, self._dialect)
        return self._connection

    def _written(self) -> None:
        """Let what was written wait for the group's end, if there is a group."""
        if self._before is None:
            self._database()

    def keep(self) -> None:
        """End the transaction well: what it wrote is the group's."""
        if self._savepoint:
            self._cursor.execute("RELEASE job")
        if self._before is not None:
            self._before.take(self._pending)

    def undo(self) -> None:
        """End the transaction as if it had not been."""
        if self._savepoint:
            self._cursor.execute("ROLLBACK TO job")
            self._cursor.execute("RELEASE job")
