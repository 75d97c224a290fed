"""Tokens of a user, and which of them were made by which: those end together."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.server.core.model import Token
from gateway.server.store.contract import Tx

TOKENS_PAGE = 1000  # read at a time


def all_tokens(tx: Tx, user: str) -> Sequence[Token]:
    """Return all tokens of a user, newest first; those of sessions too."""
    found: list[Token] = []
    while page := tx.tokens(
        user, before=(found[-1].created_at, found[-1].id) if found else None, limit=TOKENS_PAGE
    ):
        found += page
    return found


def made_by(token_id: str, tokens: Sequence[Token]) -> Sequence[str]:
    """Return the ids of those made by a token, by one of these, and so on."""
    made: list[str] = []
    above = {token_id}
    while above:
        above = {token.id for token in tokens if token.parent in above}
        made += sorted(above)
    return made
