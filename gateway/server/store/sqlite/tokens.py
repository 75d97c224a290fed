"""API tokens, and what may be used once, in SQL."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from sqlalchemy import and_, func, or_, select
from sqlalchemy.dialects.sqlite import insert

from gateway.server.core.model import Token
from gateway.server.store import tables as t
from gateway.server.store.codec import encode
from gateway.server.store.sqlite.grouped import Grouped
from gateway.server.store.sqlite.pending import row
from gateway.server.store.sqlite.unreadable import readable, token_of


class TokenRows(Grouped):
    """The part of contract.Tx that is about tokens."""

    def token(self, token_id: str) -> Token | None:
        c = t.token.c
        found = (
            self._database()
            .execute(select(c.id, c.document, c.secret_hash).where(c.id == token_id))
            .one_or_none()
        )
        return _token(*found) if found is not None else None

    def put_token(self, token: Token) -> None:
        self._stamp()
        self._database().execute(
            t.token.insert().values(
                id=token.id,
                user=token.user,
                created_at=token.created_at,
                expires_at=token.expires_at,
                secret_hash=token.secret_hash,
                document=encode(replace(token, secret_hash=b"")),
            )
        )

    def delete_token(self, token_id: str) -> bool:
        deleted = (
            self._database().execute(t.token.delete().where(t.token.c.id == token_id)).rowcount > 0
        )
        if deleted:
            self._stamp()
        return deleted

    def tokens(
        self, user: str, *, before: tuple[int, str] | None = None, limit: int = 50
    ) -> list[Token]:
        c = t.token.c
        query = (
            select(c.id, c.document, c.secret_hash)
            .where(c.user == user)
            .order_by(c.created_at.desc(), c.id.desc())
        )
        if before is not None:
            query = query.where(
                or_(c.created_at < before[0], and_(c.created_at == before[0], c.id < before[1]))
            )
        return readable((_token(*found) for found in self._database().execute(query)), limit)

    def count_tokens(self, user: str) -> int:
        return (
            self._database()
            .execute(select(func.count()).select_from(t.token).where(t.token.c.user == user))
            .scalar()
            or 0
        )

    def forget_tokens(self, user: str, before_at: int) -> None:
        if (
            self._database()
            .execute(
                t.token.delete().where(t.token.c.user == user, t.token.c.expires_at < before_at)
            )
            .rowcount
        ):
            self._stamp()

    def spend(self, spent_id: str, user: str, expires_at: int, now: int) -> bool:
        c, connection = t.spent.c, self._database()
        connection.execute(t.spent.delete().where(c.user == user, c.expires_at <= now))
        row(id=spent_id, user=user, expires_at=expires_at)  # which refuses what no row can have
        inserting = (
            insert(t.spent)
            .values(id=spent_id, user=user, expires_at=expires_at)
            .on_conflict_do_nothing()
        )
        self._stamp()
        return connection.execute(inserting).rowcount > 0

    def spent(self, ids: Collection[str]) -> set[str]:
        return set(
            self._database()
            .execute(select(t.spent.c.id).where(t.spent.c.id.in_(list(ids))))
            .scalars()
        )

    def count_spent(self, user: str) -> int:
        return (
            self._database()
            .execute(select(func.count()).select_from(t.spent).where(t.spent.c.user == user))
            .scalar()
            or 0
        )


def _token(token_id: str, document: str, secret_hash: bytes) -> Token | None:
    found = token_of(token_id, document)
    return replace(found, secret_hash=secret_hash) if found is not None else None
