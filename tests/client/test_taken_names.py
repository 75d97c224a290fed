"""A name that is taken: who asks for it is told what its cluster does, and what can be done."""

from __future__ import annotations

from typing import Any

import pytest
from daskgateway.v1 import cluster_pb2

from gateway import Gateway, GatewayCluster
from gateway.client.calls import api, errors
from gateway.client.calls.channel import Connection
from tests.client.commands import run
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess


@pytest.fixture(scope="module")
def gateway(served: GatewayProcess) -> Gateway:
    """The gateway as alice calls it."""
    return Gateway(served.address, auth=(USER, PASSWORD))


def test_who_asks_for_a_living_clusters_name_is_told_to_connect(
    served: GatewayProcess, gateway: Gateway
) -> None:
    made = gateway.submit("taken")
    words = r"already have a cluster taken, which is (PENDING|CREATING|ACTIVE): connect to it .*"
    words += r"connect\('taken'\).*from_name\('taken'\).*create_mode='create_or_connect'\)\), "
    words += r"stop it first, or choose another name"
    for ask in (gateway.submit, lambda name: GatewayCluster(name, gateway)):
        with pytest.raises(errors.ClusterExists, match=words) as refused:
            ask("taken")
        assert refused.value.reason == "CLUSTER_EXISTS"
    ended = run(served.address, "clusters", "create", "taken")
    assert (ended.code, ended.out) == (1, "")
    assert "connect to it" in ended.err
    gateway.stop_cluster(made.name)


@pytest.mark.parametrize("gone", [False, True])
def test_while_it_stops_nobody_is_told_to_stop_it(
    monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    def call(_: object, rpc: Any, *__: object, **___: object) -> cluster_pb2.Cluster:
        if rpc is api.CREATE_CLUSTER:
            raise errors.ClusterExists("taken", code="ALREADY_EXISTS", reason="CLUSTER_EXISTS")
        if gone:
            raise errors.ClusterNotFound("gone", code="NOT_FOUND")
        stopping = cluster_pb2.ClusterStatus(state=cluster_pb2.CLUSTER_STATE_STOPPING)
        return cluster_pb2.Cluster(name="users/alice/clusters/etl", status=stopping)

    monkeypatch.setattr(Connection, "call", call)
    with pytest.raises(errors.ClusterExists) as refused:
        Gateway("http://127.0.0.1:1").submit("etl")
    assert "stop it first" not in str(refused.value)
    assert ("your cluster etl is still STOPPING: its name is free" in str(refused.value)) != gone
