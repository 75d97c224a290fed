"""How clusters, users, groups and workers are named: what is taken, what is refused, and in which
words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.server.core.errors import FieldInvalid, Violation
from gateway.server.core.names import (
    CLUSTER_ID_RANDOM_BYTES,
    UID_RANDOM_BYTES,
    ClusterName,
    check_cluster_id,
    check_group,
    check_request_id,
    new_cluster_id,
    new_uid,
    parse_cluster_name,
    parse_parent,
    valid_user,
    worker_name,
)
from gateway.wire import is_uid

SHAPE = "must look like users/{user}/clusters/{cluster}"
USER = "the user must match [a-z0-9_][a-z0-9_.@-]{0,62}"
CLUSTER = "the cluster must match [a-z]([a-z0-9-]{0,61}[a-z0-9])?"
UUID = "123e4567-e89b-12d3-a456-426614174000"


@given(st.binary(min_size=UID_RANDOM_BYTES, max_size=UID_RANDOM_BYTES))
def test_a_new_uid_is_one(random: bytes) -> None:
    assert is_uid(new_uid(random))
    assert check_cluster_id(new_uid(random)) == [
        Violation("cluster_id", "must not look like a uid (c and 20 letters or digits)")
    ]


@given(st.binary(min_size=UID_RANDOM_BYTES, max_size=UID_RANDOM_BYTES), st.integers(0, 99))
def test_a_uid_holds_100_bits_of_chance(random: bytes, bit: int) -> None:
    number = int.from_bytes(random, "big")
    other = (number ^ (1 << (8 * UID_RANDOM_BYTES - 1 - bit))).to_bytes(UID_RANDOM_BYTES, "big")
    assert new_uid(other) != new_uid(random)


@given(
    st.binary(min_size=CLUSTER_ID_RANDOM_BYTES, max_size=CLUSTER_ID_RANDOM_BYTES),
    st.integers(0, 29),
)
def test_a_new_cluster_id_is_one_and_holds_30_bits_of_chance(random: bytes, bit: int) -> None:
    made = new_cluster_id(random)
    assert check_cluster_id(made) == []
    assert len(made) == 11
    assert made.startswith("dask-")
    other = (
        int.from_bytes(random, "big") ^ (1 << (8 * CLUSTER_ID_RANDOM_BYTES - 1 - bit))
    ).to_bytes(CLUSTER_ID_RANDOM_BYTES, "big")
    assert new_cluster_id(other) != made


@pytest.mark.parametrize("user", ["a", "0", "_", "alice", "alice.b@site-1.org", "a" * 63])
def test_users(user: str) -> None:
    assert valid_user(user)
    assert parse_cluster_name(f"users/{user}/clusters/etl", "bob") == ClusterName(user, "etl")
    assert parse_parent(f"users/{user}", "bob") == user


@pytest.mark.parametrize(
    "user", ["", "-", "*", ".a", "@a", "-a", "A", "ä", "a b", "a\n", "a/b", "a" * 64]
)
def test_no_users(user: str) -> None:
    assert not valid_user(user)


@pytest.mark.parametrize("cluster", ["e", "etl", "e-1", "a" * 63])
def test_clusters(cluster: str) -> None:
    assert check_cluster_id(cluster) == []
    assert parse_cluster_name(f"users/-/clusters/{cluster}", "bob") == ClusterName("bob", cluster)


@pytest.mark.parametrize(
    "cluster", ["", "-", "1", "-a", "a-", "A", "a_b", "a.b", "a\n", "ä", "a" * 64]
)
def test_no_clusters(cluster: str) -> None:
    pattern = CLUSTER.removeprefix("the cluster ")
    assert check_cluster_id(cluster, "here") == [Violation("here", pattern)]
    with pytest.raises(FieldInvalid) as refused:
        parse_cluster_name(f"users/alice/clusters/{cluster}", "bob", "there")
    assert refused.value.violations == (Violation("there", CLUSTER),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", SHAPE),
        ("users/alice", SHAPE),
        ("users/alice/clusters", SHAPE),
        ("users/alice/clusters/etl/x", SHAPE),
        ("user/alice/clusters/etl", SHAPE),
        ("users/alice/cluster/etl", SHAPE),
        ("/users/alice/clusters/etl", SHAPE),
        ("users//clusters/etl", USER),
        ("users/Alice/clusters/etl", USER),
        ("users/*/clusters/etl", USER),
        ("users/" + "a" * 237 + "/clusters/etl", USER),  # 256 characters
        ("users/" + "a" * 238 + "/clusters/etl", SHAPE),  # it is not looked at further
    ],
)
def test_what_is_no_name_of_a_cluster(text: str, words: str) -> None:
    with pytest.raises(FieldInvalid, match=r"^name: ") as refused:
        parse_cluster_name(text, "bob")
    assert refused.value.violations == (Violation("name", words),)


def test_whose_clusters() -> None:
    assert parse_parent("", "bob") == parse_parent("users/-", "bob") == "bob"
    assert (
        parse_parent("", "bob", everybody=True)
        == parse_parent("users/-", "bob", everybody=True)
        == "bob"
    )
    assert parse_parent("users/*", "bob", everybody=True) is None
    assert parse_parent("users/alice", "bob", everybody=True) == "alice"


@pytest.mark.parametrize(
    "text",
    [
        "alice",
        "users",
        "users/",
        "user/alice",
        "user/-",
        "user/*",
        "users/Alice",
        "users/alice/clusters",
        "*",
    ],
)
def test_what_is_nobody(text: str) -> None:
    with pytest.raises(FieldInvalid) as refused:
        parse_parent(text, "bob")
    assert refused.value.violations == (Violation("parent", "must look like users/{user}"),)
    with pytest.raises(FieldInvalid) as refused:
        parse_parent(text, "bob", everybody=True)
    assert refused.value.violations == (
        Violation("parent", "must look like users/{user} or be users/*"),
    )


def test_everybody_is_asked_for_only_where_that_is_allowed() -> None:
    with pytest.raises(FieldInvalid, match=r"^parent: must look like users/\{user\}$"):
        parse_parent("users/*", "bob")


@pytest.mark.parametrize("group", ["d", "default", "gpu-2", "a" * 32])
def test_groups(group: str) -> None:
    assert check_group(group, "here") == []


@pytest.mark.parametrize("group", ["", "-", "2gpu", "gpu-", "GPU", "gpu_2", "a\n", "a" * 33])
def test_no_groups(group: str) -> None:
    assert check_group(group, "here") == [
        Violation("here", "the group's name must match [a-z]([a-z0-9-]{0,30}[a-z0-9])?")
    ]


@pytest.mark.parametrize("text", ["", UUID, UUID.upper(), UUID.replace("-", "")])
def test_request_ids(text: str) -> None:
    assert check_request_id(text) == []


@pytest.mark.parametrize(
    "text", ["x", UUID[:-1], UUID + "0", UUID + "\n", "{" + UUID + "}", UUID.replace("e", "g")]
)
def test_no_request_ids(text: str) -> None:
    assert check_request_id(text) == [Violation("request_id", "must be a UUID")]


def test_a_worker_is_called_by_its_group_and_its_number() -> None:
    assert worker_name("gpu-2", 17) == "gpu-2-17"
