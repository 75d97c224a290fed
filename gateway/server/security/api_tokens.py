"""The gateway's own tokens, those of sessions too, as they are stored, looked up with every call.
What their users may do is not their business."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.server.core.model import Token
from gateway.server.security import tokens
from gateway.server.store.contract import Store

KEPT = 10_000  # tokens whose record is kept in memory
KEPT_S = 5.0  # and for how long: another server's revocation takes so long to be seen, our own none


class ApiTokens:
    """Looks tokens up."""

    def __init__(self, store: Store, now: Callable[[], int]) -> None:
        self._store, self._now = store, now
        self._kept: OrderedDict[str, tuple[float, Token | None]] = OrderedDict()
        self._revocations = 0  # seen here

    async def shown(self, token_id: str, text: str) -> Token | None:
        """Return the token of a well-formed text, None if it is unknown, wrong, expired or
        revoked."""
        until, token = self._kept.get(token_id, (0.0, None))
        if until <= time.monotonic():
            token = await self._read(token_id)
        elif token is not None and token.good_until <= self._now() < token.expires_at:
            token = await self._read(token_id)  # another server may have renewed the session
        if (
            token is None
            or not tokens.matches(text, token.secret_hash)
            or token.good_until <= self._now()
        ):
            return None
        return token

    async def living(self, token_id: str) -> Token | None:
        """Return a token whose secret was shown before, None if it has expired or was revoked
        since. What a session opened outlasts the session's token, until it can no longer be
        renewed."""
        until, token = self._kept.get(token_id, (0.0, None))
        if until <= time.monotonic():
            token = await self._read(token_id)
        return token if token is not None and token.expires_at > self._now() else None

    async def _read(self, token_id: str) -> Token | None:
        revocations = self._revocations
        token = await self._store.read(lambda tx: tx.token(token_id))
        # What is not there may be made at any time, and guesses must not fill the memory. What was
        # read may have been revoked since.
        if token is not None and revocations == self._revocations:
            self._kept[token_id] = (time.monotonic() + KEPT_S, token)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return token

    def forget(self, token_id: str) -> None:
        """Drop what is kept of a token that was revoked."""
        self._revocations += 1
        self._kept.pop(token_id, None)
