"""Clusters that live on although their owner is no user any more: an administrator is told, since
nobody else can stop them before their own times do."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial

from gateway.server.core.conditions import of_owner
from gateway.server.core.errors import IdentityUnavailable
from gateway.server.core.model import Cluster, Event, Principal
from gateway.server.core.reasons import Reason
from gateway.server.store.contract import Store, StoreError, Tx

logger = logging.getLogger(__name__)

LOOK_S = 3600.0  # between two looks; the first is at the start
MAX_TOLD = 20  # users with a line of their own in one look
AT_ONCE = 100  # clusters changed in one transaction


class Owners:
    """Looks whether those are users who have living clusters."""

    def __init__(
        self,
        store: Store,
        person: Callable[[str], Awaitable[Principal | None]],
        now: Callable[[], int],
    ) -> None:
        """`person`: who a user is, None if there is no such user; IdentityUnavailable. `now`: ms
        since the epoch."""
        self._store, self._person, self._now = store, person, now
        self._told: set[str] = set()  # users that the log has named

    async def keep(self) -> None:
        """Look now, and from time to time."""
        while True:
            try:
                await self.look()
            except StoreError as error:
                logger.debug("owners of clusters were not looked at: %s", error)
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Ask about every owner; tell the log of those that are no users, once, and of each of
        their clusters its condition. Of one whom nobody can tell about now, what was told holds."""
        living = defaultdict[str, list[Cluster]](list)
        for cluster in self._store.view.clusters():
            if _lives(cluster):
                living[cluster.owner].append(cluster)
        unknown = list[str]()
        for owner, clusters in sorted(living.items()):
            try:
                known = await self._person(owner) is not None
            except IdentityUnavailable as error:
                logger.debug("whether %s is a user cannot be told: %s", owner, error)
                continue
            if not known:
                unknown.append(owner)
            else:
                self._told.discard(owner)
            await self._note(clusters, known=known)
        new = [owner for owner in unknown if owner not in self._told]
        for owner in new[:MAX_TOLD]:
            _warn(owner, len(living[owner]))
        if rest := new[MAX_TOLD:]:
            logger.warning("so it is with %d clusters of %d more", _sum(living, rest), len(rest))
        self._told = set(unknown) | (self._told & living.keys())

    async def _note(self, clusters: list[Cluster], *, known: bool) -> None:
        now = self._now()
        changed = [one.uid for one in clusters if of_owner(one, known=known, now=now) is not one]
        for start in range(0, len(changed), AT_ONCE):
            uids = changed[start : start + AT_ONCE]
            await self._store.transact(partial(_put, uids=uids, known=known, now=now))


def _put(tx: Tx, uids: list[str], known: bool, now: int) -> None:
    for cluster in filter(None, map(tx.cluster, uids)):
        after = of_owner(cluster, known=known, now=now)
        if after is cluster or not _lives(cluster):
            continue
        tx.put_cluster(after)
        reason = Reason.OWNER_KNOWN if known else Reason.OWNER_UNKNOWN
        words = "its owner is a user again" if known else after.conditions[-1].message
        tx.add_events([Event(cluster.uid, now, reason, words)])


def _lives(cluster: Cluster) -> bool:
    return not cluster.state.finished and cluster.stop is None


def _sum(living: dict[str, list[Cluster]], owners: list[str]) -> int:
    return sum(len(living[owner]) for owner in owners)


def _warn(owner: str, count: int) -> None:
    logger.warning(
        "user %s is no user any more, and %d of this user's clusters %s: an administrator stops"
        " them (`daskgateway clusters stop %s/NAME`; `daskgateway clusters list --everybody` says"
        " which they are), or their own times do",
        owner,
        count,
        "lives on" if count == 1 else "live on",
        owner,
    )
