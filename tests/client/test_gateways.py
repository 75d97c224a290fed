"""Gateway and AsyncGateway ask a real gateway, and are answered in Python's own types."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import datetime, timedelta, timezone

import pytest

from gateway import (
    AsyncGateway,
    AsyncGatewayCluster,
    Cluster,
    ClusterState,
    Gateway,
    GatewayCluster,
    Scope,
    WatchEvent,
)
from gateway.client.calls import errors
from gateway.client.model import Bookmark, FloatField, IntField, Page, StringField
from gateway.wire import basic_credentials
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def gateway(served: GatewayProcess) -> Gateway:
    """The gateway as alice calls it."""
    return Gateway(served.address, auth=(USER, PASSWORD))


@pytest.fixture(scope="module")
def idle(served: GatewayProcess) -> Iterator[Cluster]:
    """A cluster without workers."""
    gateway = Gateway(served.address, auth=(USER, PASSWORD))
    gateway.submit(
        "idle", idle_timeout=timedelta(hours=1), max_lifetime="1 day", labels={"for": "tests"}
    )
    yield gateway.wait("idle", timeout_s=60)
    gateway.stop_cluster("idle")


@pytest.fixture
async def awaited(served: GatewayProcess) -> AsyncIterator[AsyncGateway]:
    """The same in an event loop."""
    async with AsyncGateway(served.address, auth=(USER, PASSWORD)) as made:
        yield made


def test_a_cluster_is_told_in_types_of_python(gateway: Gateway, idle: Cluster) -> None:
    found = gateway.get_cluster("idle")
    assert (found.id, found.owner, found.state, found.state.finished) == (
        "idle",
        USER,
        ClusterState.ACTIVE,
        False,
    )
    assert found.create_time is not None
    assert found.start_time is not None
    assert abs(datetime.now(timezone.utc) - found.create_time) < timedelta(minutes=10)
    assert found.start_time >= found.create_time
    assert found.stop_time is None
    assert found.spec.lifecycle.idle_timeout == timedelta(hours=1)
    assert found.spec.lifecycle.max_lifetime == timedelta(days=1)
    assert dict(found.labels) == {"for": "tests"}
    assert found.spec.options["worker_cores"] == 1
    assert found.status.endpoints.scheduler.startswith("dgw://127.0.0.1:")
    assert found.proto.name == found.name


def test_lists_show_themselves(gateway: Gateway, idle: Cluster) -> None:
    found = gateway.list_clusters()
    assert isinstance(found, Page)
    assert f"{USER}/idle" in repr(found)
    assert f">{USER}/idle</td>" in found._repr_html_()
    assert found.revision >= idle.revision
    happened = gateway.events("idle")
    assert happened[-1].time is not None
    assert happened[-1].reason in repr(happened)
    assert f">{happened[-1].reason}</td>" in happened._repr_html_()


def test_options_are_typed_with_limits_and_lifecycle(gateway: Gateway) -> None:
    options = gateway.cluster_options()
    cores, memory = options.fields["worker_cores"].kind, options.fields["worker_memory"].kind
    assert isinstance(cores, FloatField | IntField)
    assert cores.maximum is not None
    assert isinstance(memory, StringField)
    assert options.limits.workers == 6
    assert options.backends == ("local",)
    options.worker_cores = 1
    with pytest.raises(AttributeError, match="is what the gateway tells"):
        options.limits = 5  # type: ignore[assignment]


def test_tokens_are_made_with_scopes_and_revoked(gateway: Gateway, served: GatewayProcess) -> None:
    caller = gateway.whoami()
    assert (caller.user, caller.admin) == (USER, False)
    assert Scope.TOKENS in caller.scopes
    made = gateway.create_token("reads", ttl_s=timedelta(hours=1), scopes=["CLUSTERS_READ"])
    assert made.token.scopes == (Scope.CLUSTERS_READ,)
    assert made.token.expire_time is not None
    assert made.token.expire_time - datetime.now(timezone.utc) <= timedelta(hours=1)
    reads = Gateway(served.address, auth=made.secret)
    assert reads.whoami().scopes == (Scope.CLUSTERS_READ,)
    assert reads.whoami().expire_time == made.token.expire_time
    # by the session that the password made
    assert caller.way == "password"
    with pytest.raises(errors.PermissionDenied):
        reads.submit("no")
    assert [token.id for token in gateway.list_tokens() if not token.way] == [made.token.id]
    assert gateway.revoke_token(made.token.id) == (made.token.id,)
    with pytest.raises(errors.TokenNotFound):
        gateway.revoke_token(made.token.id)
    with pytest.raises(ValueError, match="'WRITE' is no Scope; there are"):
        gateway.create_token(scopes=["WRITE"])


def test_wrong_states_are_told_before_anything_is_waited_for(gateway: Gateway) -> None:
    with pytest.raises(ValueError, match="'ACTVE' is no ClusterState"):
        gateway.wait("idle", "ACTVE")
    with pytest.raises(ValueError, match="no state to wait for"):
        gateway.wait("idle", ClusterState.UNKNOWN)


def test_a_dashboard_ticket_expires(gateway: Gateway, idle: Cluster) -> None:
    ticket = gateway.dashboard_ticket("idle")
    assert ticket.url.startswith("http://127.0.0.1:")
    assert ticket.expire_time is not None
    assert timedelta(0) < ticket.expire_time - datetime.now(timezone.utc) < timedelta(minutes=2)
    assert gateway.dashboard_url("idle").partition("?")[0] == ticket.url.partition("?")[0]


def test_a_watch_begins_with_what_there_is_and_ends_from_elsewhere(
    gateway: Gateway, idle: Cluster
) -> None:
    with gateway.watch(clusters=["idle"]) as changes:
        first = next(changes)
        assert isinstance(first, WatchEvent)
        assert first.cluster.uid == idle.uid
        told = next(one for one in changes if isinstance(one, Bookmark))
        assert told.initial_state_complete
        threading.Timer(0.2, changes.close).start()
        assert list(changes) == []


async def test_all_sessions_are_listed_and_ended_at_once_and_tokens_of_others_stay(
    gateway: Gateway, awaited: AsyncGateway, served: GatewayProcess
) -> None:
    def session() -> str:
        """Return the token of one more session, as another machine would have it."""
        request = urllib.request.Request(
            f"{served.address}/daskgateway.v1.CredentialService/CreateSession",
            data=b"{}",
            headers={
                "Authorization": basic_credentials(USER, PASSWORD),
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(json.load(answer)["secret"])

    kept = gateway.create_token("by the password")
    with Gateway(served.address, auth=await asyncio.to_thread(session)) as other:
        child = other.create_token("by a session")
        sessions = {token.id for token in gateway.list_tokens() if token.way}
        assert len(sessions) >= 2
        ended = gateway.end_sessions()
        assert {*sessions, child.token.id} <= set(ended)
        assert kept.token.id not in ended
        with pytest.raises(errors.AuthenticationFailed):
            other.whoami()
    with pytest.raises(errors.AuthenticationFailed):
        Gateway(served.address, auth=child.secret).whoami()
    assert gateway.whoami().user == USER  # whoever has the password signs in again
    now = {token.id for token in await awaited.list_tokens() if token.way}
    assert now
    assert not now & set(ended)
    assert now <= set(await awaited.end_sessions())
    assert gateway.revoke_token(kept.token.id) == (kept.token.id,)


async def test_an_event_loop_asks_the_same(awaited: AsyncGateway, idle: Cluster) -> None:
    assert (await awaited.whoami()).user == USER
    assert (await awaited.get_cluster("idle")).uid == idle.uid
    assert [cluster.uid for cluster in await awaited.list_clusters()] == [idle.uid]
    assert (await awaited.cluster_options()).limits.workers == 6
    assert (await awaited.events("idle"))[-1].revision <= idle.revision
    assert "Scheduler at:" in (await awaited.get_logs("idle"))["scheduler"]
    assert (await awaited.dashboard_url("idle")).startswith("http://127.0.0.1:")
    assert (await awaited.scale_cluster("idle", 0)).wish == "0"
    made = await awaited.create_token("loop")
    assert [token.id for token in await awaited.list_tokens() if not token.way] == [made.token.id]
    assert await awaited.revoke_token(made.token.id) == (made.token.id,)
    with pytest.raises(errors.ClusterNotFound):
        await awaited.get_cluster("nothing")


async def test_an_event_loop_watches_and_follows_logs(awaited: AsyncGateway, idle: Cluster) -> None:
    async with aclosing(awaited.watch(clusters=["idle"])) as changes:
        async for told in changes:
            if isinstance(told, Bookmark):
                break
            assert told.cluster.uid == idle.uid
    async with aclosing(awaited.stream_logs("idle", ["scheduler"], follow=True)) as pieces:
        piece = await anext(pieces)
        assert (piece.instance, bool(piece.text)) == ("scheduler", True)


async def test_who_waits_in_an_event_loop_hears_there_of_changes(awaited: AsyncGateway) -> None:
    made = await awaited.submit("waited-for")
    heard: list[tuple[ClusterState, bool]] = []
    active = await awaited.wait(
        made.name,
        told=lambda cluster: heard.append((cluster.state, asyncio.get_running_loop().is_running())),
    )
    assert active.state is ClusterState.ACTIVE
    await asyncio.sleep(0)
    assert heard[-1] == (ClusterState.ACTIVE, True)
    await awaited.stop_cluster(made.name)
    assert (
        await awaited.wait(f"{USER}/{made.uid}", ClusterState.STOPPED)
    ).status.reason == "STOP_REQUESTED"


async def test_a_cluster_is_awaited(awaited: AsyncGateway) -> None:
    async with awaited.new_cluster("awaited", n_workers=1) as cluster:
        assert isinstance(cluster, AsyncGatewayCluster)
        await cluster.wait_for_workers(1, timeout=60)
        await cluster.scale(0)
        assert (await cluster.describe()).wish == "0"
        assert (await cluster.adapt(0, 2)).maximum == 2
        assert "Scheduler" in await cluster.get_logs()
        assert isinstance(cluster.gateway, AsyncGateway)
        again = await awaited.connect("awaited")
        assert (again.uid, again.name) == (cluster.uid, "awaited")
        await again.close()
        as_dask_does = await GatewayCluster.from_name("awaited", gateway=awaited, asynchronous=True)
        await as_dask_does.close()  # type: ignore[misc]
        uid = cluster.uid
    assert (await awaited.wait(f"{USER}/{uid}", ClusterState.STOPPED)).state is ClusterState.STOPPED


def test_what_submit_returns_is_taken_in_place_of_a_name(gateway: Gateway) -> None:
    """There it is the name, which all else takes."""
    made = gateway.submit()
    try:
        assert gateway.get_cluster(made).uid == made.uid
        with gateway.connect(made) as cluster:
            assert cluster.name == made.id
            assert gateway.scale_cluster(cluster, 0).uid == made.uid  # a cluster object has one too
    finally:
        gateway.stop_cluster(made)
    assert gateway.wait(made, "STOPPED", timeout_s=60).state.finished
    with pytest.raises(ValueError, match="the name of a cluster must be a text, not None"):
        gateway.get_cluster(None)  # type: ignore[arg-type]
