"""Whatever functions run as one group, SQLite answers and holds what a store that runs them one by
one would."""

from __future__ import annotations

import asyncio
import pathlib
import random
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.server.core.model import Cluster, Event, Remembered, Spec, State, Token, Worker
from gateway.server.store.contract import Conflict, StoreUnreachable, Tx
from gateway.server.store.memory import MemoryStore
from gateway.server.store.sqlite import mirror
from gateway.server.store.sqlite.store import SqliteStore
from tests.store.test_sqlite_writer import in_one_group

GROUPS = 24
CLUSTERS = [
    Cluster(f"c{number:020d}", "alice", f"name-{number % 2}", Spec("local"))
    for number in range(GROUPS // 3 + 4)
]
Op = tuple[Any, ...]  # what to do, and with what


@dataclass
class Doing:
    """Does what is drawn in transactions of one store. A uid that was ever purged is not used
    again, as in life."""

    gone: set[str] = field(default_factory=set)

    def function(self, ops: Sequence[Op]) -> Callable[[Tx], list[Any]]:
        """Return the function that does these one after the other."""
        return lambda tx: [getattr(self, name)(tx, *arguments) for name, *arguments in ops]

    def put(self, tx: Tx, number: int, state: State) -> object:
        uid = CLUSTERS[number].uid
        if uid in self.gone:
            return None
        try:
            return tx.put_cluster(replace(tx.cluster(uid) or CLUSTERS[number], state=state))
        except Conflict:
            return "taken"

    def purge(self, tx: Tx, number: int) -> None:
        self.gone.add(CLUSTERS[number].uid)
        tx.purge_cluster(CLUSTERS[number].uid)

    def fill(self, tx: Tx, number: int, numbers: Sequence[int], at: int) -> None:
        uid = CLUSTERS[number].uid
        if tx.cluster(uid) is not None:
            tx.put_workers(
                [Worker(uid, f"w-{n}", "default", created_at=at + n % 2) for n in numbers]
            )

    def empty(self, tx: Tx, number: int, numbers: Sequence[int]) -> None:
        tx.delete_workers(CLUSTERS[number].uid, [f"w-{n}" for n in numbers])

    def tell(self, tx: Tx, number: int, count: int) -> None:
        uid = CLUSTERS[number].uid
        if tx.cluster(uid) is not None:
            tx.add_events([Event(uid, n, "TOLD", str(n)) for n in range(count)])
            tx.put_secrets(uid, bytes([count]))

    def remember(self, tx: Tx, number: int, at: int) -> None:
        tx.remember(Remembered("alice", "Create", str(number), b"digest", CLUSTERS[number].uid, at))

    def mint(self, tx: Tx, number: int, at: int) -> None:
        if tx.token(str(number)) is None:
            tx.put_token(Token(str(number), "alice", b"hash", created_at=at, expires_at=at))

    def revoke(self, tx: Tx, number: int) -> bool:
        return tx.delete_token(str(number))

    def forget(self, tx: Tx, _: int, at: int) -> int:
        return tx.forget(at)

    def note(self, tx: Tx, number: int, at: int) -> None:
        tx.put_meta(f"key-{number}", bytes([at]))

    def workers(self, tx: Tx, number: int) -> object:
        return tx.workers(CLUSTERS[number].uid)

    def recall(self, tx: Tx, number: int) -> object:
        return tx.remembered("alice", "Create", str(number))

    def look(self, tx: Tx, number: int) -> object:
        uid = CLUSTERS[number].uid
        living = tx.count_living(), tx.count_living("alice"), tx.count_living("bob")
        return (
            tx.cluster(uid),
            living,
            tx.secrets(uid),
            tx.events(uid),
            tx.meta(f"key-{number}"),
        )

    def tokens(self, tx: Tx, number: int) -> object:
        return tx.token(str(number)), tx.tokens("alice", limit=3)

    def fail(self, _: Tx) -> None:
        raise ValueError("no")

    def everything(self, tx: Tx) -> object:
        numbers = range(len(CLUSTERS))
        return [
            [look(tx, number) for look in (self.workers, self.recall, self.look, self.tokens)]
            for number in numbers
        ]


WEIGHTS = {
    "put": 8,
    "fill": 6,
    "empty": 3,
    "tell": 3,
    "remember": 3,
    "mint": 2,
    "note": 1,
    "purge": 1,
    "revoke": 1,
    "forget": 1,
    "fail": 1,
}
WEIGHTS |= {"workers": 3, "recall": 2, "look": 1, "tokens": 1}


def draw_op(chance: random.Random, first: int) -> Op:
    """Draw what to do with one of the clusters from `first` on."""
    (name,) = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
    number, at = first + chance.randrange(4), chance.randrange(10)
    some = chance.sample(range(6), chance.randint(1, 5))
    arguments: dict[str, Op] = {
        "put": (number, chance.choice((State.PENDING, State.ACTIVE, State.STOPPED))),
        "fill": (number, some, at),
        "empty": (number, some),
        "tell": (number, at % 4),
        "fail": (),
    }
    timed = name in ("remember", "mint", "note", "forget")
    return name, *arguments.get(name, (number, at) if timed else (number,))


def draw_group(chance: random.Random, first: int) -> list[list[Op]]:
    """Draw some functions."""
    return [
        [draw_op(chance, first) for _ in range(chance.randint(1, 5))]
        for _ in range(chance.randint(1, 6))
    ]


async def one_by_one(store: MemoryStore, functions: Sequence[Callable[[Tx], Any]]) -> list[Any]:
    """Run functions each by itself; return what each returned or raised."""
    return [
        (await asyncio.gather(store.transact(function), return_exceptions=True))[0]
        for function in functions
    ]


def told(results: Sequence[Any]) -> list[Any]:
    """Return results with errors as texts, which can be compared."""
    return [repr(result) if isinstance(result, Exception) else result for result in results]


def break_down(tx: Tx) -> None:
    """Fail as a database does."""
    raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.parametrize("seed", range(6))
async def test_a_group_is_what_its_functions_are_one_by_one(
    seed: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed % 2:
        monkeypatch.setattr(mirror, "KEPT_WORKERS", 3)  # so that the writer has to read much again
    chance = random.Random(seed)
    sqlite, memory, doings = SqliteStore(tmp_path / "gateway.db"), MemoryStore(), (Doing(), Doing())
    await sqlite.open()
    await memory.open()
    for first in range(GROUPS):
        group = draw_group(chance, first // 3)  # those that were purged are left behind
        if chance.random() < 0.2:
            lost = [Doing(set(doings[0].gone)).function(ops) for ops in group]
            assert all(
                isinstance(result, StoreUnreachable)
                for result in await in_one_group(sqlite, *lost, break_down)
            )
        got = await in_one_group(sqlite, *[doings[0].function(ops) for ops in group])
        assert told(got) == told(
            await one_by_one(memory, [doings[1].function(ops) for ops in group])
        ), group
        assert await sqlite.read(Doing().everything) == await memory.read(Doing().everything), group
        assert (list(sqlite.view.clusters()), sqlite.view.revision) == (
            list(memory.view.clusters()),
            memory.view.revision,
        )
    assert await sqlite.transact(Doing().everything) == await memory.transact(Doing().everything)
    await sqlite.close()
