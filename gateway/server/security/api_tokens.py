"""Who somebody is, by an API token of the gateway's own."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.server.core.model import Principal, Token
from gateway.server.security import tokens
from gateway.server.store.contract import Store

KEPT = 10_000  # tokens whose record is kept in memory
KEPT_S = 5.0  # and for how long: another server's revocation takes so long to be seen, our own none


class ApiTokens:
    """Looks tokens up."""

    def __init__(self, store: Store, now: Callable[[], int]) -> None:
        self._store, self._now = store, now
        self._kept: OrderedDict[str, tuple[float, Token | None]] = OrderedDict()
        self._held: dict[str, dict[object, Callable[[], None]]] = {}  # what ends each open stream, by token

    async def authenticate(self, text: str) -> Principal | None:
        """Return whose token this is, None if it is malformed, unknown, wrong, expired or revoked."""
        parsed = tokens.parse(text)
        if parsed is None or parsed[0] != "api":
            return None
        token = await self._token(parsed[1])
        if token is None or not tokens.matches(text, token.secret_hash) or token.expires_at <= self._now():
            return None
        return Principal(token.user, token.admin, token.groups, token.scopes)

    async def _token(self, token_id: str) -> Token | None:
        until, token = self._kept.get(token_id, (0.0, None))
        if until > time.monotonic():
            return token
        token = await self._store.read(lambda tx: tx.token(token_id))
        if token is not None:  # what is not there may be made at any time, and guesses must not fill the memory
            self._kept[token_id] = (time.monotonic() + KEPT_S, token)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return token

    def forget(self, token_id: str) -> None:
        """Drop what is kept of a token, and end the streams it opened."""
        self._kept.pop(token_id, None)
        for end in tuple(self._held.get(token_id, {}).values()):
            end()

    def hold(self, text: str, end: Callable[[], None]) -> Callable[[], None]:
        """Call `end` when a token that was just let in expires or is forgotten, until what is returned is called."""
        parsed = tokens.parse(text)
        assert parsed is not None, "it was let in"
        token_id, key = parsed[1], object()
        _, token = self._kept.get(token_id, (0.0, None))
        left_s = (token.expires_at - self._now()) / 1000 if token is not None else 0.0
        timer = asyncio.get_running_loop().call_later(max(0.0, left_s), end)
        self._held.setdefault(token_id, {})[key] = end

        def let_go() -> None:
            timer.cancel()
            held = self._held.get(token_id, {})
            held.pop(key, None)
            if not held:
                self._held.pop(token_id, None)

        return let_go
