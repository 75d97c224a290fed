"""How a cluster object is sized: by its user, by its scheduler, by an Adaptive in the client; and
how long it waits for workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar, cast, overload

from distributed.client import Client
from distributed.deploy.adaptive import Adaptive

from gateway.client.calls import api, errors, reading, settling
from gateway.client.calls import messages as requests
from gateway.client.calls.channel import in_thread
from gateway.client.calls.messages import DEFAULT_GROUP, Amount, Workers
from gateway.client.dask.adaptive import GatewayAdaptive, bounds, workers_for
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
        self._adaptive = None
        return self._update(max([wished, *wishes]), group)

    @overload  # type: ignore[override]
    def adapt(
        self,
        minimum: int = 0,
        maximum: float | None = None,
        *,
        minimum_cores: float | None = None,
        maximum_cores: float | None = None,
        minimum_memory: Amount | None = None,
        maximum_memory: Amount | None = None,
        group: str = DEFAULT_GROUP,
        active: bool = True,
        Adaptive: None = None,
        **kwargs: Any,
    ) -> GatewayAdaptive: ...

    @overload
    def adapt(
        self, minimum: int = 0, maximum: float | None = None, *, Adaptive: type[A], **kwargs: Any
    ) -> A: ...

    def adapt(
        self,
        minimum: int = 0,
        maximum: float | None = None,
        *,
        minimum_cores: float | None = None,
        maximum_cores: float | None = None,
        minimum_memory: Amount | None = None,
        maximum_memory: Amount | None = None,
        group: str = DEFAULT_GROUP,
        active: bool = True,
        Adaptive: type[Adaptive] | None = None,
        **kwargs: Any,
    ) -> GatewayAdaptive | Adaptive:
        """Let the scheduler size a group by its load, between bounds (100 workers where no maximum
        is given).

        It does so with no client around, until the next `scale` or until `active` is false, which
        keeps the workers there are. Keywords that tune Dask's own Adaptive (interval,
        target_duration, …) are accepted and mean nothing; a class derived from it that is given as
        `Adaptive` runs here, in the client, as with Dask's other clusters. What is returned has the
        bounds; it may be awaited where the cluster is asynchronous.
        """
        if Adaptive is not None:
            return super().adapt(
                Adaptive,
                minimum=minimum,
                maximum=float("inf") if maximum is None else maximum,
                **kwargs,
            )
        cores, size = self._group(group)
        least, most = (
            [(minimum_cores, cores), (minimum_memory, size)],
            [(maximum_cores, cores), (maximum_memory, size)],
        )
        low, high = bounds(minimum, maximum, least, most)
        if not active:
            self._adaptive = None
            return GatewayAdaptive(
                self, low, high, group, self._update(len(self.scheduler_info["workers"]), group)
            )
        self._adaptive = GatewayAdaptive(self, low, high, group, self._update((low, high), group))
        return self._adaptive

    def _update(self, workers: Workers, group: str) -> Any:
        request = requests.scale(self._uid_name, workers, group)
        awaited = self.asynchronous

        def change() -> Cluster:
            changed = Cluster.from_proto(self._connection.call(api.UPDATE_CLUSTER, request))
            return settling.settle(self._connection, changed)

        async def update() -> str:
            await self._check_group(group)
            said = settling.clamped(self._told(await in_thread(change)))
            if said and awaited:
                errors.warn(said)
            return said

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
