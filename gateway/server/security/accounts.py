"""Whose a user's name is, where the site's rule is a function: written down at the first sign-in,
in the database, and good for every server of it. So a name never becomes a second person's.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable

from gateway.server.store.contract import Store, Tx

KEPT = 10_000  # remembered in memory


class Accounts:
    """Names of people, by user and by the identity source that knows them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()

    def known(self, source: str, user: str) -> str | None:
        """Return whose a user's name is, as far as it is remembered."""
        return self._known.get((source, user))

    async def owner(self, source: str, user: str) -> str | None:
        """Return whose a user's name is, None if it is nobody's so far."""
        if (known := self._known.get((source, user))) is not None:
            return known
        found = await self._store.read(lambda tx: _read(tx, source, user))
        if found is not None:
            self._keep(source, user, found)
        return found

    async def claim(self, source: str, user: str, name: str, still: Callable[[str], bool]) -> str:
        """Return whose a user's name is: `name`'s, if it was nobody's. `still`: whether the rule
        gives the user to a name; where it does not any more, the name is free."""
        found = await self.owner(source, user)
        if found is not None and (found == name or still(found)):
            return found

        def take(tx: Tx) -> str:
            there = _read(tx, source, user)
            if there is not None and there != name and there != found:
                return there  # another server was quicker
            tx.put_meta(_key(source, user), json.dumps([source, user, name]).encode())
            return name

        taken = await self._store.transact(take)
        self._keep(source, user, taken)
        return taken

    def _keep(self, source: str, user: str, name: str) -> None:
        self._known[(source, user)] = name
        self._known.move_to_end((source, user))
        while len(self._known) > KEPT:
            self._known.popitem(last=False)


def _key(source: str, user: str) -> str:
    digest = hashlib.sha256(json.dumps([source, user]).encode()).hexdigest()
    return f"account:{digest[:40]}"


def _read(tx: Tx, source: str, user: str) -> str | None:
    raw = tx.meta(_key(source, user))
    if raw is None:
        return None
    try:
        of, for_whom, name = json.loads(raw)
    except (ValueError, TypeError):
        return None
    return name if (of, for_whom) == (source, user) and isinstance(name, str) else None
