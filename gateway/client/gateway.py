"""Gateway: everything a user may ask of a gateway, for scripts, notebooks and event loops alike.

A method called where an event loop runs that the Gateway was made for (`asynchronous=True`) returns an awaitable, else a result.
"""

from __future__ import annotations

import asyncio
import copy
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from daskgateway.v1 import cluster_pb2, cluster_service_pb2, credential_service_pb2
from google.protobuf.duration_pb2 import Duration

from gateway.client import api, errors, requests, settings
from gateway.client.channel import Connection, in_thread
from gateway.client.options import Options

if TYPE_CHECKING:
    from gateway.client.cluster import GatewayCluster

T = TypeVar("T")

POLL_S = 30  # of a wait that is asked for again and again
WATCH_RETRY_S = (0.2, 5.0)


class Gateway:
    """A gateway, as `address` (http://host:port or https://host) and `auth` (an Auth, a token, or user and password) say.

    What is not given is taken from Dask's configuration (`gateway.…`) and the environment. `loop` is accepted for likeness with
    Dask's other classes; calls do not need one.
    """

    def __init__(
        self,
        address: str | None = None,
        auth: settings.Auth | str | tuple[str, str] | None = None,
        *,
        asynchronous: bool = False,
        loop: Any = None,
    ) -> None:
        self._connection = Connection(settings.load(address, auth))
        self.asynchronous = asynchronous

    def blocking(self) -> Gateway:
        """Return this gateway for calls that block, whatever event loop this one was made for."""
        plain = copy.copy(self)
        plain.asynchronous = False
        return plain

    @property
    def address(self) -> str:
        """Where the gateway is."""
        return self._connection.settings.address

    @property
    def connection(self) -> Connection:
        """The connection that calls are made over."""
        return self._connection

    def __repr__(self) -> str:
        return f"Gateway<{self.address}>"

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Gateway:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held: channels belong to the process."""

    def _do(self, work: Callable[[], T], *, waits: bool = False) -> Any:
        """Do blocking work, or return an awaitable of it. The work begins at once either way."""
        if not self.asynchronous:
            return work()
        return asyncio.ensure_future(in_thread(work, waits=waits))

    def cluster_options(self) -> Any:
        """Return what may be asked for in a new cluster."""
        return self._do(self._options)

    def _options(self) -> Options:
        request = cluster_service_pb2.GetClusterOptionsRequest()
        return Options(self._connection.call(api.GET_CLUSTER_OPTIONS, request))

    def list_clusters(self, *, show_finished: bool = False, everybody: bool = False) -> Any:
        """Return the caller's clusters, newest first; with `everybody` those of every user (admins only)."""
        return self._do(lambda: list(self._list(show_finished, "users/*" if everybody else "")))

    def _list(self, show_finished: bool, parent: str) -> Iterator[cluster_pb2.Cluster]:
        request = cluster_service_pb2.ListClustersRequest(parent=parent, show_finished=show_finished, page_size=1000)
        while True:
            page = self._connection.call(api.LIST_CLUSTERS, request)
            yield from page.clusters
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def get_cluster(self, name: str) -> Any:
        """Return one cluster as the server knows it; ClusterNotFound if there is none."""
        request = cluster_service_pb2.GetClusterRequest(name=requests.full_name(name))
        return self._do(lambda: self._connection.call(api.GET_CLUSTER, request))

    def submit(self, name: str = "", **kwargs: Any) -> Any:
        """Ask for a cluster and return it at once, as accepted; keywords as of new_cluster."""
        request = requests.create(name, **requests.wishes(kwargs))
        return self._do(lambda: self._connection.call(api.CREATE_CLUSTER, request))

    def new_cluster(self, name: str | None = None, **kwargs: Any) -> GatewayCluster:
        """Ask for a cluster, wait until it can be used, and return it.

        Keywords are those of GatewayCluster, and options by their names. With `asynchronous`, await the result.
        """
        from gateway.client.cluster import GatewayCluster

        return GatewayCluster(name=name, gateway=self, asynchronous=self.asynchronous, **kwargs)

    def connect(self, name: str, *, shutdown_on_close: bool = False) -> GatewayCluster:
        """Return a cluster that exists already. Closing it leaves it running, unless told otherwise."""
        from gateway.client.cluster import GatewayCluster

        return GatewayCluster.from_name(name, gateway=self, asynchronous=self.asynchronous, shutdown_on_close=shutdown_on_close)

    def scale_cluster(self, name: str, n: int, *, group: str = requests.DEFAULT_GROUP) -> Any:
        """Wish n workers in a group."""
        request = requests.scale(name, n, group)
        return self._do(lambda: self._connection.call(api.UPDATE_CLUSTER, request))

    def adapt_cluster(self, name: str, minimum: int = 0, maximum: int = 1, *, group: str = requests.DEFAULT_GROUP) -> Any:
        """Wish as many workers in a group as its load needs, between bounds."""
        request = requests.scale(name, (minimum, maximum), group)
        return self._do(lambda: self._connection.call(api.UPDATE_CLUSTER, request))

    def stop_cluster(self, name: str) -> Any:
        """Wish a cluster's end."""
        request = requests.stop(name)
        return self._do(lambda: self._connection.call(api.STOP_CLUSTER, request))

    def wait(self, name: str, states: Sequence[str] = ("ACTIVE",), *, timeout_s: float = 300.0, told: Any = None) -> Any:
        """Wait until a cluster is in one of the states, or finished; DeadlineExceeded after the timeout, in which the time that its
        scheduler waits in a batch system's queue does not count.

        `told` is called with the cluster whenever it has changed.
        """
        return self._do(lambda: self._wait(name, states, timeout_s, told), waits=True)

    def _wait(
        self, name: str, states: Sequence[str], timeout_s: float, told: Callable[[cluster_pb2.Cluster], None] | None
    ) -> cluster_pb2.Cluster:
        numbers: list[Any] = [cluster_pb2.ClusterState.Value(f"CLUSTER_STATE_{state}") for state in states]
        request = cluster_service_pb2.WaitClusterRequest(name=requests.full_name(name), states=numbers)
        deadline = time.monotonic() + timeout_s
        while True:
            asked_at = time.monotonic()
            left_s = min(POLL_S, max(0.0, deadline - time.monotonic()))
            request.timeout.CopyFrom(Duration(seconds=int(left_s), nanos=int(left_s % 1 * 1e9) or 1))
            cluster = self._connection.call(api.WAIT_CLUSTER, request, timeout_s=left_s + 10)
            if told is not None:
                told(cluster)
            if cluster.status.state in numbers or cluster.status.state in requests.FINISHED:
                return cluster
            if requests.queued(cluster):
                deadline += time.monotonic() - asked_at  # waiting in a batch system's queue is not starting
            if time.monotonic() >= deadline:
                raise errors.DeadlineExceeded(
                    f"cluster {cluster.name} is {requests.state(cluster)} after {timeout_s:g} s: {requests.explanation(cluster)}",
                    code="DEADLINE_EXCEEDED",
                )
            request.after_revision = cluster.revision

    def watch(self, *, start_revision: int = 0, clusters: Sequence[str] = ()) -> Iterator[cluster_service_pb2.WatchClustersResponse]:
        """Yield changes of the caller's clusters, for ever; a lost stream is resumed where it broke off. Blocks: use a thread."""
        request = cluster_service_pb2.WatchClustersRequest(
            start_revision=start_revision, clusters=[requests.full_name(name) for name in clusters]
        )
        wait_s = WATCH_RETRY_S[0]
        while True:
            try:
                with self._connection.stream(api.WATCH_CLUSTERS, request) as stream:
                    for told in stream:
                        request.start_revision = max(request.start_revision, told.revision)
                        wait_s = WATCH_RETRY_S[0]
                        if told.HasField("goodbye"):
                            time.sleep(told.goodbye.retry_delay.seconds + told.goodbye.retry_delay.nanos / 1e9)
                            continue
                        yield told
            except errors.RevisionCompacted:
                request.start_revision = 0
            except errors.GatewayError as error:
                if error.code not in ("UNAVAILABLE", "CANCELLED"):
                    raise
            time.sleep(wait_s)
            wait_s = min(WATCH_RETRY_S[1], wait_s * 2)

    def get_logs(self, name: str, instances: Sequence[str] = (), *, tail_lines: int = 0) -> Any:
        """Return logs by instance (`scheduler` or a worker's name), also of what has ended."""

        def collect() -> dict[str, str]:
            found: dict[str, list[str]] = {}
            for instance, text in self.stream_logs(name, instances, tail_lines=tail_lines):
                found.setdefault(instance, []).append(text)
            return {instance: "".join(parts) for instance, parts in found.items()}

        return self._do(collect)

    def stream_logs(
        self, name: str, instances: Sequence[str] = (), *, tail_lines: int = 0, follow: bool = False
    ) -> Iterator[tuple[str, str]]:
        """Yield pieces of logs with the instance's name; with `follow` as they are written. Blocks: use a thread."""
        request = cluster_service_pb2.StreamLogsRequest(
            name=requests.full_name(name), instances=instances, tail_lines=tail_lines, follow=follow
        )
        with self._connection.stream(api.STREAM_LOGS, request) as stream:
            for piece in stream:
                yield piece.instance, piece.text

    def events(self, name: str) -> Any:
        """Return what happened to a cluster, newest first, at most 500 events."""
        request = cluster_service_pb2.ListEventsRequest(parent=requests.full_name(name), page_size=500)
        return self._do(lambda: list(self._connection.call(api.LIST_EVENTS, request).events))

    def dashboard_url(self, name: str) -> Any:
        """Return an address that opens a cluster's dashboard in a browser within a minute."""
        request = credential_service_pb2.CreateDashboardTicketRequest(name=requests.full_name(name))
        return self._do(lambda: self._connection.call(api.CREATE_DASHBOARD_TICKET, request).url)

    def whoami(self) -> Any:
        """Return who the gateway takes the caller for."""
        return self._do(lambda: self._connection.call(api.WHO_AM_I, credential_service_pb2.WhoAmIRequest()))

    def create_token(self, display_name: str = "", *, ttl_s: float | None = None) -> Any:
        """Make an API token; the answer's `secret` is shown only now."""
        request = credential_service_pb2.CreateTokenRequest(display_name=display_name, request_id=str(uuid.uuid4()))
        if ttl_s is not None:
            request.ttl.CopyFrom(Duration(seconds=int(ttl_s)))
        return self._do(lambda: self._connection.call(api.CREATE_TOKEN, request))

    def list_tokens(self) -> Any:
        """Return the caller's tokens, newest first, at most 500."""
        request = credential_service_pb2.ListTokensRequest(page_size=500)
        return self._do(lambda: list(self._connection.call(api.LIST_TOKENS, request).tokens))

    def revoke_token(self, token_id: str) -> Any:
        """Make a token useless, and those that were made with it; the answer's `ids` are all of them."""
        request = credential_service_pb2.RevokeTokenRequest(id=token_id)
        return self._do(lambda: self._connection.call(api.REVOKE_TOKEN, request))
