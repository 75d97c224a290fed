"""How a cluster object is sized: by its user, by its scheduler, by an Adaptive in the client; and
how long it waits for workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar, cast, overload

import dask.config
from distributed.client import Client
from distributed.core import Status
from distributed.deploy.adaptive import Adaptive

from gateway.client.calls import api, errors, reading, settling
from gateway.client.calls import messages as requests
from gateway.client.calls.channel import in_thread
from gateway.client.calls.messages import DEFAULT_GROUP, Amount, Span, Workers
from gateway.client.dask.adaptive import GatewayAdaptive, bounds, refuse_unknown, workers_for
from gateway.client.dask.remote import RemoteCluster
from gateway.client.model import Cluster, ConditionStatus, WorkerGroupStatus, reasons

A = TypeVar("A", bound=Adaptive)

LOOK_S = 2.0  # between two looks at why workers do not come


class SizedCluster(RemoteCluster):
    """A cluster behind the gateway that is sized from here. GatewayCluster and AsyncGatewayCluster
    are its two faces."""

    def _group(self, name: str) -> tuple[float, int]:
        """Return cores and bytes of each worker of a group, 0 for what is not known."""
        group: WorkerGroupStatus | None = (
            self._resource.status.worker_groups.get(name) if self._resource is not None else None
        )
        return (group.worker_cores, group.worker_memory_bytes) if group is not None else (0.0, 0)

    def _scale(self, n: int | None, cores: float | None, memory: Amount | None, group: str) -> Any:
        each_cores, each_bytes = self._group(group)
        least = [(cores, each_cores), (memory, each_bytes)]
        wishes = [
            workers_for(amount, size, up=True) for amount, size in least if amount is not None
        ]
        if n is None and not wishes:
            raise TypeError("scale needs a number of workers, cores or memory")
        wished = reading.count(0 if n is None else n, "the number of workers")
        self._end_adaptive(group)
        return self._update(max([wished, *wishes]), group)

    @overload  # type: ignore[override]
    def adapt(
        self,
        minimum: int | None = 0,
        maximum: float | None = None,
        *,
        minimum_cores: float | None = None,
        maximum_cores: float | None = None,
        minimum_memory: Amount | None = None,
        maximum_memory: Amount | None = None,
        group: str = DEFAULT_GROUP,
        active: bool = True,
        interval: Span | None = None,
        wait_count: int | None = None,
        target_duration: Span | None = None,
        Adaptive: None = None,
    ) -> GatewayAdaptive: ...

    @overload
    def adapt(
        self, minimum: int = 0, maximum: float | None = None, *, Adaptive: type[A], **kwargs: Any
    ) -> A: ...

    def adapt(
        self,
        minimum: int | None = 0,
        maximum: float | None = None,
        *,
        minimum_cores: float | None = None,
        maximum_cores: float | None = None,
        minimum_memory: Amount | None = None,
        maximum_memory: Amount | None = None,
        group: str = DEFAULT_GROUP,
        active: bool = True,
        interval: Span | None = None,
        wait_count: int | None = None,
        target_duration: Span | None = None,
        Adaptive: type[Adaptive] | None = None,
        **kwargs: Any,
    ) -> GatewayAdaptive | Adaptive:
        """Let the scheduler size a group by its load, between bounds (100 workers where no maximum
        is given).

        It does so with no client around, until the next `scale` or `stop` of what is returned, or
        until `active` is false, which keeps the workers there are. It looks at its load every
        `interval` (by default every 0.5 s), takes a worker away once so many looks in a row
        (`wait_count`; by default as many as make 3 s) have found it too many, and wants as many
        workers as end the work that there is within `target_duration` (by default what Dask's
        configuration says). A class derived from Dask's own Adaptive that is given as `Adaptive`
        runs here, in the client, as with Dask's other clusters. What is returned has the bounds; it
        may be awaited where the cluster is asynchronous. GatewayWarning if a limit clamps them.
        """
        if Adaptive is not None:
            self._end_adaptive(group, tell=True)
            pace = {"interval": interval, "wait_count": wait_count}
            given = {**pace, "target_duration": target_duration}
            kwargs |= {word: value for word, value in given.items() if value is not None}
            return super().adapt(
                Adaptive,
                minimum=0 if minimum is None else minimum,
                maximum=float("inf") if maximum is None else maximum,
                **kwargs,
            )
        refuse_unknown(kwargs)
        cores, size = self._group(group)
        least, most = (
            [(minimum_cores, cores), (minimum_memory, size)],
            [(maximum_cores, cores), (maximum_memory, size)],
        )
        low, high = bounds(minimum, maximum, least, most)
        if wait_count is not None and interval is None:
            interval = dask.config.get("distributed.adaptive.interval")  # what Dask counts in
        found = requests.bounds(low, high, interval, wait_count, target_duration)
        self._end_adaptive(group)
        if not active:
            made = GatewayAdaptive(self, found, group, self._update(self._there(group), group))
            made.periodic_callback = False
            return made
        self._adaptive = GatewayAdaptive(self, found, group, self._update(found, group))
        return self._adaptive

    def _there(self, group: str) -> int:
        """Return how many workers of a group are connected."""
        names = (worker["name"] for worker in self.scheduler_info["workers"].values())
        return sum(1 for name in names if str(name).rpartition("-")[0] == group)

    def _end_adaptive(self, group: str, *, tell: bool = False) -> None:
        """Forget that a group is adapted; what is told to the gateway next ends it there, unless
        it is to be told now."""
        adaptive = self._adaptive
        if isinstance(adaptive, Adaptive):  # it runs here
            adaptive.stop()
        elif adaptive is not None and adaptive.group != group and not tell:
            return
        elif adaptive is not None and tell:
            adaptive.stop()
        elif adaptive is not None:
            adaptive.periodic_callback = False
        self._adaptive = None

    def _stop_adapting(self, adaptive: GatewayAdaptive) -> Any:
        """Keep the workers there are of a group that was adapted."""
        if self._adaptive is adaptive:
            self._adaptive = None
        if self.status is not Status.running:
            return None
        return self._update(self._there(adaptive.group), adaptive.group)

    def _update(self, workers: Workers, group: str) -> Any:
        request = requests.scale(self._uid_name, workers, group)
        awaited = self.asynchronous

        def change() -> Cluster:
            changed = Cluster.from_proto(self._connection.call(api.UPDATE_CLUSTER, request))
            return settling.settle(self._connection, changed)

        async def update() -> str | None:
            await self._check_group(group)
            said = settling.clamped(self._told(await in_thread(change)))
            if said and awaited:
                errors.warn(said)
            return None if awaited else said  # what is awaited is None, as with Dask's own

        done = self._do(update)
        if isinstance(done, str):  # here, where the caller's line can be told
            return errors.warn(done) if done else None
        return done

    def _client(self, set_as_default: bool) -> Client:
        if set_as_default:
            return cast(Client, super().get_client())
        return Client(self, set_as_default=False, asynchronous=self.asynchronous)

    async def _check_group(self, group: str) -> None:
        """Raise ValueError if the cluster has no such group: a misspelt one is not to be made."""
        if group == DEFAULT_GROUP:
            return  # which always exists
        known = self._resource or await self._get()
        if group not in known.spec.worker_groups:
            known = await self._get()  # another may have made it meanwhile
        reading.group(group, known.spec.worker_groups)

    async def scale_up(self, n: int) -> None:
        """Wish n workers in all; for an Adaptive that runs in the client."""
        await self._update(n, DEFAULT_GROUP)

    async def scale_down(self, workers: Sequence[str]) -> None:
        """Close these workers, by name or address, and wish as many fewer; for an Adaptive that
        runs in the client."""
        known = self.scheduler_info["workers"]
        addresses = [
            address
            for address, worker in known.items()
            if address in workers or worker["name"] in workers
        ]
        await self._update(len(known) - len(addresses), DEFAULT_GROUP)
        await self.scheduler_comm.retire_workers(workers=addresses, close_workers=True, remove=True)

    async def _wait_for_workers(self, n_workers: int = 0, timeout: Any = None) -> None:
        """Wait for workers; LimitReached at once if the gateway's limits grant fewer, and a late
        end says why."""
        waited = asyncio.ensure_future(super()._wait_for_workers(n_workers, timeout))
        try:
            while not waited.done():
                check_granted(n_workers, await self._get())
                await asyncio.wait([waited], timeout=LOOK_S)
            await waited
        except (errors.Unavailable, errors.DeadlineExceeded):  # the scheduler itself will tell
            await waited
        except asyncio.TimeoutError as late:
            why = self._resource.explanation if self._resource is not None else ""
            raise errors.WorkersLate(f"{late}: {why}", code="DEADLINE_EXCEEDED") from None
        finally:
            waited.cancel()


def workers_in_time(n_workers: Any, timeout: Any) -> tuple[int, float | None]:
    """Return how many workers are waited for, and for how many seconds; None is for ever."""
    return (
        reading.count(n_workers, "n_workers"),
        None if timeout is None else reading.seconds(timeout, "timeout"),
    )


def check_granted(wanted: int, cluster: Cluster) -> None:
    """Raise ClusterFailed, LimitReached or WorkersLate, in the gateway's words, if so many
    workers will never be there."""
    if cluster.state.ending:
        raise errors.ClusterFailed(
            f"cluster {cluster.name} is {cluster.state}: {cluster.explanation}",
            reason=cluster.status.reason,
        )
    if cluster.status.observed_generation == cluster.generation:  # of this wish, no earlier one
        for condition in cluster.status.conditions:
            if condition.reason == reasons.WORKERS_GIVEN_UP and cluster.status.running < wanted:
                raise errors.WorkersLate(
                    f"{wanted} workers will not come: {condition.message}",
                    code="FAILED_PRECONDITION",
                )
    if (
        any(group.adaptive is not None for group in cluster.spec.worker_groups.values())
        or cluster.status.desired >= wanted
    ):
        return
    for condition in cluster.status.conditions:
        if condition.type == reasons.WITHIN_LIMITS and condition.status is ConditionStatus.FALSE:
            raise errors.LimitReached(
                f"{wanted} workers will not come: {condition.message}", code="FAILED_PRECONDITION"
            )
