"""A new cluster's message is made once: what was checked before it was stored is what is answered,
with the revision that it was given."""

from __future__ import annotations

from dataclasses import replace

import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb

from gateway.server.core.errors import FieldInvalid
from gateway.server.core.model import Cluster, Lifecycle, Spec, State
from gateway.server.rpc import cluster_messages, messages
from gateway.server.rpc.cluster_messages import CHECKED, ClusterMessages
from gateway.server.usecases.services import Endpoint

ENDPOINT = Endpoint("gateway.example.org", 443, "https://gateway.example.org")
NEW = Cluster("c" + "a" * 20, "alice", "etl", Spec("noop"), {"team": "x"}, created_at=1000)


@pytest.fixture
def made() -> ClusterMessages:
    """Makes messages."""
    return ClusterMessages(lambda: ENDPOINT)


@pytest.mark.parametrize("revision", [1, 127, 128, 300, 2**40])
def test_a_new_cluster_is_told_as_it_was_checked_with_its_revision(
    made: ClusterMessages, monkeypatch: pytest.MonkeyPatch, revision: int
) -> None:
    made.check(NEW)
    stored = replace(NEW, revision=revision, created_revision=revision)
    wanted = messages.cluster_of(stored, ENDPOINT)
    monkeypatch.setattr(cluster_messages, "_encoded", None)  # nothing is made a second time
    assert pb.Cluster.FromString(made.encoded(stored)) == wanted
    assert pb.Cluster.FromString(made.encoded(stored)) == wanted
    listed = made.listed([stored], service_pb.ListClustersResponse())
    (one,) = service_pb.ListClustersResponse.FromString(listed).clusters
    assert one == wanted


def test_what_has_changed_since_it_was_checked_is_told_as_it_is(made: ClusterMessages) -> None:
    begun = replace(NEW, revision=5, created_revision=4)
    for stored in (
        replace(begun, state=State.CREATING),
        replace(begun, labels={}),
        replace(begun, message="other"),
    ):
        made.check(NEW)
        told = pb.Cluster.FromString(made.encoded(stored))
        assert told == messages.cluster_of(stored, ENDPOINT)
        made._kept.clear()
    made.check(NEW)
    first, second = (replace(NEW, revision=n, created_revision=4) for n in (4, 6))
    for stored in (first, replace(second, message="later")):
        told = pb.Cluster.FromString(made.encoded(stored))
        assert told == messages.cluster_of(stored, ENDPOINT)


def test_clusters_that_were_checked_and_never_stored_are_forgotten(made: ClusterMessages) -> None:
    for number in range(CHECKED + 10):
        made.check(replace(NEW, uid=f"c{number:020}"))
    assert len(made._checked) == CHECKED
    made.check(replace(NEW, revision=4))  # one that is stored already is not awaited
    assert len(made._checked) == CHECKED


def test_a_cluster_that_cannot_be_shown_is_refused_and_not_kept(made: ClusterMessages) -> None:
    with pytest.raises(FieldInvalid, match=r"spec\.lifecycle"):
        made.check(replace(NEW, spec=Spec("noop", lifecycle=Lifecycle(idle_timeout_s=1e300))))
    assert made._checked == {}
