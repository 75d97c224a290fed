"""Who is told when a cluster changes: subscriptions, found by what they ask for. Lives on the event
loop.

A change costs what its own subscribers cost: nobody else is asked whether they want it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterator, Sequence

from gateway.server.store.contract import Change, Interest

_EVERYBODY = "*"


class MemorySubscription:
    """Changes for one reader: at most one for each cluster, the latest."""

    def __init__(
        self,
        interest: Interest,
        revision: Callable[[], int],
        leave: Callable[[MemorySubscription], None],
    ) -> None:
        self.interest = interest
        self._revision, self._leave = revision, leave
        self._changes: dict[str, Change] = {}
        self._waiting: asyncio.Future[None] | None = None
        self._closed = False

    def offer(self, change: Change) -> None:
        """Take a change."""
        self._changes[change.uid] = change
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def next(self, timeout_s: float | None = None) -> tuple[Sequence[Change], int]:
        """Wait for changes; return them in order of revision, with the revision up to which nothing
        is missing."""
        if not self._changes and not self._closed:
            await self._wait(timeout_s)
        changes = (
            sorted(self._changes.values(), key=_revision_of)
            if len(self._changes) > 1
            else list(self._changes.values())
        )
        self._changes = {}
        return changes, self._revision()

    async def _wait(self, timeout_s: float | None) -> None:
        """Wait until there is something. A plain future and timer: thousands of streams wait like
        this, and all wake at once."""
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        timer = None if timeout_s is None else loop.call_later(timeout_s, self._wake)
        try:
            await self._waiting
        finally:
            self._waiting = None
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """Stop receiving."""
        self._closed = True
        self._wake()
        self._leave(self)


def _revision_of(change: Change) -> int:
    return change.revision


class Subscriptions:
    """Every subscription, by what it asks for."""

    def __init__(self) -> None:
        # in the order of their coming
        self._by: dict[Hashable, dict[MemorySubscription, None]] = {}

    def add(self, subscription: MemorySubscription) -> None:
        """Take a subscription in."""
        for key in _keys(subscription.interest):
            self._by.setdefault(key, {})[subscription] = None

    def remove(self, subscription: MemorySubscription) -> None:
        """Let a subscription go; nothing happens if it is gone already."""
        for key in _keys(subscription.interest):
            there = self._by.get(key)
            if there is not None:
                there.pop(subscription, None)
                if not there:
                    del self._by[key]

    def tell(self, change: Change) -> None:
        """Offer a change to all who ask for it."""
        for key in ((change.uid,), (change.owner, change.cluster_id), change.owner, _EVERYBODY):
            for subscription in tuple(self._by.get(key, ())):
                if subscription.interest.wants(change.owner, change.cluster_id, change.uid):
                    subscription.offer(change)


def _keys(interest: Interest) -> Iterator[Hashable]:
    """Yield where a subscription is looked for: at each uid and name it asks for, else at its
    owner, else at everybody's."""
    if interest.uids is not None:
        yield from ((uid,) for uid in interest.uids)
        yield from interest.names
    else:
        yield _EVERYBODY if interest.owner is None else interest.owner
