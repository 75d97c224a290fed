"""GatewayCluster: a cluster behind the gateway as one of Dask's own cluster objects."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import dask.config
from dask.utils import parse_timedelta
from daskgateway.v1 import cluster_pb2
from distributed.core import Status, rpc
from distributed.deploy.cluster import Cluster
from distributed.utils import Log, Logs

from gateway import wire
from gateway.client import credentials, errors, requests, settings
from gateway.client.channel import Connection, in_thread
from gateway.client.gateway import Gateway, _wishes
from gateway.client.requests import CLUSTERS, DEFAULT_GROUP

EXIT_TIMEOUT_S = 5.0  # for all clusters together, when the interpreter ends

_to_stop: dict[str, tuple[Connection, int]] = {}  # clusters to be stopped with this process, by name, and the process's pid


class GatewayAdaptive:
    """What `adapt` returns: the bounds that the scheduler keeps by itself, with no client around."""

    periodic_callback = True  # Dask's own display takes this for "adaptive"

    def __init__(self, cluster: GatewayCluster, minimum: int, maximum: int, group: str, done: Any = None) -> None:
        self.cluster, self.minimum, self.maximum, self.group = cluster, minimum, maximum, group
        self._done = done

    def stop(self) -> None:
        """Nothing: a later `scale` ends adapting."""

    def __await__(self) -> Any:
        async def settle() -> GatewayAdaptive:
            if self._done is not None:
                await self._done
            return self

        return settle().__await__()

    def __repr__(self) -> str:
        return f"GatewayAdaptive<minimum={self.minimum}, maximum={self.maximum}, group={self.group!r}>"


class GatewayCluster(Cluster):
    """A new cluster of a gateway, or (by `from_name`) one that exists.

    Parameters
    ----------
    name: id of the cluster; by default the server chooses one.
    gateway: a Gateway, or its address; by default as configured.
    auth: who calls, where no Gateway is given.
    n_workers: workers to begin with; `adapt` and `scale` change it.
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
        n_workers: int | None = None,
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
        defaults = dask.config.get("gateway.cluster", {}) or {}
        keep = defaults.get("shutdown-on-close", True) if shutdown_on_close is None else shutdown_on_close
        self._shutdown_on_close = bool(keep)
        self._start_timeout_s = parse_timedelta(start_timeout or defaults.get("start-timeout") or "5 minutes")
        wishes: dict[str, Any] = {"backend": backend, "labels": labels, "workers": n_workers}
        chosen = _wishes({"options": options, **kwargs})["options"]
        self._request = requests.create(name or "", options={**(defaults.get("options") or {}), **chosen}, **wishes)
        self._resource = cluster_pb2.Cluster(name=requests.full_name(name or ""))
        self._pid = os.getpid()
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
                    await self._call("StopCluster", requests.stop(self._resource.name))
            if self.scheduler_comm is not None:
                await self.scheduler_comm.close_rpc()
            self.status = Status.closed
            raise

    async def _begin(self) -> None:
        if self._existing:
            self._resource = await self._get()
        else:
            self._resource = await self._call("CreateCluster", self._request)
        self.name = self.cluster_id
        with _Progress(self) as told:
            await in_thread(lambda: self._await_active(told))
        found = await in_thread(lambda: credentials.obtain(self._connection, self._resource.name))
        credentials.remember(self._resource.uid, found)
        self.security = found.security()
        self.scheduler_comm = rpc(self._address(), connection_args=self.security.get_connection_args("client"))
        await super()._start()
        if self._shutdown_on_close:
            _to_stop[self._resource.name] = (self._connection, self._pid)
            self._finalizer = weakref.finalize(self, _stop_in_background, self._connection, self._resource.name, self._pid)
            self._finalizer.atexit = False

    def _await_active(self, told: Callable[[cluster_pb2.Cluster], None]) -> None:
        plain = Gateway.__new__(Gateway)
        plain._connection, plain.asynchronous = self._connection, False
        told(self._resource)  # it may have waited for hours, and nothing may change for as long
        cluster = plain._wait(self._resource.name, ("ACTIVE", "STOPPING"), self._start_timeout_s, told)
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
            target = wire.SchedulerAddress(host, port, target.uid)
        return str(target)

    async def _get(self) -> cluster_pb2.Cluster:
        from daskgateway.v1 import cluster_service_pb2

        return await self._call("GetCluster", cluster_service_pb2.GetClusterRequest(name=self._resource.name))

    async def _call(self, method: str, request: Any) -> cluster_pb2.Cluster:
        return await self._connection.call_async(CLUSTERS, method, request, cluster_pb2.Cluster)

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
        if _to_stop.pop(self._resource.name, None) is not None:
            self._finalizer.detach()
        try:
            if stop and self._resource.uid:
                with suppress(errors.ClusterNotFound, errors.PermissionDenied):
                    await self._call("StopCluster", requests.stop(self._uid_name))
        finally:
            await super()._close()

    def close(self, timeout: float | None = None, shutdown: bool | None = None) -> Any:
        """Close; stops the cluster if it was made to (or `shutdown` says so)."""
        if self.status == Status.closed:
            return super().close(timeout)
        try:
            if self.asynchronous:
                return asyncio.ensure_future(self._close(shutdown))
            return self.sync(self._close, shutdown, callback_timeout=timeout)
        except RuntimeError:  # the loop is closed already: the interpreter is ending
            return None

    def shutdown(self) -> Any:
        """Stop the cluster and close."""
        return self.close(shutdown=True)

    @property
    def _uid_name(self) -> str:
        """The cluster's name by its uid: it never means another cluster that took the id later."""
        return f"users/{self._resource.owner}/clusters/{self._resource.uid}"

    # Size

    def scale(self, n: int, group: str = DEFAULT_GROUP) -> Any:
        """Wish n workers in a group. The request is on its way even if the result is not awaited."""
        self._adaptive = None
        return self._begin_now(lambda: self._call("UpdateCluster", requests.scale(self._uid_name, int(n), group)))

    def adapt(  # type: ignore[override]
        self, minimum: int = 0, maximum: int | float | None = None, *, group: str = DEFAULT_GROUP, active: bool = True, **_: Any
    ) -> GatewayAdaptive:
        """Let the scheduler size a group by its load, between bounds; it does so with no client around.

        Keywords of Dask's own Adaptive that have no meaning here (interval, target_duration, …) are accepted.
        """
        bound = int(maximum) if maximum is not None and maximum != float("inf") else max(100, int(minimum))
        if not active:
            self._begin_now(lambda: self._call("UpdateCluster", requests.scale(self._uid_name, len(self.scheduler_info["workers"]), group)))
            return GatewayAdaptive(self, int(minimum), bound, group)
        request = requests.scale(self._uid_name, (int(minimum), max(1, bound)), group)
        done = self._begin_now(lambda: self._call("UpdateCluster", request))
        self._adaptive = GatewayAdaptive(self, int(minimum), bound, group, done)
        return self._adaptive

    def _begin_now(self, work: Callable[[], Any]) -> Any:
        if self.asynchronous:
            return asyncio.ensure_future(work())
        self.sync(work)
        return None

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
        """Names of workers, as Dask's display wants them."""
        return {worker.get("name") for worker in self.scheduler_info["workers"].values()}

    def describe(self) -> Any:
        """Return the cluster as the server knows it now."""
        return self.sync(self._get)

    async def _get_logs(self, cluster: bool = True, scheduler: bool = True, workers: Any = True) -> Logs:
        """Return logs from the scheduler; if it does not answer, what the gateway keeps."""
        if self.status == Status.running:
            with suppress(OSError, TimeoutError):
                return await super()._get_logs(cluster, scheduler, workers)
        plain = Gateway.__new__(Gateway)
        plain._connection, plain.asynchronous = self._connection, False
        found = await in_thread(lambda: plain.get_logs(self._uid_name))
        wanted = {name: text for name, text in found.items() if (scheduler if name == "scheduler" else workers)}
        logs = Logs()
        for name, text in wanted.items():
            logs["Scheduler" if name == "scheduler" else name] = Log(text)
        return logs

    def __reduce__(self) -> Any:
        raise TypeError("a GatewayCluster cannot be sent elsewhere; send its name and use GatewayCluster.from_name")


class _Progress:
    """Says on a terminal what a starting cluster waits for; says nothing elsewhere."""

    def __init__(self, cluster: GatewayCluster) -> None:
        self._cluster = cluster
        self._shown = sys.stderr is not None and sys.stderr.isatty() and not cluster.quiet
        self._last = ""

    def __enter__(self) -> Callable[[cluster_pb2.Cluster], None]:
        return self._tell

    def _tell(self, cluster: cluster_pb2.Cluster) -> None:
        line = f"{requests.state(cluster)}: {requests.explanation(cluster)}"
        if self._shown and line != self._last:
            print(f"{self._cluster.cluster_id}: {line}", file=sys.stderr)
        self._last = line

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


def _stop_in_background(connection: Connection, name: str, pid: int) -> None:
    """Stop a cluster whose object was collected; never blocks the thread that collects."""
    if os.getpid() == pid and _to_stop.pop(name, None) is not None:
        threading.Thread(target=_stop_quietly, args=(connection, name, 30.0), daemon=True).start()


def _stop_quietly(connection: Connection, name: str, timeout_s: float) -> None:
    with suppress(Exception):  # nobody is left to tell
        connection.call(CLUSTERS, "StopCluster", requests.stop(name), cluster_pb2.Cluster, timeout_s=timeout_s)


@atexit.register
def _stop_all() -> None:
    """Stop what belongs to this process, when the interpreter ends; a forked child has nothing to stop."""
    for name, (connection, pid) in list(_to_stop.items()):
        if pid == os.getpid():
            quick = Connection(connection.settings.__class__(**{**connection.settings.__dict__, "retry_s": 0.0}))
            _stop_quietly(quick, name, EXIT_TIMEOUT_S)
    _to_stop.clear()
