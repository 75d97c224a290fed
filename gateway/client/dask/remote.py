"""How a cluster behind the gateway begins, is shown and ends, as one of Dask's own cluster objects.
How it is sized: sizing.py."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, ClassVar, TypeVar

from daskgateway.v1 import cluster_service_pb2 as pb
from distributed.core import Status, rpc
from distributed.utils import Log, Logs

from gateway import wire
from gateway.client import progress
from gateway.client.calls import (
    api,
    creating,
    credentials,
    errors,
    reading,
    settings,
    settling,
    waiting,
)
from gateway.client.calls import messages as requests
from gateway.client.calls.channel import Connection, in_thread
from gateway.client.calls.messages import Groups, Span, Workers
from gateway.client.calls.options import Options
from gateway.client.dask import comm, display, links, ownership, versions
from gateway.client.dask.adaptive import GatewayAdaptive
from gateway.client.dask.following import Following
from gateway.client.gateway import BaseGateway, Credentials, Gateway
from gateway.client.model import Cluster, ClusterState, Limits, reasons
from gateway.printable import printable

logger = logging.getLogger("distributed.deploy.gateway")

LOOK_S = 2.0  # between two looks at what the gateway tells, while somebody looks at the object
START_TIMEOUT_S = 300.0  # where neither the caller nor the configuration names one

T = TypeVar("T")
C = TypeVar("C", bound="RemoteCluster")


def _gateway_of(
    gateway: BaseGateway | str | None, auth: Credentials | None, place: Mapping[str, Any]
) -> BaseGateway:
    """Return a gateway out of what was given; TypeError if that says it twice."""
    if isinstance(gateway, BaseGateway):
        if place or auth is not None:
            more = sorted([*place, *(["auth"] if auth is not None else [])])
            raise TypeError(f"a gateway is given, which has its own {', '.join(more)}")
        return gateway
    if gateway is not None and "address" in place:
        raise TypeError("gateway and address are the same: give one of them")
    where = {"address": gateway, **place}
    made: BaseGateway = Gateway(where.pop("address"), auth, **where)
    return made


class RemoteCluster(Following):
    """A cluster behind the gateway."""

    # whether it is made for who awaits it, where `asynchronous` does not say
    _awaited: ClassVar[bool] = False
    # tells what it waits for while it starts
    _progress: progress.Progress = progress.NONE
    _said = ""  # what limits have made of the wish that it began with

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
        quiet: bool = False,
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
        name, options, place = creating.others(name, options, kwargs)
        self._gateway = _gateway_of(gateway, auth, place)
        self._connection = self._gateway.connection
        keep = (
            settings.configured("cluster.shutdown-on-close")
            if shutdown_on_close is None
            else shutdown_on_close
        )
        self._shutdown_on_close = keep is None or reading.truth(keep, "shutdown_on_close")
        self._start_timeout_s = (
            settings.configured_span("cluster.start-timeout", START_TIMEOUT_S)
            if start_timeout is None
            else reading.seconds(start_timeout, "start_timeout")
        )
        named = {
            "n_workers": n_workers,
            "worker_groups": worker_groups,
            "idle_timeout": idle_timeout,
            "max_lifetime": max_lifetime,
            "no_client_timeout": no_client_timeout,
            "no_task_timeout": no_task_timeout,
            "options": options,
            "backend": backend,
            "labels": labels,
        }
        self._asked = creating.ask(name, named, kwargs, creating.takes(RemoteCluster.__init__))
        self._resource: Cluster | None = None
        self._limits: Limits | None = None
        self._look_at = 0.0  # not before then, on the monotonic clock
        self._full_name = requests.full_name(name or "")
        self._pid = os.getpid()
        self.scheduler_comm: Any
        self.security: Any = None
        awaited = self._awaited if asynchronous is None else asynchronous
        super().__init__(asynchronous=awaited, loop=loop, quiet=quiet, name=name or "(starting)")
        if not self.called_from_running_loop:
            self._loop_runner.start()
            try:
                self._progress = progress.begin(quiet=quiet)  # here, in the thread of the cell
                self.sync(self._start)
            except BaseException:
                self.status = Status.closed
                self._loop_runner.stop()
                raise
            finally:
                self._progress.close()
            self._warn()  # here, where the caller's line can be told

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
        quiet: bool = False,
        start_timeout: Span | None = None,
        address: str | None = None,
        proxy_address: str | int | None = None,
        public_address: str | None = None,
    ) -> C:
        """Return a cluster that exists; closing it leaves it running, unless told otherwise.

        Where its gateway is may be given as to Gateway (`address` …) in place of a Gateway.
        """
        return cls(
            name,
            gateway,
            address=address,
            proxy_address=proxy_address,
            public_address=public_address,
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
        if self._progress is progress.NONE:  # in an event loop that is the user's own
            self._progress = progress.begin(quiet=self.quiet)
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
        finally:
            self._progress.close()
            self._progress = progress.NONE

    async def _begin(self) -> None:
        if self._existing:
            resource = await self._get()
        else:
            resource = self._told(await creating.create_async(self._connection, self._asked))
        self.name = self.cluster_id
        resource = self._told(await in_thread(lambda: self._await_active(resource), waits=True))
        if not self._existing:
            self._said = settling.clamped(resource)
        versions.tell(resource)
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
        words = printable(log)
        self._cluster_manager_logs.append((datetime.now(timezone.utc), words))
        self._progress.tell(words)

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
        with suppress(errors.GatewayError):  # it starts meanwhile
            offer = self._connection.call(api.GET_CLUSTER_OPTIONS, pb.GetClusterOptionsRequest())
            self._limits = Limits.from_proto(offer.limits)
        wanted = (ClusterState.ACTIVE, ClusterState.STOPPING)
        cluster = waiting.wait(
            self._connection,
            accepted.name,
            wanted,
            self._start_timeout_s,
            tell,
            accepted.revision,
        )
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
        place = wire.split_host_port(self._connection.settings.proxy_address)
        if place is not None:
            target = wire.SchedulerAddress(*place, target.uid, target.prefix)
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
        self._warn()
        return self

    def _warn(self) -> None:
        said, self._said = self._said, ""
        if said:
            errors.warn(said)

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
        told = self._resource.status.endpoints.dashboard if self._resource is not None else ""
        public = self._connection.settings.public_address
        return f"{public}{wire.DASHBOARD_PATH}{self.uid}/status" if told and public else told

    @property
    def requested(self) -> set[Any]:
        """Names of the workers there are: the gateway names those to come."""
        return {worker.get("name") for worker in self.scheduler_info["workers"].values()}

    plan = requested

    def _repr_html_(self, cluster_status: str | None = None) -> str:
        self._look()
        if cluster_status is None and self._resource is not None:
            address = self._gateway.address
            cluster_status = display.status_rows(self._resource, self._limits, address)
        told = str(super()._repr_html_(cluster_status=cluster_status))
        return links.with_links(told, self.dashboard_link)

    def _scaling_status(self) -> str:
        self._look()
        return display.scaling_table(
            len(self.scheduler_info["workers"]), self._resource, self._adaptive, self._limits
        )

    def _look(self) -> None:
        """Ask the gateway beside the caller, who shows what is known by now; again and again while
        somebody looks, and never while nobody does."""
        now = time.monotonic()
        if self.status is Status.running and now >= self._look_at:
            self._look_at = now + LOOK_S
            with suppress(RuntimeError):  # the loop is closed: the interpreter is ending
                loop = self.loop
                if loop is not None:
                    loop.add_callback(self._look_again)

    async def _look_again(self) -> None:
        once = Connection(replace(self._connection.settings, retry_s=0.0))
        request = pb.GetClusterRequest(name=self._uid_name)
        with suppress(errors.GatewayError):
            self._told(Cluster.from_proto(await once.call_async(api.GET_CLUSTER, request)))

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
