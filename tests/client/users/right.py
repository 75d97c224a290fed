"""Right uses of the client: a type checker finds nothing here, and knows the types that are
asserted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import datetime, timedelta

from daskgateway import (
    AsyncGateway,
    AsyncGatewayCluster,
    BasicAuth,
    Cluster,
    ClusterState,
    Event,
    Gateway,
    GatewayCluster,
    GatewayError,
    Options,
    Scope,
    WatchEvent,
)
from daskgateway.v1 import cluster_pb2
from distributed import Adaptive, Client
from distributed.utils import Logs
from typing_extensions import assert_type

from gateway.client.dask.adaptive import GatewayAdaptive
from gateway.client.model import (
    Bookmark,
    Caller,
    Condition,
    DashboardTicket,
    LogPiece,
    NewToken,
    Page,
    SignInOption,
    Token,
    WorkerGroup,
)


def asks(address: str) -> None:
    gateway = Gateway(address, auth=("alice", "secret"))
    assert_type(gateway, Gateway)
    assert_type(Gateway(address, BasicAuth("alice", "secret"), asynchronous=False), Gateway)
    with Gateway(auth="token") as entered:
        assert_type(entered, Gateway)
    cluster = gateway.get_cluster("etl")
    assert_type(cluster, Cluster)
    assert_type(cluster.state, ClusterState)
    assert_type(cluster.status.state.finished, bool)
    assert_type(cluster.create_time, datetime | None)
    assert_type(cluster.spec.lifecycle.idle_timeout, timedelta | None)
    assert_type(cluster.spec.worker_groups, Mapping[str, WorkerGroup])
    assert_type(cluster.status.worker_groups["default"].running, int)
    assert_type(cluster.status.conditions, tuple[Condition, ...])
    assert_type(cluster.proto, cluster_pb2.Cluster)
    clusters = gateway.list_clusters(show_finished=True)
    assert_type(clusters, Page[Cluster])
    assert_type([one.uid for one in clusters], list[str])
    assert_type(
        gateway.submit("etl", n_workers=2, idle_timeout="1 hour", worker_memory="4 GiB"), Cluster
    )
    assert_type(gateway.scale_cluster("etl", 4), Cluster)
    assert_type(gateway.adapt_cluster("etl", 0, 4), Cluster)
    assert_type(gateway.stop_cluster("etl"), Cluster)
    assert_type(
        gateway.wait("etl", ClusterState.ACTIVE, told=lambda cluster: print(cluster.explanation)),
        Cluster,
    )
    assert_type(gateway.wait("etl", ("STOPPED", "FAILED"), timeout_s=60), Cluster)
    assert_type(gateway.get_logs("etl", ["scheduler"]), dict[str, str])
    assert_type(gateway.events("etl"), Page[Event])
    assert_type(gateway.dashboard_ticket("etl"), DashboardTicket)
    assert_type(gateway.dashboard_url("etl"), str)
    assert_type(gateway.whoami(), Caller)
    assert_type(gateway.whoami().source, str)
    assert_type(gateway.sign_in_options(), Page[SignInOption])
    assert_type(
        gateway.create_token(
            "laptop", ttl_s=timedelta(days=1), scopes=[Scope.CLUSTERS_READ, "TOKENS"]
        ),
        NewToken,
    )
    assert_type(gateway.list_tokens(), Page[Token])
    assert_type(gateway.revoke_token("id"), tuple[str, ...])
    assert_type(gateway.end_sessions(), tuple[str, ...])
    with gateway.watch(start_revision=clusters.revision) as changes:
        for change in changes:
            assert_type(change, WatchEvent | Bookmark)
            if isinstance(change, WatchEvent):
                assert_type(change.cluster, Cluster)
    for piece in gateway.stream_logs("etl", follow=True):
        assert_type(piece, LogPiece)
    for instance, text in gateway.stream_logs("etl"):
        assert_type((instance, text), tuple[str, str])


def computes() -> None:
    options = Gateway().cluster_options()
    assert_type(options, Options)
    options.worker_cores = 2
    assert_type(options.limits.workers, int | None)
    with GatewayCluster(
        "etl", gateway="https://dask.example.org", n_workers=(0, 4), options=options
    ) as cluster:
        assert_type(cluster, GatewayCluster)
        cluster.scale(4)
        cluster.scale(cores=16, memory="64 GiB", group="gpu")
        assert_type(cluster.adapt(0, 10), GatewayAdaptive)
        assert_type(cluster.adapt(Adaptive=Adaptive, interval="1s"), Adaptive)
        assert_type(cluster.describe(), Cluster)
        assert_type(cluster.get_client(), Client)
        assert_type(cluster.get_logs(), Logs)
        assert_type(cluster.name, str)
        assert_type(cluster.uid, str)
        assert_type(cluster.scheduler_address, str)
        assert_type(cluster.dashboard_link, str)
        assert_type(cluster.gateway, Gateway)
        cluster.wait_for_workers(2, timeout=60)
    assert_type(Gateway().new_cluster(n_workers=1, worker_memory="4 GiB"), GatewayCluster)
    assert_type(GatewayCluster.from_name("etl", shutdown_on_close=True), GatewayCluster)
    try:
        Gateway().connect("etl").shutdown()
    except GatewayError as error:
        assert_type(error.code, str)


async def awaits(gateway: AsyncGateway) -> None:
    assert_type(Gateway(asynchronous=True), AsyncGateway)
    assert_type(await gateway.get_cluster("etl"), Cluster)
    assert_type(await gateway.list_clusters(), Page[Cluster])
    assert_type(gateway.watch(), AsyncGenerator[WatchEvent | Bookmark, None])
    async with aclosing(gateway.stream_logs("etl")) as pieces:
        async for piece in pieces:
            assert_type(piece.text, str)
    async with gateway.new_cluster("etl") as cluster:
        assert_type(cluster, AsyncGatewayCluster)
        await cluster.scale(4)
        assert_type(cluster.adapt(0, 4), GatewayAdaptive)
        assert_type(await cluster.adapt(0, 4), GatewayAdaptive)
        assert_type(await cluster.describe(), Cluster)
        assert_type(await cluster.get_logs(), Logs)
        assert_type(cluster.gateway, AsyncGateway)
        await cluster.wait_for_workers(2)
        await cluster.close()
    assert_type(await gateway.connect("etl"), AsyncGatewayCluster)
    assert_type(await AsyncGatewayCluster("etl", gateway, n_workers=2), AsyncGatewayCluster)
    await GatewayCluster("etl", gateway, asynchronous=True)
