"""Gateway: everything a user may ask of a gateway, for scripts and notebooks. What it answers are
classes of gateway.client.model.

AsyncGateway is the same for event loops.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, overload

from daskgateway.v1 import cluster_service_pb2 as pb
from daskgateway.v1 import credential_service_pb2 as credential_pb
from google.protobuf.duration_pb2 import Duration

from gateway import __version__
from gateway.client.calls import (
    api,
    creating,
    errors,
    keywords,
    paging,
    reading,
    settings,
    settling,
    waiting,
)
from gateway.client.calls import messages as requests
from gateway.client.calls.channel import Connection
from gateway.client.calls.messages import Groups, Named, Span, Workers
from gateway.client.calls.options import Options
from gateway.client.calls.streams import Changes, LogPieces
from gateway.client.dask.modes import CreateMode, differences, used_as_it_is
from gateway.client.model import (
    Caller,
    Cluster,
    ClusterState,
    DashboardTicket,
    Event,
    NewToken,
    Page,
    Scope,
    SignInOption,
    Token,
)

if TYPE_CHECKING:
    from gateway.client.async_gateway import AsyncGateway
    from gateway.client.dask.cluster import GatewayCluster

G = TypeVar("G", bound="BaseGateway")

Credentials = settings.Auth | str | tuple[str, str] | list[str]


class BaseGateway:
    """Where a gateway is and who calls: what Gateway and AsyncGateway have in common."""

    asynchronous: ClassVar[bool]
    """Whether methods return awaitables."""

    def __init__(
        self,
        address: str | None = None,
        auth: Credentials | None = None,
        *,
        proxy_address: str | int | None = None,
        public_address: str | None = None,
        asynchronous: bool = False,
        loop: object = None,
    ) -> None:
        self._connection = Connection(
            settings.load(address, auth, proxy_address=proxy_address, public_address=public_address)
        )

    @classmethod
    def over(cls: type[G], connection: Connection) -> G:
        """Return a gateway that is called over a connection which there is already."""
        made = object.__new__(cls)
        made._connection = connection
        return made

    @property
    def address(self) -> str:
        """Where the gateway is."""
        return self._connection.settings.address

    @property
    def connection(self) -> Connection:
        """The connection that calls are made over."""
        return self._connection

    def blocking(self) -> Gateway:
        """Return this gateway for calls that block."""
        return Gateway.over(self._connection)

    def __repr__(self) -> str:
        return f"{type(self).__name__}<{self.address}>"


class Gateway(BaseGateway):
    """A gateway, whose methods return when the gateway has answered.

    :param address: where it is, such as `https://host` or `http://host:port`.
    :param auth: who calls: an Auth, an API token, or user and password.
    :param proxy_address: `host:port` of the edge that schedulers are reached through, where that
        differs from what the gateway tells; a mere port is of the gateway's own host.
    :param public_address: below which browsers see dashboards, where that differs.
    :param asynchronous: whether to return an AsyncGateway instead, as Dask's own classes do.
    :param loop: accepted for likeness with Dask's own classes; calls do not need one.

    What is not given is taken from Dask's configuration (`gateway.…`) and the environment;
    ValueError if no address is found. Every method raises errors of gateway.client.calls.errors.
    """

    asynchronous = False

    @overload
    def __new__(
        cls: type[G],
        address: str | None = None,
        auth: Credentials | None = None,
        *,
        proxy_address: str | int | None = None,
        public_address: str | None = None,
        asynchronous: Literal[False] = False,
        loop: object = None,
    ) -> G: ...

    @overload
    def __new__(  # type: ignore[misc]
        cls,
        address: str | None = None,
        auth: Credentials | None = None,
        *,
        proxy_address: str | int | None = None,
        public_address: str | None = None,
        asynchronous: Literal[True],
        loop: object = None,
    ) -> AsyncGateway: ...

    def __new__(
        cls,
        address: str | None = None,
        auth: Credentials | None = None,
        *,
        proxy_address: str | int | None = None,
        public_address: str | None = None,
        asynchronous: bool = False,
        loop: object = None,
    ) -> Any:
        """Return a Gateway, or an AsyncGateway where `asynchronous` asks for one."""
        if not asynchronous:
            return object.__new__(cls)
        from gateway.client.async_gateway import AsyncGateway

        return AsyncGateway(
            address, auth, proxy_address=proxy_address, public_address=public_address
        )

    def __enter__(self: G) -> G:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is held: channels belong to the process."""

    # Clusters

    def cluster_options(self, use_local_defaults: bool = True) -> Options:
        """Return what may be asked for in a new cluster, with what `gateway.cluster.options` of
        Dask's configuration chooses already, unless told otherwise."""
        offer = self._connection.call(api.GET_CLUSTER_OPTIONS, pb.GetClusterOptionsRequest())
        try:
            return Options(offer, settings.cluster_options() if use_local_defaults else None)
        except (KeyError, ValueError) as error:
            raise ValueError(f"{error.args[0]} (it stands in {keywords.CONFIGURED})") from None

    def get_versions(self) -> dict[str, dict[str, str]]:
        """Return the versions of the gateway's server and of this client; the server's is empty
        where it is too old to tell."""
        offer = self._connection.call(api.GET_CLUSTER_OPTIONS, pb.GetClusterOptionsRequest())
        return {"server": {"version": offer.server_version}, "client": {"version": __version__}}

    def list_clusters(
        self,
        status: Sequence[ClusterState | str] | ClusterState | str | None = None,
        *,
        show_finished: bool = False,
        everybody: bool = False,
    ) -> Page[Cluster]:
        """Return the caller's clusters, newest first; with `everybody` those of every user (admins
        only). `status` names the states that are listed; by default those not finished."""
        request = pb.ListClustersRequest(
            parent="users/*" if everybody else "",
            show_finished=show_finished,
            page_size=paging.CLUSTERS,
            states=[f"CLUSTER_STATE_{state}" for state in waiting.listed_states(status)],
        )
        return paging.clusters(self._connection, request)

    def get_cluster(self, name: Named) -> Cluster:
        """Return one cluster as the gateway knows it; ClusterNotFound if there is none."""
        return Cluster.from_proto(
            self._connection.call(
                api.GET_CLUSTER, pb.GetClusterRequest(name=requests.full_name(name))
            )
        )

    def submit(
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
        if shutdown_on_close:
            raise TypeError(
                "submit makes no object that could be closed: its cluster lives on; use"
                " new_cluster for shutdown_on_close=True"
            )
        name, options, place = creating.others(name, options, kwargs)
        if place:
            raise TypeError(f"this gateway has its own {', '.join(sorted(place))}")
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
        asked = creating.ask(name, named, kwargs, creating.takes(Gateway.submit))
        mode, _ = CreateMode.of(create_mode), reading.truth(quiet, "quiet")
        if mode is CreateMode.CONNECT_ONLY:
            return self._found(name, asked)
        try:
            accepted = creating.create(self._connection, asked)
        except errors.ClusterExists:
            if mode is CreateMode.CREATE_ONLY:
                raise
            return self._found(name, asked)
        if asked.request.cluster.spec.worker_groups:  # whose number may be more than is granted
            settling.warn_of_limits(settling.settle(self._connection, accepted))
        return accepted

    def _found(self, name: str | None, asked: creating.Asked) -> Cluster:
        """Return a cluster that exists; GatewayWarning says what it has otherwise than asked."""
        if not name:
            raise ValueError("create_mode connect_only needs the name of a cluster")
        found = self.get_cluster(name)
        if other := differences(asked.request, found, asked.configured):
            errors.warn(used_as_it_is(found, other))
        return found

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
    ) -> GatewayCluster:
        """Ask for a cluster, wait until it can be used, and return it. Keywords are those of
        GatewayCluster, and options by their names."""
        from gateway.client.dask.cluster import GatewayCluster

        return GatewayCluster(
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

    def connect(self, name: Named, *, shutdown_on_close: bool = False) -> GatewayCluster:
        """Return a cluster that exists already. Closing it leaves it running, unless told
        otherwise."""
        from gateway.client.dask.cluster import GatewayCluster

        return GatewayCluster.from_name(name, gateway=self, shutdown_on_close=shutdown_on_close)

    def scale_cluster(self, name: Named, n: int, *, group: str = requests.DEFAULT_GROUP) -> Cluster:
        """Wish n workers in a group; return the cluster, once the gateway has taken that up (or
        after a second). GatewayWarning where a limit grants fewer; ValueError if it has no such
        group."""
        return self._resize(name, reading.count(n, "n"), group)

    def adapt_cluster(
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
        size: Workers = requests.bounds(minimum, maximum, interval, wait_count, target_duration)
        if not active:
            found = self.get_cluster(name).status.worker_groups.get(group)
            size = found.running if found is not None else 0
        return self._resize(name, size, group)

    def _resize(self, name: Named, workers: Workers, group: str) -> Cluster:
        request = requests.scale(name, workers, group)
        if group != requests.DEFAULT_GROUP:  # that one always exists; no other is made by mistake
            reading.group(group, self.get_cluster(name).spec.worker_groups)
        changed = Cluster.from_proto(self._connection.call(api.UPDATE_CLUSTER, request))
        return settling.warn_of_limits(settling.settle(self._connection, changed))

    def change_lifetimes(
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
        spans = {
            "idle_timeout": idle_timeout,
            "max_lifetime": max_lifetime,
            "no_client_timeout": no_client_timeout,
            "no_task_timeout": no_task_timeout,
            "keepalive_timeout": keepalive_timeout,
        }
        return Cluster.from_proto(
            self._connection.call(api.UPDATE_CLUSTER, requests.lifecycle(name, spans))
        )

    def keep_alive(self, names: Sequence[str]) -> tuple[str, ...]:
        """Give a sign of life for clusters that need one (`keepalive_timeout`); return those names
        that need none any more. A GatewayCluster does so by itself."""
        asked = {requests.full_name(name): name for name in names}
        answer = self._connection.call(api.KEEP_ALIVE, pb.KeepAliveRequest(names=asked))
        return tuple(asked[name] for name in answer.ended)

    def stop_cluster(self, name: Named) -> Cluster:
        """Wish a cluster's end; return the cluster, once the gateway has begun to stop it (or after
        a second). One that is stopped already stays so."""
        told = Cluster.from_proto(self._connection.call(api.STOP_CLUSTER, requests.stop(name)))
        return settling.settle(self._connection, told, settling.ends)

    def wait(
        self,
        name: Named,
        states: Sequence[ClusterState | str] | ClusterState | str = (ClusterState.ACTIVE,),
        *,
        timeout_s: float = 300.0,
        told: Callable[[Cluster], None] | None = None,
    ) -> Cluster:
        """Wait until a cluster is in one of the states, or finished; return it.

        DeadlineExceeded after the timeout, in which the time that its scheduler waits in a batch
        system's queue does not count. `told` is called with the cluster whenever it has changed.
        """
        for_s = reading.seconds(timeout_s, "timeout_s")
        return waiting.wait(self._connection, name, waiting.states_of(states), for_s, told)

    def watch(self, *, start_revision: int = 0, clusters: Sequence[str] = ()) -> Changes:
        """Yield changes of the caller's clusters, for ever; a lost stream is resumed where it broke
        off.

        A `start_revision` of 0 begins with the present state of what lives. Blocks; `close` of what
        is returned ends it from any other thread.
        """
        names = [requests.full_name(name) for name in reading.names(clusters, "clusters")]
        return Changes(
            self._connection, pb.WatchClustersRequest(start_revision=start_revision, clusters=names)
        )

    def get_logs(
        self, name: Named, instances: Sequence[str] = (), *, tail_lines: int = 0
    ) -> dict[str, str]:
        """Return logs by instance (`scheduler` or a worker's name), also of what has ended; 0 lines
        are all that is kept."""
        found: dict[str, list[str]] = {}
        with self.stream_logs(name, instances, tail_lines=tail_lines) as pieces:
            for piece in pieces:
                found.setdefault(piece.instance, []).append(piece.text)
        return {instance: "".join(parts) for instance, parts in found.items()}

    def stream_logs(
        self,
        name: Named,
        instances: Sequence[str] = (),
        *,
        tail_lines: int = 0,
        follow: bool = False,
    ) -> LogPieces:
        """Yield pieces of logs, with `follow` also what is written from now on. Blocks; `close`
        ends it from any other thread."""
        full = requests.full_name(name)
        return LogPieces(
            self._connection,
            pb.StreamLogsRequest(
                name=full,
                instances=reading.names(instances, "instances"),
                tail_lines=reading.count(tail_lines, "tail_lines"),
                follow=follow,
            ),
        )

    def events(self, name: Named) -> Page[Event]:
        """Return what happened to a cluster, newest first, also after its end."""
        return paging.events(
            self._connection,
            pb.ListEventsRequest(parent=requests.full_name(name), page_size=paging.EVENTS),
        )

    def dashboard_ticket(self, name: Named) -> DashboardTicket:
        """Return a permission to open a cluster's dashboard in a browser."""
        request = credential_pb.CreateDashboardTicketRequest(name=requests.full_name(name))
        return DashboardTicket.from_proto(
            self._connection.call(api.CREATE_DASHBOARD_TICKET, request)
        )

    def dashboard_url(self, name: Named) -> str:
        """Return an address that opens a cluster's dashboard in a browser, once, within a minute.
        ValueError if it has none."""
        ticket = self.dashboard_ticket(name)
        found = self.get_cluster(name)
        if found.state is ClusterState.ACTIVE and not found.status.endpoints.dashboard:
            raise ValueError(f"cluster {found.id} has no dashboard")
        return ticket.url

    # Credentials

    def whoami(self) -> Caller:
        """Return who the gateway takes the caller for, and whence the credentials are."""
        answer = self._connection.call(api.WHO_AM_I, credential_pb.WhoAmIRequest())
        return Caller.from_proto(answer, self._connection.settings.caller.source)

    def sign_in_options(self) -> Page[SignInOption]:
        """Return by what one may sign in here; needs no credentials."""
        answer = self._connection.call(
            api.GET_SIGN_IN_OPTIONS, credential_pb.GetSignInOptionsRequest()
        )
        return Page(SignInOption, map(SignInOption.from_proto, answer.options))

    def create_token(
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
        words = [f"SCOPE_{Scope.known(scope)}" for scope in reading.names(scopes, "scopes")]
        request = credential_pb.CreateTokenRequest(
            display_name=display_name, scopes=words, request_id=str(uuid.uuid4())
        )
        if ttl_s is not None:
            request.ttl.CopyFrom(Duration(seconds=int(reading.seconds(ttl_s, "ttl_s"))))
        return NewToken.from_proto(self._connection.call(api.CREATE_TOKEN, request))

    def list_tokens(self) -> Page[Token]:
        """Return the caller's tokens, newest first."""
        return paging.tokens(
            self._connection, credential_pb.ListTokensRequest(page_size=paging.TOKENS)
        )

    def revoke_token(self, token_id: str) -> tuple[str, ...]:
        """Make a token useless, and those that were made with it; return the ids of all of them.
        TokenNotFound if there is none."""
        return tuple(
            self._connection.call(
                api.REVOKE_TOKEN, credential_pb.RevokeTokenRequest(id=token_id)
            ).ids
        )

    def end_sessions(self) -> tuple[str, ...]:
        """End all sessions of the caller, those of browsers and of this very object too, and what
        was made with them; return the ids of all of these. API tokens that other sign-ins made
        stay."""
        request = credential_pb.EndSessionRequest(everywhere=True)
        return tuple(self._connection.call(api.END_SESSION, request).ids)
