"""Slurm in two ways at a time: by its commands for jobs of the gateway's own account, by slurmrestd
for everybody else's. So it is where the administrator has changed between identities `service` and
`user-token` while clusters live."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from gateway.backends.batch.system import (
    BatchSystem,
    Cancel,
    Job,
    Listed,
    Order,
    answered,
    raise_first,
)


class OwnByCommands:
    """A batch_system.BatchSystem out of two."""

    def __init__(self, own: str, by_commands: BatchSystem, by_rest: BatchSystem) -> None:
        self._own, self._by_commands, self._by_rest = own, by_commands, by_rest

    def _of(self, account: str) -> BatchSystem:
        return self._by_commands if account == self._own else self._by_rest

    def _parts(self, accounts: Collection[str]) -> dict[BatchSystem, list[str]]:
        """Return whom to ask about which accounts."""
        parts: dict[BatchSystem, list[str]] = {}
        for account in sorted(accounts):
            parts.setdefault(self._of(account), []).append(account)
        return parts

    async def submit(self, order: Order) -> str:
        """Submit as the account that the order is of."""
        return await self._of(order.user).submit(order)

    async def cancel(self, cancels: Sequence[Cancel]) -> Collection[str]:
        """Cancel each as its account."""
        parts: dict[BatchSystem, list[Cancel]] = {}
        for one in cancels:
            parts.setdefault(self._of(one.user), []).append(one)
        results = await asyncio.gather(
            *(system.cancel(part) for system, part in parts.items()), return_exceptions=True
        )
        raise_first(results)
        return [
            one
            for found in results
            if found and not isinstance(found, BaseException)
            for one in found
        ]

    async def jobs(self, users: Collection[str]) -> Listed:
        """List by both; where one does not answer, nothing is said of its accounts."""
        parts = self._parts(users)
        askers = [", ".join(accounts) for accounts in parts.values()]
        results = await asyncio.gather(
            *(system.jobs(accounts) for system, accounts in parts.items()), return_exceptions=True
        )
        lists, failed = answered(askers, results)
        untold = {
            account: failed[asker]
            for asker, accounts in zip(askers, parts.values())
            if asker in failed
            for account in accounts
        }
        for found in lists:
            untold |= found.untold
        jobs = [job for found in lists for job in found.jobs]
        return Listed(jobs, untold, all(found.sure for found in lists))

    async def ended(self, ids: Collection[str], users: Collection[str]) -> Sequence[Job]:
        """Return what accounting knows of jobs of the gateway's own account: of others' it is not
        asked."""
        return await self._by_commands.ended(ids, [self._own]) if self._own in users else []
