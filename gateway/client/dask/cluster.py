"""GatewayCluster and AsyncGatewayCluster: a cluster behind the gateway for who blocks, and for who
awaits."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import cast

from distributed.client import Client
from distributed.utils import Logs

from gateway.client.async_gateway import AsyncGateway
from gateway.client.calls.messages import DEFAULT_GROUP, Amount, Span
from gateway.client.dask.remote import C
from gateway.client.dask.sizing import SizedCluster, workers_in_time
from gateway.client.gateway import Gateway
from gateway.client.model import Cluster


class GatewayCluster(SizedCluster):
    """A new cluster of a gateway, or (by `from_name`) one that exists.

    :param name: id of the cluster; by default the gateway chooses one.
    :param gateway: a Gateway, or its address; by default as configured.
    :param auth: who calls, where no Gateway is given.
    :param n_workers: workers to begin with, or (minimum, maximum) to begin adaptive; `adapt` and
        `scale` change it.
    :param worker_groups: further groups of workers by name, each a mapping with `n_workers` and
        options of its own.
    :param idle_timeout: how long it may have neither task nor client until the gateway stops it,
        such as "1 hour"; 0 is for ever.
    :param max_lifetime: how long it may live until the gateway stops it; 0 is for ever.
    :param no_client_timeout: how long it may run without a client until the gateway stops it; 0 is
        for ever.
    :param no_task_timeout: how long it may have no task, with clients or without, until the gateway
        stops it; 0 is for ever.
    :param shutdown_on_close: whether closing this object (or the end of this process) stops the
        cluster; by default as configured.
    :param create_mode: whether a cluster of that name is made (`create_only`), found
        (`connect_only`), or found if there is one (`create_or_connect`), as a cell wants it that is
        run again. GatewayWarning says what one that was found has otherwise than asked for. By
        default it ends with its last object if it was made to.
    :param asynchronous: whether it is made in an event loop and awaited there; its methods return
        awaitables then. Type checkers know such an object as AsyncGatewayCluster.
    :param loop: the event loop to use, as with Dask's own clusters.
    :param quiet: whether nothing is shown of what it waits for while it starts: by default a live
        line on a terminal, a widget in a notebook, and lines on standard error elsewhere.
    :param start_timeout: how long to wait until it can be used, such as "5 minutes"; time in a
        batch system's queue does not count.
    :param options: an Options object or a mapping.
    :param backend: where to run it; by default where the gateway runs clusters.
    :param labels: texts by name, free for the user.
    :param kwargs: options by their names.

    Errors are those of gateway.client.calls.errors: ClusterFailed says why a cluster could not be
    started.
    """

    @property
    def gateway(self) -> Gateway:
        """The gateway it belongs to."""
        return cast(Gateway, self._gateway)

    def scale(
        self,
        n: int | None = None,
        *,
        cores: float | None = None,
        memory: Amount | None = None,
        group: str = DEFAULT_GROUP,
    ) -> None:
        """Wish n workers in a group, or as many as make so many cores and so much memory (such as
        "64 GiB")."""
        return cast(None, self._scale(n, cores, memory, group))

    def describe(self) -> Cluster:
        """Return the cluster as the gateway knows it now."""
        return cast(Cluster, self.sync(self._get))

    def wait_for_workers(self, n_workers: int, timeout: Span | None = None) -> None:
        """Wait until n workers are connected.

        LimitReached at once if the gateway's limits grant fewer; WorkersLate, with the reason,
        after the timeout.
        """
        return super().wait_for_workers(*workers_in_time(n_workers, timeout))

    def get_logs(
        self, cluster: bool = True, scheduler: bool = True, workers: bool | Sequence[str] = True
    ) -> Logs:
        """Return the logs of this object, the scheduler and workers; if the scheduler does not
        answer, what the gateway keeps."""
        return cast(Logs, super().get_logs(cluster, scheduler, workers))

    def get_client(self, set_as_default: bool = True) -> Client:
        """Return the current client if it is one of this cluster, else a new one. With
        `set_as_default=False` always a new one, which is not the current one."""
        return self._client(set_as_default)

    def close(self, timeout: float | None = None, shutdown: bool | None = None) -> None:
        """Close; stops the cluster if it was made to (or `shutdown` says so)."""
        return cast(None, self._end(timeout, shutdown))

    def shutdown(self) -> None:
        """Stop the cluster and close."""
        return self.close(shutdown=True)

    def __enter__(self: C) -> C:
        return cast(C, super().__enter__())


class AsyncGatewayCluster(SizedCluster):
    """A GatewayCluster for event loops: await it or enter it, `async with AsyncGatewayCluster(…) as
    cluster`, and await its methods.

    Parameters and errors are those of GatewayCluster, but for `asynchronous`.
    """

    _awaited = True

    @property
    def gateway(self) -> AsyncGateway:
        """The gateway it belongs to."""
        return (
            self._gateway
            if isinstance(self._gateway, AsyncGateway)
            else AsyncGateway.over(self._connection)
        )

    def scale(  # type: ignore[override]
        self,
        n: int | None = None,
        *,
        cores: float | None = None,
        memory: Amount | None = None,
        group: str = DEFAULT_GROUP,
    ) -> Awaitable[None]:
        """Wish n workers in a group, or as many as make so many cores and so much memory (such as
        "64 GiB").

        The request is on its way even if the result is not awaited.
        """
        return cast(Awaitable[None], self._scale(n, cores, memory, group))

    def describe(self) -> Awaitable[Cluster]:
        """Return the cluster as the gateway knows it now."""
        return cast(Awaitable[Cluster], self.sync(self._get))

    def wait_for_workers(self, n_workers: int, timeout: Span | None = None) -> Awaitable[None]:  # type: ignore[override]
        """Wait until n workers are connected.

        LimitReached at once if the gateway's limits grant fewer; WorkersLate, with the reason,
        after the timeout.
        """
        return cast(Awaitable[None], super().wait_for_workers(*workers_in_time(n_workers, timeout)))

    def get_logs(
        self, cluster: bool = True, scheduler: bool = True, workers: bool | Sequence[str] = True
    ) -> Awaitable[Logs]:
        """Return the logs of this object, the scheduler and workers; if the scheduler does not
        answer, what the gateway keeps."""
        return cast(Awaitable[Logs], super().get_logs(cluster, scheduler, workers))

    def get_client(self, set_as_default: bool = True) -> Client:
        """Return the current client if it is one of this cluster, else a new one, to be awaited.
        With `set_as_default=False` always a new one, which is not the current one."""
        return self._client(set_as_default)

    def close(self, timeout: float | None = None, shutdown: bool | None = None) -> Awaitable[None]:
        """Close; stops the cluster if it was made to (or `shutdown` says so)."""
        return cast(Awaitable[None], self._end(timeout, shutdown))

    def shutdown(self) -> Awaitable[None]:
        """Stop the cluster and close."""
        return self.close(shutdown=True)
