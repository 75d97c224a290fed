"""Clusters whose owner is no user any more: an administrator is told, in the log and in every list
of them, until the user is there again or the cluster has ended."""

from __future__ import annotations

import logging

import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb

from gateway.client.model import Cluster
from gateway.server.core import model
from gateway.server.core.errors import IdentityUnavailable
from gateway.server.core.model import Principal
from gateway.server.usecases import owners
from gateway.server.usecases.owners import Owners
from tests.rpc.harness import Harness, PretendAgent, as_
from tests.waiting import comes

TOLD = "its owner bob is no user any more"


class People:
    """Those who are users; of one nobody can tell."""

    def __init__(self, *users: str) -> None:
        self.users, self.away = set(users), ""

    async def person(self, user: str) -> Principal | None:
        if user == self.away:
            raise IdentityUnavailable
        return Principal(user) if user in self.users else None


async def made(harness: Harness, user: str, name: str) -> pb.Cluster:
    """Return a cluster that a user has made."""
    request = service_pb.CreateClusterRequest(cluster_id=name)
    return await harness.clusters.CreateCluster(request, metadata=as_(user))


def kept(harness: Harness, cluster: pb.Cluster) -> model.Cluster:
    """Return a cluster as it is stored."""
    found = harness.store.view.cluster(cluster.uid)
    assert found is not None
    return found


async def shown(harness: Harness) -> dict[str, str]:
    """Return what an administrator's list says of each cluster."""
    request = service_pb.ListClustersRequest(parent="users/*")
    answer = await harness.clusters.ListClusters(request, metadata=as_("root"))
    found = map(Cluster.from_proto, answer.clusters)
    return {f"{one.owner}/{one.id}": one.explanation for one in found}


async def events(harness: Harness, cluster: pb.Cluster) -> list[str]:
    """Return the reasons of a cluster's events that are of its owner, the first first."""
    request = service_pb.ListEventsRequest(parent=cluster.name)
    answer = await harness.clusters.ListEvents(request, metadata=as_("root"))
    return [one.reason for one in reversed(answer.events) if one.reason.startswith("OWNER")]


async def test_clusters_of_a_removed_user_are_told_once_until_the_user_is_there_again(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "gateway.server.usecases.owners")
    etl, _ = [await made(harness, "bob", name) for name in ("etl", "night")]
    await made(harness, "alice", "etl")
    people = People("alice", "bob")
    watched = Owners(harness.store, people.person, harness.now_ms)
    await watched.look()
    assert not caplog.messages
    assert not any(TOLD in said for said in (await shown(harness)).values())

    people.users.remove("bob")
    for _ in range(2):
        await watched.look()
    assert caplog.messages == [
        "user bob is no user any more, and 2 of this user's clusters live on: an administrator"
        " stops them (`daskgateway clusters stop bob/NAME`; `daskgateway clusters list --everybody`"
        " says which they are), or their own times do"
    ]
    told = await shown(harness)
    assert {name for name, said in told.items() if TOLD in said} == {"bob/etl", "bob/night"}
    assert await events(harness, etl) == ["OWNER_UNKNOWN"]

    people.away = "bob"  # what was told holds while nobody can tell
    await watched.look()
    assert TOLD in (await shown(harness))["bob/etl"]

    people.away, people.users = "", {"alice", "bob"}
    await watched.look()
    assert not any(TOLD in said for said in (await shown(harness)).values())
    assert await events(harness, etl) == ["OWNER_UNKNOWN", "OWNER_KNOWN"]
    people.users.remove("bob")
    await watched.look()
    assert len(caplog.messages) == 2


async def test_what_a_step_finds_out_of_a_cluster_leaves_it_and_its_end_takes_it_away(
    harness: Harness,
) -> None:
    etl = await made(harness, "bob", "etl")
    watched = Owners(harness.store, People().person, harness.now_ms)
    await watched.look()
    agent = PretendAgent(harness, etl.uid)
    await agent.hello()
    await comes(lambda: kept(harness, etl).state == "ACTIVE")
    assert TOLD in (await shown(harness))["bob/etl"]
    stop = service_pb.StopClusterRequest(name=etl.name)
    await harness.clusters.StopCluster(stop, metadata=as_("root"))
    await comes(lambda: kept(harness, etl).state == "STOPPED")
    assert TOLD not in [one.message for one in kept(harness, etl).conditions]
    before = harness.store.view.revision
    await watched.look()
    assert harness.store.view.revision == before
    agent.call.cancel()


async def test_of_very_many_removed_users_some_are_named(
    harness: Harness, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "gateway.server.usecases.owners")
    monkeypatch.setattr(owners, "MAX_TOLD", 1)
    for user in ("alice", "bob"):
        await made(harness, user, "etl")
    await Owners(harness.store, People().person, harness.now_ms).look()
    assert [message[:30] for message in caplog.messages] == [
        "user alice is no user any more",
        "so it is with 1 clusters of 1 ",
    ]
