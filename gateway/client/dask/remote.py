"""How a cluster behind the gateway begins, is shown and ends, as one of Dask's own cluster objects.
How it is sized: sizing.py."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import warnings
from collections.abc import Callable, Coroutine, Generator, Mapping
from concurrent.futures import Future
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
from gateway.client.dask import comm, ownership, unheld, versions
from gateway.client.dask.adaptive import GatewayAdaptive
from gateway.client.dask.following import Remains
from gateway.client.dask.modes import CreateMode, differences, used_as_it_is
from gateway.client.dask.views import ViewedCluster
from gateway.client.gateway import BaseGateway, Credentials, Gateway
from gateway.client.model import Cluster, ClusterState, Limits, reasons
from gateway.printable import printable

logger = logging.getLogger("distributed.deploy.gateway")

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
        raise TypeError(
            "gateway and address are the same: give one of them; where the edge is stands in"
            " proxy_address"
        )
    where = {"address": gateway, **place}
    made: BaseGateway = Gateway(where.pop("address"), auth, **where)
    return made


class RemoteCluster(ViewedCluster):
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
        create_mode: CreateMode | str = CreateMode.CREATE_ONLY,
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
        self._mode = CreateMode.of(create_mode)
        self._existing = self._mode is CreateMode.CONNECT_ONLY
        self._claim: ownership.Claim | None = None
        self._starting: asyncio.Task[Any] | None = None
        name, options, place = creating.others(name, options, kwargs)
        if self._existing and not name:
            raise ValueError("create_mode connect_only needs the name of a cluster")
        self._gateway = _gateway_of(gateway, auth, place)
        self._connection = self._gateway.connection
        self._shutdown_on_close = (
            settings.shutdown_on_close()
            if shutdown_on_close is None
            else reading.truth(shutdown_on_close, "shutdown_on_close")
        )
        self._shutdown_said = shutdown_on_close is not None
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
        if self._shutdown_on_close:
            named["keepalive_timeout"] = settings.keepalive_timeout()
        self._asked = creating.ask(name, named, kwargs, creating.takes(RemoteCluster.__init__))
        self._resource: Cluster | None = None
        self._limits: Limits | None = None
        self._look_at = 0.0  # not before then, on the monotonic clock
        self._full_name = requests.asked_name(name or "")  # until the gateway tells
        self._pid = os.getpid()
        self.scheduler_comm: Any
        self.security: Any = None
        awaited = self._awaited if asynchronous is None else asynchronous
        ownership.regularly(unheld.close_unused)
        ownership.be_ready()
        quiet = reading.truth(quiet, "quiet")
        super().__init__(asynchronous=awaited, loop=loop, quiet=quiet, name=name or "(starting)")
        if not self.called_from_running_loop:
            try:
                self._loop_runner.start()
                self._progress = progress.begin(quiet=quiet)  # here, in the thread of the cell
                self.sync(self._start)
            except BaseException as error:
                self._give_up()
                self._drop(at_once=isinstance(error, Exception))
                raise
            finally:
                self._progress.close()
            self._warn()  # here, where the caller's line can be told

    @classmethod
    def from_name(
        cls: type[C],
        name: requests.Named,
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
            requests.name_of(name),
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
            create_mode=CreateMode.CONNECT_ONLY,
        )

    @staticmethod
    def heed_signals() -> None:
        """Have `SIGTERM` and `SIGHUP` stop first what this process owns, where the program has no
        handlers of its own, as the first cluster does that is made in the main thread. For a
        program that makes its clusters in other threads, to be called in its main one;
        RuntimeError elsewhere."""
        if not ownership.heed_signals():
            raise RuntimeError("heed_signals must be called in the main thread of the program")

    # Life

    async def _start(self) -> None:
        if self.status is not Status.created:
            return
        self.status = Status.starting
        self._starting = asyncio.current_task()
        if self._progress is progress.NONE:  # in an event loop that is the user's own
            self._progress = progress.begin(quiet=self.quiet)
        try:
            await self._begin()
        except BaseException as error:
            told = self._give_up()
            self.status, self._starting = Status.closed, None
            await asyncio.shield(asyncio.ensure_future(Remains(self).close()))
            if told is not None and isinstance(error, Exception):  # who is cancelled does not wait
                # what it comes to is tried again, and none of the caller's errors
                await asyncio.gather(asyncio.wrap_future(told), return_exceptions=True)
            raise
        finally:
            self._starting = None
            self._progress.close()
            self._progress = progress.NONE

    async def _begin(self) -> None:
        resource = await self._get() if self._existing else await self._create()
        if self._existing:
            await self._join(resource)
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
                size = group.adaptive
                pace = size.interval, size.wait_count or None, size.target_duration
                self._adaptive = GatewayAdaptive(
                    self, requests.bounds(size.minimum, size.maximum, *pace), name
                )
        if self._claim is not None and not self._existing and not self._shutdown_on_close:
            self._claim.forget()

    async def _create(self) -> Cluster:
        """Return the new cluster; or the one that there is, where that will do."""
        request = self._asked.request
        claim = self._claim = ownership.Claim(
            self._connection,
            request_id=request.request_id,
            keep_s=request.cluster.spec.lifecycle.keepalive_timeout.ToTimedelta().total_seconds(),
        )
        ask = functools.partial(creating.create, self._connection, self._asked)
        try:
            return self._told(await in_thread(lambda: claim.create(ask)))
        except errors.ClusterExists:
            if self._mode is CreateMode.CREATE_ONLY:
                raise
            self._claim = None
            resource = await self._get()
            if resource.state.ending:
                raise
            self._existing = True
            return resource

    async def _join(self, resource: Cluster) -> None:
        """Keep a cluster alive that exists, and own it if it is to be stopped: as whoever made it
        wished, unless this object says otherwise."""
        if other := differences(self._asked.request, resource, self._asked.configured):
            self._said = used_as_it_is(resource, other)
        asked = resource.spec.lifecycle.keepalive_timeout
        if not self._shutdown_said:
            self._shutdown_on_close = bool(asked) and self._mode is not CreateMode.CONNECT_ONLY
        stops = self._shutdown_on_close
        if (mine := ownership.of_this_process(self._uid_name)) is not None:
            mine.holders += 1
            mine.stops = mine.stops or stops
            self._claim = mine
            return
        if not stops and not asked:
            return
        configured = settings.configured_span("cluster.keepalive-timeout", 0.0)
        keep_s = asked.total_seconds() if asked else configured
        self._claim = ownership.Claim(
            self._connection, name=self._uid_name, keep_s=keep_s, stops=stops
        )
        self._claim.own()
        if not asked and keep_s:
            request = requests.lifecycle(self._uid_name, {"keepalive_timeout": keep_s})
            self._told(
                Cluster.from_proto(await self._connection.call_async(api.UPDATE_CLUSTER, request))
            )

    def _give_up(self) -> Future[None] | None:
        """Stop what was asked for and will not be used; return the attempt. Does not wait."""
        if self._claim is None:
            return None
        if self._existing:  # it goes on as before
            self._claim.leave()
            self._claim = None
            return None
        return self._claim.settle(ownership.Wish.STOP)

    def _drop(self, *, at_once: bool) -> None:
        """Close what lives on the event loop of an object that is used no more; unless at once, in
        another thread."""
        self.status = Status.closed
        end = Remains(self).end
        if at_once:
            end()
        else:
            ownership.later(end)

    def __del__(self, _warn: Any = warnings.warn) -> None:
        """Be collected: that is the end that `shutdown_on_close` says, without a wait."""
        status = getattr(self, "status", Status.closed)
        if status in (Status.created, Status.closed) or os.getpid() != self._pid:
            return
        if self._claim is not None:
            self._claim.drop()
        self._drop(at_once=False)
        if self._claim is None or self._claim.holders <= 0:
            _warn(f"unclosed cluster {self.name}", ResourceWarning)

    def _log(self, log: str) -> None:
        words = printable(log)
        self._cluster_manager_logs.append((datetime.now(timezone.utc), words))
        self._progress.tell(words)

    def __repr__(self) -> str:
        return printable(super().__repr__(), keep="")

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
        if self._claim is not None:
            self._claim.forget()
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
        await self._close_told(self._settle(shutdown))

    async def _close_told(self, told: Future[None] | None) -> None:
        """Close, and wait until the gateway has been told."""
        try:
            if told is not None:
                await asyncio.shield(asyncio.wrap_future(told))
        finally:
            if self.status not in (Status.closing, Status.closed):
                self._adaptive = None  # the scheduler's own, which goes on if the cluster does
                await super()._close()

    def _settle(self, shutdown: bool | None) -> Future[None] | None:
        """Begin to tell the gateway what is to become of the cluster; None if there is nothing to
        tell. Done at once, so that no cancelled task takes it along."""
        if os.getpid() != self._pid or (self._resource is None and self._claim is None):
            return None
        stop = self._shutdown_on_close if shutdown is None else shutdown
        claim = self._claim
        if claim is not None and claim.pending and shutdown is None:
            return claim.settle(claim.wish)  # an earlier close, of which the gateway does not know
        if claim is None or not claim.held:
            told_before = claim is not None and claim.wish is ownership.Wish.STOP
            if not stop or told_before:
                return None
            claim = self._claim = ownership.Claim(self._connection, name=self._uid_name)
            claim.own()
        asked = shutdown is not None
        if not stop and not (claim.stops and (asked or not self._existing)):
            # it is another's to stop, or to let go on
            self._claim = None
            claim.leave()
            return None
        return claim.settle(ownership.Wish.STOP if stop else ownership.Wish.LEAVE)

    def _end(self, timeout: float | None, shutdown: bool | None) -> Any:
        if isinstance(timeout, bool):  # `close(False)` of who comes from dask-gateway
            timeout, shutdown = None, timeout if shutdown is None else shutdown
        if timeout is not None:
            timeout = reading.seconds(timeout, "timeout")
        if os.getpid() != self._pid and not shutdown:  # its parent's goes on
            return asyncio.ensure_future(asyncio.sleep(0)) if self.asynchronous else None
        self._check_process()
        told = self._settle(shutdown)
        if self.status == Status.closed:
            if told is None:
                return super().close(timeout)
            return asyncio.wrap_future(told) if self.asynchronous else told.result(timeout)
        try:
            if self.asynchronous:
                return asyncio.ensure_future(self._close_told(told))
            self.sync(self._close_told, told, callback_timeout=timeout)
        except RuntimeError:  # the loop is closed already: the interpreter is ending
            return None
        except BaseException as error:
            self._drop(at_once=isinstance(error, Exception))
            raise
        self._loop_runner.stop()
        return None

    def _do(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Any:
        """Do something, or begin it where asynchronous: it is on its way even if what is returned
        is not awaited."""
        return asyncio.ensure_future(work()) if self.asynchronous else self.sync(work)

    async def _get_logs(
        self, cluster: bool = True, scheduler: bool = True, workers: Any = True
    ) -> Logs:
        """Return logs from the scheduler; if it does not answer, what the gateway keeps."""
        if self.status == Status.running:
            chosen = self._addresses(workers)
            with suppress(OSError, TimeoutError):
                told: Logs = await super()._get_logs(cluster, scheduler, chosen)
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
