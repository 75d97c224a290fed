"""How a cluster object hears of its scheduler's workers, also once the way to it has been broken.

What follows holds the object weakly: one that nobody uses any more is collected although its
scheduler goes on telling.
"""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from typing import Any

from distributed.core import Status
from distributed.deploy.cluster import Cluster
from distributed.objects import SchedulerInfo
from distributed.utils import log_errors

from gateway.client.dask import ownership
from gateway.printable import brief, quoted

logger = logging.getLogger(__name__)

# between two attempts to hear of a cluster whose scheduler cannot be reached
FOLLOW_RETRY_S = (0.2, 5.0)
MAX_NAMED = 300  # characters of the names of workers in a refusal
END_TIMEOUT_S = 10.0  # until what is left of an object that was collected is closed


class Following(Cluster):
    """Follows the scheduler's workers. When the way to it breaks, follows again until the gateway
    says that the cluster has ended."""

    _again: asyncio.Future[Any] | None = None  # an attempt to follow again
    scheduler_comm: Any
    _ending: asyncio.Future[None]
    _pid: int  # of the process that made it

    async def _has_ended(self) -> bool:
        """Whether the gateway says so; not if it says nothing."""
        raise NotImplementedError

    async def _start(self) -> None:
        """Follow the scheduler, as Dask's own clusters do, but for who holds this object."""
        comm = await _subscribe(self, self.scheduler_comm)
        self._watch_worker_status_comm = comm
        me = weakref.ref(self)
        self._watch_worker_status_task = asyncio.ensure_future(_follow(me, comm))
        info = await self.scheduler_comm.get_metadata(keys=["cluster-manager-info"], default={})
        self._cluster_info.update(info)
        self._sync_cluster_info_task = asyncio.ensure_future(_keep_told(me, self._sync_interval))
        for callback in self.periodic_callbacks.values():
            callback.start()
        self.status = Status.running

    def _addresses(self, workers: Any) -> Any:
        """Return the addresses of workers that are named; ValueError if there is no such. Whoever
        wants all or none says so by a truth value."""
        if isinstance(workers, bool) or workers is None:
            return workers
        there = self.scheduler_info["workers"]
        by_name = {str(one["name"]): address for address, one in there.items()}
        found = []
        for one in [workers] if isinstance(workers, str) else workers:
            if one not in there and one not in by_name:
                names = brief(", ".join(sorted(by_name)) or "none", MAX_NAMED)
                raise ValueError(
                    f"cluster {self.name} has no worker {quoted(one)} now; there are: {names}"
                )
            found.append(by_name.get(one, one))
        return found

    def _follows(self) -> bool:
        return self.status in (Status.starting, Status.running)

    def _check_process(self) -> None:
        """Raise RuntimeError in a forked child: threads are not forked, and so the object's event
        loop runs in its parent alone."""
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"this object of cluster {self.name} is of the process that made it; a process that"
                f" was forked makes its own: GatewayCluster.from_name({self.name!r})"
            )

    @property
    def loop(self) -> Any:
        """The event loop that it runs on."""
        self._check_process()
        return super().loop

    def sync(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        """Call on the object's event loop, as Dask does; one that is closed says so, and one that
        is another process's too."""
        self._check_process()
        try:
            return super().sync(func, *args, **kwargs)
        except RuntimeError as error:
            if self.status is not Status.closed or "closed" not in str(error):
                raise
            raise RuntimeError(
                f"this object of cluster {self.name} is closed; where the cluster lives on,"
                f" GatewayCluster.from_name({self.name!r}) makes another"
            ) from None

    async def _close_with_clients(self) -> None:
        """Close, and the clients that were made of this object, which would try to reconnect for
        half a minute."""
        await self._close(shutdown=False)
        await ownership.close_clients(self)

    async def _close(self, shutdown: bool | None = None) -> None:
        # Dask waits for whoever follows, and closes only what was followed when it began
        if self._again is not None:
            self._again.cancel()
        shown = self.periodic_callbacks.get("cluster-repr")
        await super()._close()
        if shown is not None:  # the widget is not looked after any more: it shows that at last
            try:
                shown.callback()
            except Exception as error:  # its notebook may be gone
                logger.debug("the widget of %s does not show its end: %s", self.name, error)

    def _widget(self) -> Any:
        """Return Dask's widget, which does not keep this object alive: its buttons are known to the
        whole process."""
        return Cluster._widget(weakref.proxy(self))


async def _subscribe(cluster: Following, scheduler: Any) -> Any:
    """Return a connection by which the scheduler tells of its workers."""
    comm = await scheduler.live_comm()
    try:
        comm.name = "Cluster worker status"
        await comm.write({"op": "subscribe_worker_status"})
        cluster.scheduler_info = SchedulerInfo(await comm.read())
    except BaseException:
        comm.abort()
        raise
    return comm


async def _follow(me: weakref.ref[Following], comm: Any) -> None:
    """Follow until the cluster has ended, or its object is closed or gone."""
    while comm is not None:
        await _hear(me, comm)
        cluster = me()
        if cluster is None:
            return
        again = cluster._again = asyncio.ensure_future(_follow_again(me))
        del cluster
        try:
            await asyncio.wait([again])
            comm = None if again.cancelled() else again.result()
        finally:
            again.cancel()


async def _hear(me: weakref.ref[Following], comm: Any) -> None:
    """Take what the scheduler tells, until the connection ends."""
    try:
        while True:
            told = await comm.read()
            cluster = me()
            if cluster is None:
                break
            with log_errors():
                for op, message in told:
                    cluster._update_worker_status(op, message)
            del cluster
    except OSError:
        pass
    await comm.close()


async def _follow_again(me: weakref.ref[Following]) -> Any:
    wait_s = FOLLOW_RETRY_S[0]
    while (cluster := me()) is not None and cluster._follows():
        try:
            if await cluster._has_ended():
                # In a task of its own: closing waits for the one that this runs in.
                cluster._ending = asyncio.ensure_future(cluster._close_with_clients())
                return None
            comm = await _subscribe(cluster, cluster.scheduler_comm)
            # and Dask's code has lost the cancellation, as it does now and then
            if not cluster._follows():
                await comm.close()
                return None
            cluster._watch_worker_status_comm = comm
            return comm
        except OSError:
            del cluster
            await asyncio.sleep(wait_s)
            wait_s = min(FOLLOW_RETRY_S[1], wait_s * 2)
    return None


async def _keep_told(me: weakref.ref[Following], interval_s: float) -> None:
    """Keep the scheduler told what Dask's own displays show of a cluster."""
    wait_s = interval_s
    while (cluster := me()) is not None and cluster.status is Status.running:
        scheduler, info = cluster.scheduler_comm, cluster._cluster_info.copy()
        del cluster
        try:
            await scheduler.set_metadata(keys=["cluster-manager-info"], value=info)
            wait_s = interval_s
        except Exception as error:  # whoever follows hears of a lasting absence
            logger.debug("the scheduler was not told what its cluster is; again later: %s", error)
            wait_s = min(10 * interval_s, wait_s * 1.5)
        await asyncio.sleep(wait_s)


class Remains:
    """What of a cluster object lives on its event loop, and is to be closed without the object."""

    def __init__(self, cluster: Any) -> None:
        self._loop, self._runner = cluster.loop, None
        if not cluster._loop_runner._asynchronous:
            self._runner = cluster._loop_runner
        self._scheduler = cluster.scheduler_comm
        self._comm = cluster._watch_worker_status_comm
        self._callbacks = list(cluster.periodic_callbacks.values())
        self._tasks = [
            cluster._starting,
            cluster._again,
            cluster._watch_worker_status_task,
            cluster._sync_cluster_info_task,
        ]

    async def close(self) -> None:
        """Close all of it."""
        mine = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not None and task is not mine]
        for task in tasks:
            task.cancel()
        if self._comm is not None:
            self._comm.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        for callback in self._callbacks:
            callback.stop()
        if self._scheduler is not None:
            await self._scheduler.close_rpc()

    def end(self) -> None:
        """Close all of it from another thread, and the event loop if it was the object's own."""
        loop = self._loop.asyncio_loop
        if loop.is_running():
            closing = self.close()
            try:
                asyncio.run_coroutine_threadsafe(closing, loop).result(END_TIMEOUT_S)
            except Exception as error:  # it is as closed as it can be
                logger.debug("a forgotten cluster object is not wholly closed: %r", error)
                closing.close()
        if self._runner is not None:
            try:
                self._runner.stop()
            except Exception as error:
                logger.debug("the event loop of a forgotten cluster object runs on: %r", error)
