"""AsyncGateway: everything a user may ask of a gateway, for event loops.

Calls are made in threads, whatever the event loop: gRPC's own asyncio may be touched by one loop of
a process only.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gateway.client.calls import messages as requests
from gateway.client.calls.channel import in_thread
from gateway.client.calls.messages import Groups, Named, Span, Workers
from gateway.client.calls.options import Options
from gateway.client.calls.streams import stepped
from gateway.client.dask.modes import CreateMode
from gateway.client.gateway import BaseGateway, Credentials, G
from gateway.client.model import (
    Bookmark,
    Caller,
    Cluster,
    ClusterState,
    DashboardTicket,
    Event,
    LogPiece,
    NewToken,
    Page,
    Scope,
    SignInOption,
    Token,
    WatchEvent,
)

if TYPE_CHECKING:
    from gateway.client.dask.cluster import AsyncGatewayCluster


class AsyncGateway(BaseGateway):
    """A gateway, whose methods are awaited; it has the methods of Gateway.

    :param address: where it is, such as `https://host` or `http://host:port`.
    :param auth: who calls: an Auth, an API token, or user and password.
    :param proxy_address: `host:port` of the edge that schedulers are reached through, where that
        differs from what the gateway tells; a mere port is of the gateway's own host.
    :param public_address: below which browsers see dashboards, where that differs.

    What is not given is taken from Dask's configuration (`gateway.…`) and the environment;
    ValueError if no address is found. Every method raises errors of gateway.client.calls.errors. A
    cancelled call may have reached the gateway.
    """

    asynchronous = True

    def __init__(
        self,
        address: str | None = None,
        auth: Credentials | None = None,
        *,
        proxy_address: str | int | None = None,
        public_address: str | None = None,
    ) -> None:
        super().__init__(address, auth, proxy_address=proxy_address, public_address=public_address)

    async def __aenter__(self: G) -> G:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Nothing is held: channels belong to the process."""

    # Clusters

    async def cluster_options(self, use_local_defaults: bool = True) -> Options:
        """Return what may be asked for in a new cluster, with what `gateway.cluster.options` of
        Dask's configuration chooses already, unless told otherwise."""
        return await in_thread(lambda: self.blocking().cluster_options(use_local_defaults))

    async def get_versions(self) -> dict[str, dict[str, str]]:
        """Return the versions of the gateway's server and of this client; the server's is empty
        where it is too old to tell."""
        return await in_thread(self.blocking().get_versions)

    async def list_clusters(
        self,
        status: Sequence[ClusterState | str] | ClusterState | str | None = None,
        *,
        show_finished: bool = False,
        everybody: bool = False,
    ) -> Page[Cluster]:
        """Return the caller's clusters, newest first; with `everybody` those of every user (admins
        only). `status` names the states that are listed; by default those not finished."""
        return await in_thread(
            lambda: self.blocking().list_clusters(
                status, show_finished=show_finished, everybody=everybody
            )
        )

    async def get_cluster(self, name: Named) -> Cluster:
        """Return one cluster as the gateway knows it; ClusterNotFound if there is none."""
        return await in_thread(lambda: self.blocking().get_cluster(name))

    async def submit(
        self,
        name: str | None = None,
        *,
        n_workers: Workers | None = None,
        worker_groups: Groups | None = None,
        idle_timeout: Span | None = None,
        max_lifetime: Span | None = None,
        no_client_timeout: Span | None = None,
        no_task_timeout: Span | None = None,
        shutdown_on_close: bool | None = None,
        create_mode: CreateMode | str = CreateMode.CREATE_ONLY,
        quiet: bool = False,
        start_timeout: Span | None = None,
        options: Options | Mapping[str, Any] | None = None,
        backend: str = "",
        labels: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> Cluster:
        """Ask for a cluster and return it at once, as accepted; keywords are those of
        GatewayCluster, and options by their names.

        Nothing is waited for or shown, so `quiet` and `start_timeout` change nothing; nothing is
        closed, so `shutdown_on_close=True` is refused.
        """
        named: dict[str, Any] = {
            "n_workers": n_workers,
            "worker_groups": worker_groups,
            "idle_timeout": idle_timeout,
            "max_lifetime": max_lifetime,
            "no_client_timeout": no_client_timeout,
            "no_task_timeout": no_task_timeout,
            "shutdown_on_close": shutdown_on_close,
            "create_mode": create_mode,
            "quiet": quiet,
            "options": options,
            "backend": backend,
            "labels": labels,
        }
        return await in_thread(lambda: self.blocking().submit(name, **named, **kwargs))

    def new_cluster(
        self,
        name: str | None = None,
        *,
        n_workers: Workers | None = None,
        worker_groups: Groups | None = None,
        idle_timeout: Span | None = None,
        max_lifetime: Span | None = None,
        no_client_timeout: Span | None = None,
        no_task_timeout: Span | None = None,
        shutdown_on_close: bool | None = None,
        create_mode: CreateMode | str = CreateMode.CREATE_ONLY,
        quiet: bool = False,
        start_timeout: Span | None = None,
        options: Options | Mapping[str, Any] | None = None,
        backend: str = "",
        labels: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> AsyncGatewayCluster:
        """Return a new cluster that is asked for when it is awaited or entered; keywords are those
        of GatewayCluster, and options."""
        from gateway.client.dask.cluster import AsyncGatewayCluster

        return AsyncGatewayCluster(
            name,
            self,
            n_workers=n_workers,
            worker_groups=worker_groups,
            idle_timeout=idle_timeout,
            max_lifetime=max_lifetime,
            no_client_timeout=no_client_timeout,
            no_task_timeout=no_task_timeout,
            shutdown_on_close=shutdown_on_close,
            create_mode=create_mode,
            quiet=quiet,
            start_timeout=start_timeout,
            options=options,
            backend=backend,
            labels=labels,
            **kwargs,
        )

    def connect(self, name: Named, *, shutdown_on_close: bool = False) -> AsyncGatewayCluster:
        """Return a cluster that exists already, for awaiting or entering. Closing it leaves it
        running, unless told otherwise."""
        from gateway.client.dask.cluster import AsyncGatewayCluster

        return AsyncGatewayCluster.from_name(
            name, gateway=self, shutdown_on_close=shutdown_on_close
        )

    async def scale_cluster(
        self, name: Named, n: int, *, group: str = requests.DEFAULT_GROUP
    ) -> Cluster:
        """Wish n workers in a group; return the cluster, once the gateway has taken that up (or
        after a second). GatewayWarning where a limit grants fewer; ValueError if it has no such
        group."""
        return await in_thread(lambda: self.blocking().scale_cluster(name, n, group=group))

    async def adapt_cluster(
        self,
        name: Named,
        minimum: int | None = 0,
        maximum: int | None = None,
        *,
        group: str = requests.DEFAULT_GROUP,
        active: bool = True,
        interval: Span | None = None,
        wait_count: int | None = None,
        target_duration: Span | None = None,
    ) -> Cluster:
        """Wish as many workers in a group as its load needs, between bounds; answers, warns and
        raises as scale_cluster.

        The load is looked at every `interval`; a worker goes once `wait_count` looks in a row have
        found it too many; the work that there is may take `target_duration`. Where no maximum is
        given it is 100. Where `active` is false, adapting ends: the workers there are stay.
        """
        return await in_thread(
            lambda: self.blocking().adapt_cluster(
                name,
                minimum,
                maximum,
                group=group,
                active=active,
                interval=interval,
                wait_count=wait_count,
                target_duration=target_duration,
            )
        )

    async def change_lifetimes(
        self,
        name: Named,
        *,
        idle_timeout: Span | None = None,
        max_lifetime: Span | None = None,
        no_client_timeout: Span | None = None,
        no_task_timeout: Span | None = None,
        keepalive_timeout: Span | None = None,
    ) -> Cluster:
        """Wish other times after which the gateway stops a cluster by itself, such as "2 hours"; 0
        is never, None leaves one as it is. Return the cluster."""
        return await in_thread(
            lambda: self.blocking().change_lifetimes(
                name,
                idle_timeout=idle_timeout,
                max_lifetime=max_lifetime,
                no_client_timeout=no_client_timeout,
                no_task_timeout=no_task_timeout,
                keepalive_timeout=keepalive_timeout,
            )
        )

    async def keep_alive(self, names: Sequence[str]) -> tuple[str, ...]:
        """Give a sign of life for clusters that need one (`keepalive_timeout`); return those names
        that need none any more. A GatewayCluster does so by itself."""
        return await in_thread(lambda: self.blocking().keep_alive(names))

    async def stop_cluster(self, name: Named) -> Cluster:
        """Wish a cluster's end; return the cluster, once the gateway has begun to stop it (or after
        a second). One that is stopped already stays so."""
        return await in_thread(lambda: self.blocking().stop_cluster(name))

    async def wait(
        self,
        name: Named,
        states: Sequence[ClusterState | str] | ClusterState | str = (ClusterState.ACTIVE,),
        *,
        timeout_s: float = 300.0,
        told: Callable[[Cluster], None] | None = None,
    ) -> Cluster:
        """Wait until a cluster is in one of the states, or finished; return it.

        DeadlineExceeded after the timeout, in which the time that its scheduler waits in a batch
        system's queue does not count. `told` is called with the cluster whenever it has changed, in
        the event loop.
        """
        loop, given_up = asyncio.get_running_loop(), threading.Event()

        def tell(cluster: Cluster) -> None:
            if given_up.is_set():
                raise asyncio.CancelledError  # ends the thread too
            if told is not None:
                loop.call_soon_threadsafe(told, cluster)

        try:
            return await in_thread(
                lambda: self.blocking().wait(name, states, timeout_s=timeout_s, told=tell),
                waits=True,
            )
        finally:
            given_up.set()

    def watch(
        self, *, start_revision: int = 0, clusters: Sequence[str] = ()
    ) -> AsyncGenerator[WatchEvent | Bookmark, None]:
        """Yield changes of the caller's clusters, for ever; a lost stream is resumed where it broke
        off.

        A `start_revision` of 0 begins with the present state of what lives. `contextlib.aclosing`
        ends it for sure.
        """
        return stepped(self.blocking().watch(start_revision=start_revision, clusters=clusters))

    async def get_logs(
        self, name: Named, instances: Sequence[str] = (), *, tail_lines: int = 0
    ) -> dict[str, str]:
        """Return logs by instance (`scheduler` or a worker's name), also of what has ended; 0 lines
        are all that is kept."""
        return await in_thread(
            lambda: self.blocking().get_logs(name, instances, tail_lines=tail_lines)
        )

    def stream_logs(
        self,
        name: Named,
        instances: Sequence[str] = (),
        *,
        tail_lines: int = 0,
        follow: bool = False,
    ) -> AsyncGenerator[LogPiece, None]:
        """Yield pieces of logs, with `follow` also what is written from now on.
        `contextlib.aclosing` ends it for sure."""
        return stepped(
            self.blocking().stream_logs(name, instances, tail_lines=tail_lines, follow=follow)
        )

    async def events(self, name: Named) -> Page[Event]:
        """Return what happened to a cluster, newest first, also after its end."""
        return await in_thread(lambda: self.blocking().events(name))

    async def dashboard_ticket(self, name: Named) -> DashboardTicket:
        """Return a permission to open a cluster's dashboard in a browser."""
        return await in_thread(lambda: self.blocking().dashboard_ticket(name))

    async def dashboard_url(self, name: Named) -> str:
        """Return an address that opens a cluster's dashboard in a browser within a minute."""
        return await in_thread(lambda: self.blocking().dashboard_url(name))

    # Credentials

    async def whoami(self) -> Caller:
        """Return who the gateway takes the caller for."""
        return await in_thread(self.blocking().whoami)

    async def sign_in_options(self) -> Page[SignInOption]:
        """Return by what one may sign in here; needs no credentials."""
        return await in_thread(self.blocking().sign_in_options)

    async def create_token(
        self,
        display_name: str = "",
        *,
        ttl_s: float | timedelta | None = None,
        scopes: Sequence[Scope | str] = (),
    ) -> NewToken:
        """Make an API token; the answer's `secret` is shown only now.

        `ttl_s` is how long it is valid, in seconds or as a timedelta; by default 30 days, or as
        long as the credentials of this call. Without `scopes` it may do what these may. A token
        that is made with a token ends with that one.
        """
        return await in_thread(
            lambda: self.blocking().create_token(display_name, ttl_s=ttl_s, scopes=scopes)
        )

    async def list_tokens(self) -> Page[Token]:
        """Return the caller's tokens, newest first."""
        return await in_thread(self.blocking().list_tokens)

    async def revoke_token(self, token_id: str) -> tuple[str, ...]:
        """Make a token useless, and those that were made with it; return the ids of all of them.
        TokenNotFound if there is none."""
        return await in_thread(lambda: self.blocking().revoke_token(token_id))

    async def end_sessions(self) -> tuple[str, ...]:
        """End all sessions of the caller, those of browsers and of this very object too, and what
        was made with them; return the ids of all of these. API tokens that other sign-ins made
        stay."""
        return await in_thread(self.blocking().end_sessions)
