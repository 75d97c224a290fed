"""How a cluster object hears of its scheduler's workers, also once the way to it has been
broken."""

from __future__ import annotations

import asyncio
from typing import Any

from distributed.core import Status
from distributed.deploy.cluster import Cluster
from distributed.objects import SchedulerInfo

from gateway.client.dask import ownership

# between two attempts to hear of a cluster whose scheduler cannot be reached
FOLLOW_RETRY_S = (0.2, 5.0)


class Following(Cluster):
    """Follows the scheduler's workers. When the way to it breaks, follows again until the gateway
    says that the cluster has ended."""

    _again: asyncio.Future[Any] | None = None  # an attempt to follow again
    scheduler_comm: Any
    _ending: asyncio.Future[None]

    async def _has_ended(self) -> bool:
        """Whether the gateway says so; not if it says nothing."""
        raise NotImplementedError

    async def _watch_worker_status(self, comm: Any) -> None:
        while comm is not None:
            await super()._watch_worker_status(comm)
            self._again = asyncio.ensure_future(self._follow_again())
            try:
                await asyncio.wait([self._again])
                comm = None if self._again.cancelled() else self._again.result()
            finally:
                self._again.cancel()

    def _follows(self) -> bool:
        return self.status in (Status.starting, Status.running)

    async def _follow_again(self) -> Any:
        wait_s = FOLLOW_RETRY_S[0]
        while self._follows():
            try:
                if await self._has_ended():
                    # In a task of its own: closing waits for the one that this runs in.
                    self._ending = asyncio.ensure_future(self._close_with_clients())
                    return None
                comm = await self.scheduler_comm.live_comm()
                comm.name = "Cluster worker status"
                await comm.write({"op": "subscribe_worker_status"})
                self.scheduler_info = SchedulerInfo(await comm.read())
                # and Dask's code has lost the cancellation, as it does now and then
                if not self._follows():
                    await comm.close()
                    return None
                self._watch_worker_status_comm = comm
                return comm
            except OSError:
                await asyncio.sleep(wait_s)
                wait_s = min(FOLLOW_RETRY_S[1], wait_s * 2)
        return None

    async def _close_with_clients(self) -> None:
        """Close, and the clients that were made of this object, which would try to reconnect for
        half a minute."""
        await self._close(shutdown=False)
        await ownership.close_clients(self)

    async def _close(self, shutdown: bool | None = None) -> None:
        # Dask waits for whoever follows, and closes only what was followed when it began
        if self._again is not None:
            self._again.cancel()
        await super()._close()
