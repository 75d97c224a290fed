"""What every store promises, run over SQLite and memory alike."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.contract import Resources
from gateway.server.core.model import (
    Adaptive,
    Cluster,
    Condition,
    Count,
    Event,
    GroupStatus,
    Launching,
    Lifecycle,
    Remembered,
    Scheduler,
    Spec,
    State,
    StopWish,
    Token,
    Worker,
    WorkerGroup,
)
from gateway.server.store import feed
from gateway.server.store.codec import (
    decode,
    decode_cluster,
    decode_spec,
    encode,
    encode_cluster,
    encode_spec,
)
from gateway.server.store.contract import Conflict, Interest, StoreError, StoreUnreachable, Tx
from gateway.server.store.memory import MemoryStore
from gateway.server.store.sqlite import tx as sql
from gateway.server.store.sqlite.store import SqliteStore

Store = SqliteStore | MemoryStore


def a_cluster(
    number: int = 1, cluster_id: str = "etl", owner: str = "alice", **fields: Any
) -> Cluster:
    """Return a cluster."""
    return Cluster(f"c{number:020d}", owner, cluster_id, Spec("local"), **fields)


@pytest.fixture(params=["sqlite", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> AsyncIterator[Store]:
    """An open store."""
    made: Store = (
        SqliteStore(tmp_path / "gateway.db") if request.param == "sqlite" else MemoryStore()
    )
    await made.open()
    yield made
    await made.close()


async def test_a_put_is_stamped_and_seen_at_once(store: Store) -> None:
    stored = await store.transact(lambda tx: tx.put_cluster(a_cluster()))
    assert stored.revision == stored.created_revision == store.view.revision
    assert store.view.cluster(stored.uid) == stored
    assert store.view.named("alice", "etl") == stored
    again = await store.transact(lambda tx: tx.put_cluster(replace(stored, state=State.ACTIVE)))
    assert again.revision == stored.revision + 1
    assert again.created_revision == stored.created_revision
    assert await store.read(lambda tx: tx.cluster(stored.uid)) == again


async def test_what_raises_leaves_nothing(store: Store) -> None:
    def fail(tx: Tx) -> None:
        tx.put_cluster(a_cluster())
        raise KeyError("no")

    before = store.view.revision
    with pytest.raises(KeyError):
        await store.transact(fail)
    assert store.view.revision == before
    assert await store.read(lambda tx: tx.cluster(a_cluster().uid)) is None


async def test_one_failure_in_a_group_harms_no_other(store: Store) -> None:
    def fail(tx: Tx) -> None:
        tx.put_cluster(a_cluster(99, "bad"))
        raise KeyError("no")

    jobs = [
        store.transact(lambda tx, n=n: tx.put_cluster(a_cluster(n, f"c-{n}")))  # type: ignore[misc]
        for n in range(20)
    ]
    results = await asyncio.gather(
        *jobs[:10], store.transact(fail), *jobs[10:], return_exceptions=True
    )
    good = [result for result in results if isinstance(result, Cluster)]
    assert len(good) == 20
    assert len({cluster.revision for cluster in good}) == 20
    assert store.view.cluster(a_cluster(99).uid) is None


async def test_a_name_is_that_of_one_living_cluster(store: Store) -> None:
    first = await store.transact(lambda tx: tx.put_cluster(a_cluster(1)))
    with pytest.raises(Conflict):
        await store.transact(lambda tx: tx.put_cluster(a_cluster(2)))
    await store.transact(lambda tx: tx.put_cluster(replace(first, state=State.STOPPED)))
    second = await store.transact(lambda tx: tx.put_cluster(a_cluster(2)))
    assert store.view.named("alice", "etl") == second
    assert await store.read(lambda tx: tx.cluster(second.uid)) == second
    assert await store.read(lambda tx: tx.count_living("alice")) == 1


async def test_a_name_is_free_as_soon_as_its_cluster_is_told_to_stop(store: Store) -> None:
    first = await store.transact(lambda tx: tx.put_cluster(a_cluster(1)))
    wish = StopWish(State.STOPPED, "STOP_REQUESTED", "asked", 1)
    first = await store.transact(lambda tx: tx.put_cluster(replace(first, stop=wish)))
    second = await store.transact(lambda tx: tx.put_cluster(a_cluster(2)))
    assert store.view.named("alice", "etl") == second
    assert await store.read(lambda tx: tx.count_living("alice")) == 2
    # the one that ends is written again and again, beside its heir
    ending = replace(first, state=State.STOPPING)
    await store.transact(lambda tx: tx.put_cluster(ending))
    with pytest.raises(Conflict):
        await store.transact(lambda tx: tx.put_cluster(a_cluster(3)))
    await store.transact(lambda tx: tx.put_cluster(replace(ending, state=State.STOPPED)))
    assert store.view.named("alice", "etl") == second
    await store.transact(lambda tx: tx.purge_cluster(first.uid))
    assert store.view.named("alice", "etl") == second


async def test_in_one_transaction_a_name_is_handed_on(store: Store) -> None:
    first = await store.transact(lambda tx: tx.put_cluster(a_cluster(1)))
    wish = StopWish(State.STOPPED, "STOP_REQUESTED", "asked", 1)

    def hand_on(tx: Tx) -> Cluster:
        tx.put_cluster(replace(first, stop=wish))
        return tx.put_cluster(a_cluster(2))

    second = await store.transact(hand_on)
    assert store.view.named("alice", "etl") == second


async def test_workers_come_and_go(store: Store) -> None:
    workers = [Worker(a_cluster().uid, f"default-{n}", "default", created_at=n) for n in range(5)]
    await store.transact(lambda tx: tx.put_workers(workers))
    await store.transact(
        lambda tx: tx.put_workers([replace(workers[2], launching=Launching.RUNNING)])
    )
    await store.transact(lambda tx: tx.delete_workers(workers[0].uid, ["default-0", "default-9"]))
    found = await store.read(lambda tx: tx.workers(workers[0].uid))
    assert [worker.name for worker in found] == ["default-1", "default-2", "default-3", "default-4"]
    assert found[1].launching is Launching.RUNNING


async def test_events_are_paged_newest_first_and_bounded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "KEPT_EVENTS", 100)
    monkeypatch.setattr("gateway.server.store.memory.KEPT_EVENTS", 100)
    uid = a_cluster().uid
    for start in range(0, 300, 50):
        await store.transact(
            lambda tx, s=start: tx.add_events(  # type: ignore[misc]
                [Event(uid, n, "R", str(n)) for n in range(s, s + 50)]
            )
        )
    first = await store.read(lambda tx: tx.events(uid, limit=3))
    assert [event.message for _, event in first] == ["299", "298", "297"]
    second = await store.read(lambda tx: tx.events(uid, before_sequence=first[-1][0], limit=1000))
    assert second[0][1].message == "296"
    assert len(second) == 97


async def test_what_is_good_for_one_use_is_used_once_and_forgotten_when_it_has_expired(
    store: Store,
) -> None:
    async def spend(name: str, user: str, expires_at: int, now: int = 0) -> bool:
        return await store.transact(lambda tx: tx.spend(name, user, expires_at, now))

    assert [
        await spend(*one)
        for one in (
            ("a", "alice", 10),
            ("a", "alice", 10),
            ("a", "bob", 99),
            ("b", "alice", 20),
            ("c", "bob", 10),
        )
    ] == [
        True,
        False,
        False,
        True,
        True,
    ]
    assert await store.read(lambda tx: tx.spent(["a", "b", "x"])) == {"a", "b"}
    assert await store.read(
        lambda tx: (tx.count_spent("alice"), tx.count_spent("bob"), tx.count_spent("carol"))
    ) == (2, 1, 0)
    assert await spend("d", "alice", 30, now=10)  # and what of hers has expired is forgotten
    assert await store.read(lambda tx: tx.spent(["a", "b", "c", "d"])) == {"b", "c", "d"}
    assert await store.transact(lambda tx: tx.forget(21)) == 2
    assert await store.read(lambda tx: tx.spent(["a", "b", "c", "d"])) == {"d"}
    assert await store.transact(
        lambda tx: (tx.spend("e", "alice", 40, 0), tx.spend("e", "alice", 40, 0))
    ) == (True, False)


async def test_effects_and_tokens_are_remembered_and_forgotten(store: Store) -> None:
    effect = Remembered("alice", "CreateCluster", "id", b"digest", "uid", 10)
    tokens = [Token(f"t{n}", "alice", b"hash", created_at=n // 2, expires_at=n) for n in range(6)]

    def put(tx: Tx) -> None:
        tx.remember(effect)
        for token in tokens:
            tx.put_token(token)

    await store.transact(put)
    assert await store.read(lambda tx: tx.remembered("alice", "CreateCluster", "id")) == effect
    assert await store.read(lambda tx: tx.token("t3")) == tokens[3]
    page = await store.read(lambda tx: tx.tokens("alice", limit=2))
    assert [token.id for token in page] == ["t5", "t4"]
    rest = await store.read(
        lambda tx: tx.tokens("alice", before=(page[-1].created_at, page[-1].id))
    )
    assert [token.id for token in rest] == ["t3", "t2", "t1", "t0"]
    assert await store.transact(lambda tx: tx.forget(3)) == 3
    assert await store.transact(lambda tx: tx.delete_token("t5"))
    assert not await store.transact(lambda tx: tx.delete_token("t5"))


async def test_an_effect_remembered_again_is_replaced(store: Store) -> None:
    effect = Remembered("alice", "CreateCluster", "id", b"digest", "uid", 10)
    for later in (effect, replace(effect, digest=b"other", uid="another", at=20)):
        await store.transact(lambda tx, one=later: tx.remember(one))  # type: ignore[misc]
    assert await store.read(lambda tx: tx.remembered("alice", "CreateCluster", "id")) == later


async def test_what_writes_nothing_takes_no_revision(store: Store) -> None:
    await store.transact(lambda tx: tx.put_cluster(a_cluster(1)))

    def give_way(tx: Tx) -> None:
        tx.add_events([])
        with contextlib.suppress(Conflict):
            tx.put_cluster(a_cluster(2))

    before = store.view.revision
    await store.transact(give_way)
    assert store.view.revision == before


async def test_a_subscription_holds_one_change_a_cluster(store: Store) -> None:
    subscription = store.view.subscribe(Interest("alice"))
    made = await store.transact(lambda tx: tx.put_cluster(a_cluster()))
    await store.transact(lambda tx: tx.put_cluster(a_cluster(2, owner="bob")))
    for _ in range(10):
        made = await store.transact(lambda tx, c=made: tx.put_cluster(c))  # type: ignore[misc]
    changes, revision = await subscription.next(1)
    assert [change.cluster for change in changes] == [made]
    assert revision == store.view.revision
    assert (await subscription.next(0.01))[0] == []
    subscription.close()


async def test_a_purge_leaves_a_tombstone_that_watches_see(store: Store) -> None:
    made = await store.transact(lambda tx: tx.put_cluster(a_cluster()))
    await store.transact(lambda tx: tx.put_secrets(made.uid, b"sealed"))
    await store.transact(lambda tx: tx.purge_cluster(made.uid))
    assert store.view.cluster(made.uid) is None
    assert store.view.named("alice", "etl") is None
    assert await store.read(lambda tx: tx.secrets(made.uid)) is None
    changes, _ = await store.view.subscribe(start_revision=made.revision).next(1)
    assert [(change.uid, change.cluster) for change in changes] == [(made.uid, None)]


async def test_future_and_forgotten_revisions_are_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MAX_TOMBSTONES", 2)
    monkeypatch.setattr(sql, "MAX_TOMBSTONES", 2)
    first = store.view.revision
    for number in range(4):
        await store.transact(lambda tx, n=number: tx.put_cluster(a_cluster(n)))  # type: ignore[misc]
        await store.transact(lambda tx, n=number: tx.purge_cluster(a_cluster(n).uid))  # type: ignore[misc]
    with pytest.raises(ValueError, match="not reached"):
        store.view.subscribe(start_revision=store.view.revision + 1)
    with pytest.raises(LookupError):
        store.view.subscribe(start_revision=first)


async def test_a_restart_loses_nothing_and_watches_resume(tmp_path: pathlib.Path) -> None:
    store = SqliteStore(tmp_path / "gateway.db")
    await store.open()
    kept = await store.transact(lambda tx: tx.put_cluster(a_cluster(1, "kept")))
    gone = await store.transact(lambda tx: tx.put_cluster(a_cluster(2, "gone")))
    start = store.view.revision
    await store.transact(lambda tx: tx.purge_cluster(gone.uid))
    await store.close()
    with pytest.raises(StoreUnreachable):
        await store.transact(lambda tx: tx.meta("x"))
    again = SqliteStore(tmp_path / "gateway.db")
    await again.open()
    assert list(again.view.clusters()) == [kept]
    changes, _ = await again.view.subscribe(start_revision=start).next(1)
    assert [change.uid for change in changes] == [gone.uid]
    later = await again.transact(lambda tx: tx.put_cluster(replace(kept, state=State.ACTIVE)))
    assert later.revision > start + 1
    await again.close()


async def test_two_servers_cannot_share_a_file(tmp_path: pathlib.Path) -> None:
    first = SqliteStore(tmp_path / "gateway.db")
    await first.open()
    with pytest.raises(StoreError, match="another server uses this database"):
        await SqliteStore(tmp_path / "gateway.db").open()
    await first.close()
    assert (tmp_path / "gateway.db").stat().st_mode & 0o077 == 0


async def test_unusable_files_are_told_in_one_line(tmp_path: pathlib.Path) -> None:
    newer, junk = tmp_path / "newer.db", tmp_path / "junk.db"
    made = SqliteStore(newer)
    await made.open()
    await made.close()
    with sqlite3.connect(newer) as raw:
        raw.execute(
            "UPDATE meta SET value = CAST('99' AS BLOB)"
            " WHERE key IN ('schema_version', 'readable_since')"
        )
    raw.close()
    junk.write_bytes(b"this is no database" * 100)
    for path, words in (
        (newer, "schema version 99"),
        (junk, "not a database"),
        (tmp_path / "no" / "where.db", "No such file"),
    ):
        with pytest.raises(StoreError, match=words) as caught:
            await SqliteStore(path).open()
        assert "\n" not in str(caught.value)


sizes = st.one_of(
    st.builds(Count, st.integers(0, 9)), st.builds(Adaptive, st.integers(0, 3), st.integers(3, 9))
)
texts = st.text(max_size=8)
settings = st.dictionaries(
    texts, st.one_of(texts, st.integers(), st.dictionaries(texts, texts)), max_size=2
)
clusters = st.builds(
    Cluster,
    uid=texts,
    owner=texts,
    cluster_id=texts,
    spec=st.builds(
        Spec,
        backend=texts,
        options=st.dictionaries(texts, st.one_of(texts, st.integers(), st.booleans())),
        settings=settings,
        groups=st.dictionaries(
            texts,
            st.builds(
                WorkerGroup,
                sizes,
                settings=settings,
                resources=st.builds(Resources, st.floats(0, 9), st.integers(0, 9)),
            ),
        ),
        lifecycle=st.builds(Lifecycle, st.none() | st.floats(0, 9)),
    ),
    state=st.sampled_from(State),
    stop=st.none() | st.builds(StopWish, st.sampled_from(State), texts, texts, st.integers()),
    scheduler=st.builds(
        Scheduler, st.none() | st.sampled_from(Launching), versions=st.dictionaries(texts, texts)
    ),
    groups=st.dictionaries(texts, st.builds(GroupStatus, st.integers())),
    conditions=st.lists(
        st.builds(Condition, texts, st.booleans(), texts, texts, st.integers())
    ).map(tuple),
)


@given(clusters)
def test_what_is_encoded_is_decoded_the_same(cluster: Cluster) -> None:
    assert decode(Cluster, encode(cluster)) == cluster
    assert decode_cluster(encode_cluster(cluster), encode_spec(cluster.spec)) == cluster


def test_settings_that_groups_share_with_their_cluster_are_written_and_kept_once() -> None:
    settings = {"environment": {"A": "x" * 1000}}
    groups = {name: WorkerGroup(settings=dict(settings)) for name in ("default", "gpu")} | {
        "own": WorkerGroup(settings={"a": 1})
    }
    written = encode_spec(Spec("local", settings=settings, groups=groups))
    assert written.count("x" * 1000) == 1
    found = decode_spec(written)
    assert found == Spec("local", settings=settings, groups=groups)
    assert found.groups["gpu"].settings is found.settings


def test_a_token_is_decoded_the_same() -> None:
    token = Token("id", "alice", b"\0\1", parent="other", depth=3)
    assert decode(Token, encode(token)) == token


def test_a_field_that_a_newer_version_wrote_is_passed_over() -> None:
    found = decode(Worker, '{"uid": "c", "name": "w", "group": "g", "colour": {"red": 1}}')
    assert found == Worker("c", "w", "g")


@given(clusters)
def test_newer_fields_are_passed_over_wherever_they_stand(cluster: Cluster) -> None:
    def newer(plain: object) -> object:
        """Return a record as it is with one more field in each object whose fields are ours."""
        if isinstance(plain, list):
            return [newer(item) for item in plain]
        if not isinstance(plain, dict):
            return plain
        kept = ("labels", "options", "settings", "versions", "named")  # which hold names of others
        inner = {
            key: value
            if key in kept
            else {name: newer(item) for name, item in value.items()}
            if key == "groups"
            else newer(value)
            for key, value in plain.items()
        }
        return inner | {"colour": ["red", {"deep": None}]}

    text, spec = (
        json.dumps(newer(json.loads(written)))
        for written in (encode_cluster(cluster), encode_spec(cluster.spec))
    )
    assert decode_cluster(text, spec) == cluster
