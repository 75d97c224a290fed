"""How a cluster behind the gateway begins, is shown and ends, as one of Dask's own cluster objects.
How it is sized: sizing.py."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import dask.config
from dask.utils import parse_timedelta
from daskgateway.v1 import cluster_service_pb2 as pb
from distributed.core import Status, rpc
from distributed.utils import Log, Logs

from gateway import wire
from gateway.client.calls import api, credentials, errors, settings, waiting
from gateway.client.calls import messages as requests
from gateway.client.calls.channel import Connection, in_thread
from gateway.client.calls.messages import Groups, Span, Workers
from gateway.client.calls.options import Options
from gateway.client.dask import comm, display, ownership
from gateway.client.dask.adaptive import GatewayAdaptive
from gateway.client.dask.following import Following
from gateway.client.gateway import BaseGateway, Credentials, Gateway
from gateway.client.model import Cluster, ClusterState, reasons
from gateway.printable import printable

logger = logging.getLogger("distributed.deploy.gateway")

T = TypeVar("T")
C = TypeVar("C", bound="RemoteCluster")


class RemoteCluster(Following):
    """A cluster behind the gateway."""

    # whether it is made for who awaits it, where `asynchronous` does not say
    _awaited: ClassVar[bool] = False

    def __init__(
        self,
        name: str | None = None,
        gateway: BaseGateway | str | None = None,
        *,
        auth: Credentials | None = None,
        n_workers: Workers | None = None,
        worker_groups: Groups | None = None,
        idle_timeout: Span | None = None,
        max_lifetime: Span | None = None,
        no_client_timeout: Span | None = None,
        no_task_timeout: Span | None = None,
        shutdown_on_close: bool | None = None,
        asynchronous: bool | None = None,
        loop: Any = None,
        quiet: bool = True,
        start_timeout: Span | None = None,
        options: Options | Mapping[str, Any] | None = None,
        backend: str = "",
        labels: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        if self._awaited and asynchronous is False:
            raise TypeError(
                f"{type(self).__name__} is awaited; for calls that block there is GatewayCluster"
            )
        self._existing = bool(kwargs.pop("_existing", False))
        self._gateway = gateway if isinstance(gateway, BaseGateway) else Gateway(gateway, auth)
        self._connection = self._gateway.connection
        keep = (
            settings.configured("cluster.shutdown-on-close")
            if shutdown_on_close is None
            else shutdown_on_close
        )
        self._shutdown_on_close = True if keep is None else bool(keep)
        self._start_timeout_s = float(
            parse_timedelta(
                start_timeout or settings.configured("cluster.start-timeout") or "5 minutes"
            )
        )
        keywords = {
            "n_workers": n_workers,
            "worker_groups": worker_groups,
            "backend": backend,
            "labels": labels,
        }
        lives = {
            "idle_timeout": idle_timeout,
            "max_lifetime": max_lifetime,
            "no_client_timeout": no_client_timeout,
            "no_task_timeout": no_task_timeout,
        }
        chosen = {**(settings.configured("cluster.options") or {}), **requests.options_of(options)}
        self._request = requests.from_keywords(
            name, {**keywords, **lives, "options": chosen, **kwargs}
        )
        self._resource: Cluster | None = None
        self._full_name = requests.full_name(name or "")
        self._pid = os.getpid()
        self.scheduler_comm: Any
        self.security: Any = None
        awaited = self._awaited if asynchronous is None else asynchronous
        super().__init__(asynchronous=awaited, loop=loop, quiet=quiet, name=name or "(starting)")
        if not self.called_from_running_loop:
            self._loop_runner.start()
            try:
                self.sync(self._start)
            except BaseException:
                self.status = Status.closed
                self._loop_runner.stop()
                raise

    @classmethod
    def from_name(
        cls: type[C],
        name: str,
        *,
        gateway: BaseGateway | str | None = None,
        auth: Credentials | None = None,
        shutdown_on_close: bool = False,
        asynchronous: bool | None = None,
        loop: Any = None,
        quiet: bool = True,
        start_timeout: Span | None = None,
    ) -> C:
        """Return a cluster that exists; closing it leaves it running, unless told otherwise."""
        return cls(
            name,
            gateway,
            auth=auth,
            shutdown_on_close=shutdown_on_close,
            asynchronous=asynchronous,
            loop=loop,
            quiet=quiet,
            start_timeout=start_timeout,
            _existing=True,
        )

    # Life

    async def _start(self) -> None:
        if self.status is not Status.created:
            return
        self.status = Status.starting
        try:
            await self._begin()
        except BaseException:
            self.status = Status.failed
            if self._resource is not None and not self._existing:
                with suppress(errors.GatewayError):
                    await self._connection.call_async(
                        api.STOP_CLUSTER, requests.stop(self._resource.name)
                    )
            if self.scheduler_comm is not None:
                await self.scheduler_comm.close_rpc()
            self.status = Status.closed
            raise

    async def _begin(self) -> None:
        if self._existing:
            resource = await self._get()
        else:
            resource = self._told(
                Cluster.from_proto(
                    await self._connection.call_async(api.CREATE_CLUSTER, self._request)
                )
            )
        self.name = self.cluster_id
        resource = self._told(await in_thread(lambda: self._await_active(resource), waits=True))
        found = await in_thread(lambda: credentials.obtain(self._connection, resource.name))
        credentials.remember(resource.uid, found)
        comm.remember(resource.uid, self._connection)
        self.security = found.security()
        self.scheduler_comm = rpc(
            self._address(resource), connection_args=self.security.get_connection_args("client")
        )
        await super()._start()
        for name, group in resource.spec.worker_groups.items():
            if group.adaptive is not None:
                self._adaptive = GatewayAdaptive(
                    self, group.adaptive.minimum, group.adaptive.maximum, name
                )
        if self._shutdown_on_close:
            ownership.own(self._connection, self._uid_name)

    def _log(self, log: str) -> None:
        super()._log(printable(log))

    def __repr__(self) -> str:
        return printable(super().__repr__(), keep="")

    def _told(self, cluster: Cluster) -> Cluster:
        """Keep what the gateway told last."""
        self._resource = cluster
        return cluster

    def _await_active(self, accepted: Cluster) -> Cluster:
        said = ""

        def tell(cluster: Cluster) -> None:
            nonlocal said
            line = f"{cluster.id}: {cluster.state}: {cluster.explanation}"
            if line != said:
                said = line
                self._log(line)

        tell(accepted)  # it may have waited for hours, and nothing may change for as long
        wanted = (ClusterState.ACTIVE, ClusterState.STOPPING)
        cluster = waiting.wait(self._connection, accepted.name, wanted, self._start_timeout_s, tell)
        if cluster.state.ending:
            raise errors.ClusterFailed(
                f"cluster {cluster.id} is {cluster.state}: {cluster.explanation}",
                reason=cluster.status.reason,
            )
        return cluster

    def _address(self, cluster: Cluster) -> str:
        """Return where the scheduler is reached: as the server tells, or through the edge that is
        configured."""
        target = wire.parse_scheduler_address(cluster.status.endpoints.scheduler)
        proxy = dask.config.get("gateway.proxy-address", None)
        if proxy:
            host, port = settings.with_address(self._connection.settings, str(proxy)).host_port
            target = wire.SchedulerAddress(host, port, target.uid, target.prefix)
        return str(target)

    async def _get(self) -> Cluster:
        request = pb.GetClusterRequest(name=self._uid_name)
        return self._told(
            Cluster.from_proto(await self._connection.call_async(api.GET_CLUSTER, request))
        )

    async def _has_ended(self) -> bool:
        once = Connection(replace(self._connection.settings, retry_s=0.0))
        request = pb.GetClusterRequest(name=self._uid_name)
        try:
            cluster = self._told(
                Cluster.from_proto(await once.call_async(api.GET_CLUSTER, request))
            )
        except (errors.ClusterNotFound, errors.PermissionDenied):
            self._log(f"{self.cluster_id}: the gateway has no such cluster any more")
            return True
        # it does not tell; the scheduler may be reached all the same
        except errors.GatewayError as error:
            logger.debug("whether %s has ended is not known: %s", self.cluster_id, error)
            return False
        if not cluster.state.ending:
            return False
        words = f"{cluster.id}: {cluster.state}: {cluster.explanation}"
        self._log(words)
        if cluster.status.reason != reasons.STOP_REQUESTED:
            logger.warning("cluster %s", printable(words))
        return True

    def __await__(self: C) -> Generator[Any, None, C]:
        return self.__aenter__().__await__()

    async def __aenter__(self: C) -> C:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def _close(self, shutdown: bool | None = None) -> None:
        if self.status in (Status.closing, Status.closed):
            return
        stop = (
            self._shutdown_on_close if shutdown is None else shutdown
        ) and os.getpid() == self._pid
        ownership.disown(self._uid_name)
        try:
            if stop and self._resource is not None:
                with suppress(errors.ClusterNotFound, errors.PermissionDenied):
                    await self._connection.call_async(
                        api.STOP_CLUSTER, requests.stop(self._uid_name)
                    )
        finally:
            await super()._close()

    def _end(self, timeout: float | None, shutdown: bool | None) -> Any:
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

    def _do(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Any:
        """Do something, or begin it where asynchronous: it is on its way even if what is returned
        is not awaited."""
        return asyncio.ensure_future(work()) if self.asynchronous else self.sync(work)

    # Views: plain attributes, no I/O

    @property
    def name(self) -> str:
        """The cluster's id, `(starting)` before it has one."""
        return str(self._cluster_info["name"])

    @name.setter
    def name(self, name: str) -> None:
        self._cluster_info["name"] = name

    @property
    def uid(self) -> str:
        """The gateway's identity of the cluster; empty before it has one."""
        return self._resource.uid if self._resource is not None else ""

    @property
    def cluster_id(self) -> str:
        """The cluster's id among its owner's."""
        return (self._resource.name if self._resource is not None else self._full_name).rpartition(
            "/"
        )[2]

    @property
    def _uid_name(self) -> str:
        """The cluster's name by its uid: it never means another cluster that took the id later."""
        return (
            f"users/{self._resource.owner}/clusters/{self._resource.uid}"
            if self._resource is not None
            else self._full_name
        )

    @property
    def dashboard_link(self) -> str:
        """Address of the dashboard; a browser is asked to log in. `Gateway.dashboard_url` makes one
        that opens at once."""
        return self._resource.status.endpoints.dashboard if self._resource is not None else ""

    @property
    def requested(self) -> set[Any]:
        """Names of the workers there are: the gateway names those to come."""
        return {worker.get("name") for worker in self.scheduler_info["workers"].values()}

    plan = requested

    def _repr_html_(self, cluster_status: str | None = None) -> str:
        if cluster_status is None and self._resource is not None:
            cluster_status = display.status_row(self._resource, self._gateway.address)
        return str(super()._repr_html_(cluster_status=cluster_status))

    def _scaling_status(self) -> str:
        return display.scaling_table(
            len(self.scheduler_info["workers"]), self._resource, self._adaptive
        )

    async def _get_logs(
        self, cluster: bool = True, scheduler: bool = True, workers: Any = True
    ) -> Logs:
        """Return logs from the scheduler; if it does not answer, what the gateway keeps."""
        if self.status == Status.running:
            with suppress(OSError, TimeoutError):
                told: Logs = await super()._get_logs(cluster, scheduler, workers)
                return told
        found = await in_thread(lambda: self._gateway.blocking().get_logs(self._uid_name))
        logs = Logs({"Scheduler": Log(found.pop("scheduler", ""))} if scheduler else {})
        logs.update(
            {name: Log(text) for name, text in found.items() if name != "scheduler" and workers}
        )
        return logs

    def __reduce__(self) -> Any:
        raise TypeError(
            "a GatewayCluster cannot be sent elsewhere; send its name and use"
            " GatewayCluster.from_name"
        )
