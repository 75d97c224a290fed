"""Who is told of a change, and what that costs those whom it does not concern."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from unittest import mock

import pytest

from gateway.server.core.model import Cluster, Spec
from gateway.server.store.contract import EVERYTHING, Interest, Tombstone
from gateway.server.store.feed import Feed


def a_cluster(number: int, owner: str = "alice", name: str = "", revision: int = 0) -> Cluster:
    uid = f"c{number:020}"
    return Cluster(
        uid,
        owner,
        name or f"n{number}",
        Spec("noop"),
        revision=revision or number,
        created_revision=number,
    )


def a_feed(
    clusters: Iterable[Cluster], tombstones: Iterable[Tombstone] = (), revision: int = 100
) -> Feed:
    feed = Feed()
    feed.load(clusters, tombstones, revision, 0)
    return feed


UID = a_cluster(1).uid
INTERESTS = [
    (EVERYTHING, True),
    (Interest("alice"), True),
    (Interest("bob"), False),
    (Interest(uids=frozenset({UID})), True),
    (Interest("bob", frozenset({UID})), False),
    (Interest(uids=frozenset(), names=frozenset({("alice", "n1")})), True),
    (Interest("alice", frozenset({UID}), frozenset({("alice", "n1")})), True),
    (Interest(uids=frozenset(), names=frozenset({("bob", "n1")})), False),
    (Interest("alice", frozenset()), False),
]


@pytest.mark.parametrize(("interest", "wanted"), INTERESTS)
async def test_who_asked_is_told_once_and_nobody_else(interest: Interest, wanted: bool) -> None:
    feed = a_feed([a_cluster(1), a_cluster(2, "bob")])
    subscription = feed.subscribe(interest)
    feed.publish(101, [a_cluster(1, revision=101)], [])
    assert [change.revision for change in (await subscription.next(0))[0]] == [101] * wanted
    feed.publish(102, [], [Tombstone(UID, "alice", "n1", 102)])
    changes, revision = await subscription.next(0)
    assert ([change.cluster for change in changes], revision) == ([None] * wanted, 102)
    assert interest.wants("alice", "n1", UID) is wanted
    assert bool(a_feed([a_cluster(1)]).matching(interest)) is wanted


@pytest.mark.parametrize(("interest", "wanted"), INTERESTS)
async def test_who_comes_back_is_told_what_changed_since(interest: Interest, wanted: bool) -> None:
    buried = [
        Tombstone(f"c{number:020}", "alice", "n1" if number == 51 else "m", number)
        for number in (50, 51, 52)
    ]
    feed = a_feed([a_cluster(1, revision=60), a_cluster(2, "bob", revision=10)], buried)
    changes, _ = await feed.subscribe(interest, start_revision=50).next(0)
    named = bool(interest.names) and interest.owner != "bob" and ("alice", "n1") in interest.names
    everything = interest.uids is None
    tombs = [51, 52] * (wanted and everything) or [51] * named
    assert [change.revision for change in changes] == [*tombs, *([60] * wanted)]


def test_what_a_name_was_given_to_before_is_found_and_the_newest_is_it() -> None:
    feed = a_feed([a_cluster(1, name="etl"), a_cluster(3, name="etl"), a_cluster(2, name="etl")])
    assert [
        cluster.created_revision
        for cluster in feed.matching(
            Interest(uids=frozenset(), names=frozenset({("alice", "etl")}))
        )
    ] == [
        3,
        2,
        1,
    ]
    newest = feed.named("alice", "etl")
    assert newest is not None
    assert newest.created_revision == 3
    feed.publish(101, [], [Tombstone(newest.uid, "alice", "etl", 101)])
    left = feed.named("alice", "etl")
    assert left is not None
    assert left.created_revision == 2
    for number in (1, 2):
        feed.publish(102, [], [Tombstone(f"c{number:020}", "alice", "etl", 101 + number)])
    assert feed.named("alice", "etl") is None
    assert list(feed.clusters()) == []


async def test_a_closed_subscription_wakes_its_reader_and_hears_nothing_more() -> None:
    feed = a_feed([a_cluster(1)])
    subscription = feed.subscribe()
    reading = asyncio.ensure_future(subscription.next())
    await asyncio.sleep(0)
    subscription.close()
    assert await reading == ([], 100)
    feed.publish(101, [a_cluster(1, revision=101)], [])
    assert (await subscription.next())[0] == []
    subscription.close()


def test_a_change_asks_nobody_whom_it_does_not_concern() -> None:
    """The price of a change does not grow with the watches of others, nor that of opening one with
    the clusters of others."""
    feed = a_feed(
        [a_cluster(number, f"user{number % 100}") for number in range(1, 10_001)], revision=20_000
    )
    for number in range(2, 5_002):
        feed.subscribe(Interest(uids=frozenset({f"c{number:020}"})))
    with mock.patch.object(Interest, "wants", autospec=True, side_effect=Interest.wants) as asked:
        feed.publish(20_001, [a_cluster(9_999, "user99", revision=20_001)], [])
        feed.publish(20_002, [a_cluster(1, "user1", revision=20_002)], [])
        assert asked.call_count == 0
        feed.publish(20_003, [a_cluster(2, "user2", revision=20_003)], [])
        assert asked.call_count == 1
        feed.subscribe(Interest("user3", frozenset({f"c{3:020}"})), start_revision=19_000)
        assert asked.call_count <= 3
