"""A cell that is run again finds its cluster, and says what it has otherwise than asked for."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from datetime import timedelta
from enum import Enum, auto
from typing import Any

import pytest
from daskgateway.v1 import cluster_service_pb2 as pb

from gateway import AsyncGateway, AsyncGatewayCluster, CreateMode, Gateway, GatewayCluster
from gateway.client.calls import creating, credentials, errors
from gateway.client.dask.modes import differences
from gateway.client.model import Cluster
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.waiting import until

MODE = "create_or_connect"


class Theirs(Enum):
    """As dask-kubernetes has it."""

    CREATE_ONLY = auto()
    CREATE_OR_CONNECT = auto()
    CONNECT_ONLY = auto()


@pytest.mark.parametrize(
    "word",
    [
        "create_or_connect",
        "CREATE-OR-CONNECT",
        Theirs.CREATE_OR_CONNECT,
        CreateMode.CREATE_OR_CONNECT,
    ],
)
def test_a_mode_is_read_however_it_is_written(word: object) -> None:
    assert CreateMode.of(word) is CreateMode.CREATE_OR_CONNECT


@pytest.mark.parametrize("word", ["create_or_conect", "", None, 3])
def test_no_mode_is_refused_with_those_there_are(word: object) -> None:
    with pytest.raises(ValueError, match="create_mode must be one of create_only, connect_only"):
        CreateMode.of(word)
    if word == "create_or_conect":
        with pytest.raises(ValueError, match=r"did you mean create_or_connect\?"):
            CreateMode.of(word)


TAKEN = creating.takes(GatewayCluster.__init__)


def request(**keywords: Any) -> pb.CreateClusterRequest:
    """Return the request that keywords make."""
    named = {word: one for word, one in keywords.items() if word in (*TAKEN, *creating.LIVES)}
    given = {word: one for word, one in keywords.items() if word not in named}
    return creating.ask("etl", named, given, TAKEN).request


def found(**keywords: Any) -> Cluster:
    """Return a cluster that was made with these keywords."""
    return Cluster.from_proto(request(**keywords).cluster)


MADE = {
    "n_workers": 2,
    "worker_memory": "1 GiB",
    "worker_groups": {"gpu": {"n_workers": 1, "worker_cores": 2}},
    "idle_timeout": "1 hour",
    "labels": {"project": "rain"},
    "backend": "local",
}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, []),
        (MADE, []),
        (MADE | {"keepalive_timeout": "5 minutes"}, []),
        ({"n_workers": 3}, ["n_workers is 2, not 3"]),
        ({"n_workers": (0, 4)}, ["n_workers is 2, not 0-4"]),
        ({"worker_memory": "2 GiB"}, ["worker_memory is 1 GiB, not 2 GiB"]),
        ({"colour": "red"}, ["colour is not set, not red"]),
        ({"idle_timeout": "2 hours"}, ["idle_timeout is 1 h, not 2 h"]),
        ({"max_lifetime": "1 day"}, ["max_lifetime is not set, not 1 d"]),
        ({"labels": {"project": "sun"}}, ["label project is rain, not sun"]),
        ({"backend": "slurm"}, ["backend is local, not slurm"]),
        (
            {"worker_groups": {"gpu": {"n_workers": 1, "worker_cores": 4}, "big": {}}},
            ["n_workers of group big is 0, not 0", "worker_cores of group gpu is 2, not 4"],
        ),
    ],
)
def test_what_differs_is_named(asked: dict[str, Any], told: list[str]) -> None:
    assert sorted(differences(request(**asked), found(**MADE))) == told


@pytest.fixture(scope="module")
def alice(served: GatewayProcess) -> Gateway:
    """The gateway as alice calls it."""
    return Gateway(served.address, auth=(USER, PASSWORD))


@pytest.fixture(autouse=True)
def nothing_stays(served: GatewayProcess) -> Iterator[None]:
    """Stop what a test has left."""
    yield
    gateway = Gateway(served.address, auth=(USER, PASSWORD))
    for one in gateway.list_clusters():
        gateway.stop_cluster(f"{USER}/{one.uid}")


def test_a_cluster_is_made_only_once_unless_one_asks_for_the_one_there_is(alice: Gateway) -> None:
    with pytest.raises(errors.ClusterNotFound):
        GatewayCluster("once", alice, create_mode="connect_only")
    first = GatewayCluster("once", alice, create_mode="create_or_connect")
    with pytest.raises(errors.ClusterExists, match="you already have a cluster once"):
        GatewayCluster("once", alice)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = GatewayCluster("once", alice, create_mode=Theirs.CREATE_OR_CONNECT)  # type: ignore[arg-type]
        third = alice.new_cluster("once", create_mode=CreateMode.CONNECT_ONLY)
    assert first.uid == second.uid == third.uid
    third.close()
    second.close(shutdown=False)
    assert alice.get_cluster("once").state == "ACTIVE"
    first.close()
    until(lambda: alice.get_cluster(first.uid).state.ending, "it is stopped")
    with pytest.raises(ValueError, match="connect_only needs the name"):
        GatewayCluster(gateway=alice, create_mode="connect_only")


def test_who_fails_to_join_takes_nothing_from_who_owns_it(
    alice: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError("no certificate")

    with GatewayCluster("joined", alice) as owner:
        with monkeypatch.context() as patched:
            patched.setattr(credentials, "obtain", fails)
            for _ in range(2):
                with pytest.raises(OSError, match="no certificate"):
                    GatewayCluster("joined", alice, create_mode="create_or_connect")
        assert owner._claim is not None
        assert owner._claim.held
        assert owner._claim.holders == 1
        assert owner.describe().state == "ACTIVE"


@pytest.mark.filterwarnings("ignore:unclosed cluster")
def test_a_cell_that_is_run_again_keeps_its_cluster_until_the_last_object_is_gone(
    alice: Gateway,
) -> None:
    def cell() -> GatewayCluster:
        return GatewayCluster("cell", alice, create_mode="create_or_connect")

    cluster = cell()
    uid = cluster.uid
    for _ in range(2):
        cluster = cell()  # the one before is forgotten
        gc.collect()
        assert cluster.uid == uid
        assert alice.get_cluster(uid).state == "ACTIVE"
        assert cluster.describe().spec.lifecycle.keepalive_timeout == timedelta(minutes=5)
    del cluster
    until(lambda: gc.collect() + 1 and alice.get_cluster(uid).state.ending, "it is stopped")


def test_a_differing_wish_is_said(alice: Gateway) -> None:
    with GatewayCluster("wish", alice, worker_memory="1 GiB") as cluster:
        with pytest.warns(
            errors.GatewayWarning, match=r"worker_memory is 1 GiB, not 2 GiB"
        ) as said:
            again = GatewayCluster(
                "wish", alice, worker_memory="2 GiB", n_workers=1, create_mode="create_or_connect"
            )
        assert "n_workers is 0, not 1" in str(said[0].message)
        assert again.uid == cluster.uid
        again.close(shutdown=False)


async def test_who_awaits_finds_a_cluster_too(alice: Gateway) -> None:
    gateway = AsyncGateway.over(alice.connection)
    mode = CreateMode.CREATE_OR_CONNECT
    async with AsyncGatewayCluster("awaits", gateway, create_mode=mode) as first:
        async with gateway.new_cluster(
            "awaits", create_mode=mode, shutdown_on_close=False
        ) as again:
            assert again.uid == first.uid
        assert (await gateway.get_cluster("awaits")).state == "ACTIVE"


def test_what_was_left_running_is_found_and_left_again(alice: Gateway) -> None:
    GatewayCluster("left", alice, shutdown_on_close=False).close()
    with GatewayCluster("left", alice, create_mode="create_or_connect") as again:
        assert not again.describe().spec.lifecycle.keepalive_timeout
    assert alice.get_cluster("left").state == "ACTIVE"
