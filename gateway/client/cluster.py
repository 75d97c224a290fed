"""GatewayCluster: a cluster behind the gateway as one of Dask's own cluster objects."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import dask.config
from dask.utils import parse_timedelta
from daskgateway.v1 import cluster_pb2, cluster_service_pb2
from distributed.core import Status, rpc
from distributed.utils import Log, Logs

from gateway import wire
from gateway.client import api, comm, credentials, display, errors, ownership, requests, settings
from gateway.client.adaptive import GatewayAdaptive, bounds, workers_for
from gateway.client.channel import Connection, in_thread
from gateway.client.following import Following
from gateway.client.gateway import Gateway
from gateway.client.requests import DEFAULT_GROUP

logger = logging.getLogger("distributed.deploy.gateway")

LOOK_S = 2.0  # between two looks at why workers do not come
Amount = int | float | str


class GatewayCluster(Following):
    """A new cluster of a gateway, or (by `from_name`) one that exists.

    Parameters
    ----------
    name: id of the cluster; by default the server chooses one.
    gateway: a Gateway, or its address; by default as configured.
    auth: who calls, where no Gateway is given.
    n_workers: workers to begin with, or (minimum, maximum) to begin adaptive; `adapt` and `scale` change it.
    worker_groups: further groups of workers by name, each a mapping with `n_workers` and options of its own.
    idle_timeout, max_lifetime, no_client_timeout: when the gateway is to stop the cluster by itself, such as "1 hour"; 0 is never.
    shutdown_on_close: whether closing this object (or the end of this process) stops the cluster.
    start_timeout: how long to wait until it can be used, such as "5 minutes"; waiting in a batch system's queue does not count.
    options: an Options object or a mapping; further keywords are options by their names.

    Errors are those of gateway.client.errors: ClusterFailed says why a cluster could not be started.
    """

    def __init__(
        self,
        name: str | None = None,
        gateway: Gateway | str | None = None,
        *,
        auth: Any = None,
        n_workers: int | tuple[int, int] | None = None,
        worker_groups: Mapping[str, Mapping[str, Any]] | None = None,
        idle_timeout: Amount | None = None,
        max_lifetime: Amount | None = None,
        no_client_timeout: Amount | None = None,
        shutdown_on_close: bool | None = None,
        asynchronous: bool = False,
        loop: Any = None,
        quiet: bool = True,
        start_timeout: str | float | None = None,
        options: Any = None,
        backend: str = "",
        labels: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        self._existing = bool(kwargs.pop("_existing", False))
        self._gateway = gateway if isinstance(gateway, Gateway) else Gateway(gateway, auth)
        self._connection = self._gateway.connection
        keep = settings.configured("cluster.shutdown-on-close") if shutdown_on_close is None else shutdown_on_close
        self._shutdown_on_close = True if keep is None else bool(keep)
        self._start_timeout_s = parse_timedelta(start_timeout or settings.configured("cluster.start-timeout") or "5 minutes")
        wishes: dict[str, Any] = {"backend": backend, "labels": labels, "workers": n_workers, "worker_groups": worker_groups}
        lives = {"idle_timeout_s": idle_timeout, "max_lifetime_s": max_lifetime, "no_client_timeout_s": no_client_timeout}
        wishes |= {key: parse_timedelta(value) for key, value in lives.items() if value is not None}
        chosen = requests.wishes({"options": options, **kwargs})["options"]
        self._request = requests.create(name or "", options={**(settings.configured("cluster.options") or {}), **chosen}, **wishes)
        self._resource = cluster_pb2.Cluster(name=requests.full_name(name or ""))
        self._pid = os.getpid()
        self.scheduler_comm: Any
        self.security: Any = None
        super().__init__(asynchronous=asynchronous, loop=loop, quiet=quiet, name=name or "(starting)")
        if not self.called_from_running_loop:
            self._loop_runner.start()
            try:
                self.sync(self._start)
            except BaseException:
                self.status = Status.closed
                self._loop_runner.stop()
                raise

    @classmethod
    def from_name(cls, name: str, *, shutdown_on_close: bool = False, **kwargs: Any) -> GatewayCluster:
        """Return a cluster that exists; closing it leaves it running, unless told otherwise."""
        return cls(name, shutdown_on_close=shutdown_on_close, _existing=True, **kwargs)

    # Life

    async def _start(self) -> None:
        if self.status is not Status.created:
            return
        self.status = Status.starting
        try:
            await self._begin()
        except BaseException:
            self.status = Status.failed
            if self._resource.uid and not self._existing:
                with suppress(errors.GatewayError):
                    await self._connection.call_async(api.STOP_CLUSTER, requests.stop(self._resource.name))
            if self.scheduler_comm is not None:
                await self.scheduler_comm.close_rpc()
            self.status = Status.closed
            raise

    async def _begin(self) -> None:
        if self._existing:
            self._resource = await self._get()
        else:
            self._resource = await self._connection.call_async(api.CREATE_CLUSTER, self._request)
        self.name = self.cluster_id
        await in_thread(self._await_active, waits=True)
        found = await in_thread(lambda: credentials.obtain(self._connection, self._resource.name))
        credentials.remember(self._resource.uid, found)
        comm.remember(self._resource.uid, self._connection)
        self.security = found.security()
        self.scheduler_comm = rpc(self._address(), connection_args=self.security.get_connection_args("client"))
        await super()._start()
        for name, group in self._resource.spec.worker_groups.items():
            if group.HasField("adaptive"):
                self._adaptive = GatewayAdaptive(self, group.adaptive.minimum, group.adaptive.maximum, name)
        if self._shutdown_on_close:
            ownership.own(self._connection, self._uid_name)

    def _await_active(self) -> None:
        said = ""

        def tell(cluster: cluster_pb2.Cluster) -> None:
            nonlocal said
            line = f"{self.cluster_id}: {requests.state(cluster)}: {requests.explanation(cluster)}"
            if line != said:
                said = line
                self._log(line)

        tell(self._resource)  # it may have waited for hours, and nothing may change for as long
        cluster = self._gateway.blocking()._wait(self._resource.name, ("ACTIVE", "STOPPING"), self._start_timeout_s, tell)
        self._resource = cluster
        if cluster.status.state in requests.ENDING:
            raise errors.ClusterFailed(
                f"cluster {self.cluster_id} is {requests.state(cluster)}: {requests.explanation(cluster)}",
                reason=cluster.status.reason,
            )

    def _address(self) -> str:
        """Return where the scheduler is reached: as the server tells, or through the edge that is configured."""
        target = wire.parse_scheduler_address(self._resource.status.endpoints.scheduler)
        proxy = dask.config.get("gateway.proxy-address", None)
        if proxy:
            host, port = settings.with_address(self._connection.settings, str(proxy)).host_port
            target = wire.SchedulerAddress(host, port, target.uid, target.prefix)
        return str(target)

    async def _get(self) -> cluster_pb2.Cluster:
        name = self._uid_name if self._resource.uid else self._resource.name
        self._resource = await self._connection.call_async(api.GET_CLUSTER, cluster_service_pb2.GetClusterRequest(name=name))
        return self._resource

    async def _has_ended(self) -> bool:
        once = Connection(replace(self._connection.settings, retry_s=0.0))
        request = cluster_service_pb2.GetClusterRequest(name=self._uid_name)
        try:
            cluster = self._resource = await once.call_async(api.GET_CLUSTER, request)
        except (errors.ClusterNotFound, errors.PermissionDenied):
            self._log(f"{self.cluster_id}: the gateway has no such cluster any more")
            return True
        except errors.GatewayError as error:  # it does not tell; the scheduler may be reached all the same
            logger.debug("whether %s has ended is not known: %s", self.cluster_id, error)
            return False
        if cluster.status.state not in requests.ENDING:
            return False
        words = f"{self.cluster_id}: {requests.state(cluster)}: {requests.explanation(cluster)}"
        self._log(words)
        if cluster.status.reason != "STOP_REQUESTED":
            logger.warning("cluster %s", words)
        return True

    def __await__(self) -> Any:
        async def settle() -> GatewayCluster:
            await self._start()
            return self

        return settle().__await__()

    async def __aenter__(self) -> GatewayCluster:
        await self._start()
        return self

    async def _close(self, shutdown: bool | None = None) -> None:
        if self.status in (Status.closing, Status.closed):
            return
        stop = (self._shutdown_on_close if shutdown is None else shutdown) and os.getpid() == self._pid
        ownership.disown(self._uid_name)
        try:
            if stop and self._resource.uid:
                with suppress(errors.ClusterNotFound, errors.PermissionDenied):
                    await self._connection.call_async(api.STOP_CLUSTER, requests.stop(self._uid_name))
        finally:
            await super()._close()

    def close(self, timeout: float | None = None, shutdown: bool | None = None) -> Any:
        """Close; stops the cluster if it was made to (or `shutdown` says so)."""
        if self.status == Status.closed:
            return super().close(timeout)
        try:
            if self.asynchronous:
                return asyncio.ensure_future(self._close(shutdown))
            self.sync(self._close, shutdown, callback_timeout=timeout)
            self._loop_runner.stop()
        except RuntimeError:  # the loop is closed already: the interpreter is ending
            pass
        return None

    def shutdown(self) -> Any:
        """Stop the cluster and close."""
        return self.close(shutdown=True)

    @property
    def _uid_name(self) -> str:
        """The cluster's name by its uid: it never means another cluster that took the id later."""
        return f"users/{self._resource.owner}/clusters/{self._resource.uid}"

    # Size

    def scale(self, n: int | None = None, *, cores: float | None = None, memory: Amount | None = None, group: str = DEFAULT_GROUP) -> Any:
        """Wish n workers in a group, or as many as make so many cores and so much memory (such as "64 GiB").

        The request is on its way even if the result is not awaited.
        """
        each = self._resource.status.worker_groups[group]
        least = [(cores, each.worker_cores), (memory, each.worker_memory_bytes)]
        wishes = [workers_for(amount, size, up=True) for amount, size in least if amount is not None]
        if n is None and not wishes:
            raise TypeError("scale needs a number of workers, cores or memory")
        self._adaptive = None
        return self._update(max([int(n or 0), *wishes]), group)

    def adapt(  # type: ignore[override]
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
        Adaptive: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Let the scheduler size a group by its load, between bounds (100 workers where no maximum is given).

        It does so with no client around, until the next `scale` or until `active` is false, which keeps the workers there are.
        Keywords that tune Dask's own Adaptive (interval, target_duration, …) are accepted and mean nothing; a class derived from
        it that is given as `Adaptive` runs here, in the client, as with Dask's other clusters.
        """
        if Adaptive is not None:
            return super().adapt(Adaptive, minimum=minimum, maximum=float("inf") if maximum is None else maximum, **kwargs)
        each = self._resource.status.worker_groups[group]
        cores, memory = each.worker_cores, each.worker_memory_bytes
        low, high = bounds(
            minimum, maximum, [(minimum_cores, cores), (minimum_memory, memory)], [(maximum_cores, cores), (maximum_memory, memory)]
        )
        if not active:
            self._adaptive = None
            return GatewayAdaptive(self, low, high, group, self._update(len(self.scheduler_info["workers"]), group))
        self._adaptive = GatewayAdaptive(self, low, high, group, self._update((low, high), group))
        return self._adaptive

    def _update(self, workers: int | tuple[int, int], group: str) -> Any:
        async def update() -> None:
            self._resource = await self._connection.call_async(api.UPDATE_CLUSTER, requests.scale(self._uid_name, workers, group))

        if self.asynchronous:
            return asyncio.ensure_future(update())
        return self.sync(update)

    async def scale_up(self, n: int) -> None:
        """Wish n workers in all; for an Adaptive that runs in the client."""
        await self._update(n, DEFAULT_GROUP)

    async def scale_down(self, workers: Sequence[str]) -> None:
        """Close these workers, by name or address, and wish as many fewer; for an Adaptive that runs in the client."""
        known = self.scheduler_info["workers"]
        addresses = [address for address, worker in known.items() if address in workers or worker["name"] in workers]
        await self._update(len(known) - len(addresses), DEFAULT_GROUP)
        await self.scheduler_comm.retire_workers(workers=addresses, close_workers=True, remove=True)

    async def _wait_for_workers(self, n_workers: int = 0, timeout: Any = None) -> None:
        """Wait for workers; LimitReached at once if the gateway's limits grant fewer, and a late end says why."""
        waiting = asyncio.ensure_future(super()._wait_for_workers(n_workers, timeout))
        try:
            while not waiting.done():
                requests.check_granted(n_workers, await self._get())
                await asyncio.wait([waiting], timeout=LOOK_S)
            await waiting
        except (errors.Unavailable, errors.DeadlineExceeded):  # the scheduler itself will tell
            await waiting
        except asyncio.TimeoutError as late:
            raise errors.WorkersLate(f"{late}: {requests.explanation(self._resource)}", code="DEADLINE_EXCEEDED") from None
        finally:
            waiting.cancel()

    # Views: plain attributes, no I/O

    @property
    def gateway(self) -> Gateway:
        """The gateway it belongs to."""
        return self._gateway

    @property
    def uid(self) -> str:
        """The server's identity of the cluster."""
        return self._resource.uid

    @property
    def cluster_id(self) -> str:
        """The cluster's id among its owner's."""
        return self._resource.name.rpartition("/")[2]

    @property
    def dashboard_link(self) -> str:
        """Address of the dashboard; a browser is asked to log in. `gateway.dashboard_url` makes one that opens at once."""
        return str(self._resource.status.endpoints.dashboard)

    @property
    def requested(self) -> set[Any]:
        """Names of the workers there are: the gateway names those to come."""
        return {worker.get("name") for worker in self.scheduler_info["workers"].values()}

    plan = requested

    def _repr_html_(self, cluster_status: str | None = None) -> str:
        if cluster_status is None and self._resource.uid:
            cluster_status = display.status_row(self._resource, self._gateway.address)
        return str(super()._repr_html_(cluster_status=cluster_status))

    def _scaling_status(self) -> str:
        return display.scaling_table(len(self.scheduler_info["workers"]), self._resource, self._adaptive)

    def describe(self) -> Any:
        """Return the cluster as the server knows it now."""
        return self.sync(self._get)

    async def _get_logs(self, cluster: bool = True, scheduler: bool = True, workers: Any = True) -> Logs:
        """Return logs from the scheduler; if it does not answer, what the gateway keeps."""
        if self.status == Status.running:
            with suppress(OSError, TimeoutError):
                return await super()._get_logs(cluster, scheduler, workers)
        found = await in_thread(lambda: self._gateway.blocking().get_logs(self._uid_name))
        logs = Logs({"Scheduler": Log(found.pop("scheduler", ""))} if scheduler else {})
        logs.update({name: Log(text) for name, text in found.items() if name != "scheduler" and workers})
        return logs

    def __reduce__(self) -> Any:
        raise TypeError("a GatewayCluster cannot be sent elsewhere; send its name and use GatewayCluster.from_name")
