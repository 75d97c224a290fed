"""Nothing that runs is ended by a database that may lack it, before the administrator says so."""

from __future__ import annotations

import json
import logging
import math
import pathlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from daskgateway.internal.v1 import route_pb2 as pb

from gateway.authenticators.contract import Authenticator
from gateway.backends.contract import SCHEDULER_NAME, Instance, Launch, Observation, Phase, Role
from gateway.server.core.errors import CredentialsInvalid, StoreUnavailable
from gateway.server.core.model import Cluster, Launching, Scheduler, Spec, State
from gateway.server.keeping import confirm, doubts, witness
from gateway.server.keeping.doubts import Doubts
from gateway.server.reconcile.sweep import Watcher
from gateway.server.rpc import route_service
from gateway.server.rpc.caller import Caller, current
from gateway.server.security.doors import Doors
from gateway.server.store.contract import Last
from gateway.server.store.memory import MemoryStore
from tests.rpc.harness import PretendBackend

ENDED, LOST = (
    Cluster("c" + "a" * 20, "alice", "etl", Spec("pretend"), state=State.STOPPED),
    "c" + "b" * 20,
)


def scheduler(uid: str) -> Instance:
    """Return the identity of a cluster's scheduler."""
    return Instance(uid, Role.SCHEDULER, SCHEDULER_NAME)


class Room:
    """A backend in which a scheduler of a cluster that has ended runs, and one of a cluster that
    the database lacks."""

    def __init__(self, directory: pathlib.Path, strange: str = "") -> None:
        self.directory, self.strange = directory, strange
        self.store, self.backend = MemoryStore(), PretendBackend()

    async def open(self) -> None:
        """Begin, as a server does."""
        self.backend.push = lambda _: None
        for uid in (ENDED.uid, LOST):
            self.backend.running.setdefault(scheduler(uid), Launch(scheduler(uid), "alice", ()))
        await self.store.open()
        await self.store.transact(lambda tx: tx.put_cluster(ENDED))
        self.begin()
        await self.doubts.open()

    def begin(self, backends: Sequence[str] = ("pretend",)) -> None:
        self.doubts = Doubts(
            self.directory, pathlib.Path("/srv/gateway.db"), self.store, self.strange, backends
        )
        self.watcher = Watcher(self.store, "pretend", self.backend, lambda _: None, self.doubts)

    def running(self) -> set[str]:
        """Return the uids of what runs."""
        return {instance.uid for instance in self.backend.running}


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as an error."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_leftover_is_ended_and_what_has_no_record_is_not(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    room = Room(tmp_path)
    await room.open()
    assert errors(caplog) == []
    for _ in range(3):
        await room.watcher.sweep()
    assert room.running() == {LOST}
    (told,) = errors(caplog)
    for words in ("/srv/gateway.db", LOST, "daskgateway confirm-database", "put it there"):
        assert words in told
    assert room.doubts.holds()


async def test_by_a_strange_database_nothing_is_ended_at_all(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    room = Room(tmp_path, "is older than it was")
    await room.open()
    assert "is older than it was" in errors(caplog)[0]
    await room.watcher.sweep()
    await room.watcher.sweep()
    assert room.running() == {ENDED.uid, LOST}
    # what is strange at once, and what runs unknown when it was found
    assert len(errors(caplog)) == 2
    await room.doubts.close()
    assert witness.Witness(tmp_path).last() is None  # what was written down of the right one stays


async def test_the_administrators_word_ends_what_was_shown_and_nothing_else(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    room = Room(tmp_path, "is older than it was")
    await room.open()
    await room.watcher.sweep()
    doubt = confirm.find(tmp_path)
    assert doubt is not None
    assert LOST in doubt.words
    assert "is older than it was" in doubt.words
    later = "c" + "d" * 20
    room.backend.running[scheduler(later)] = Launch(scheduler(later), "bob", ())
    await room.watcher.sweep()
    confirm.confirm(doubt)
    await room.watcher.sweep()
    assert room.running() == {later}
    await room.watcher.sweep()
    assert not (tmp_path / doubts.WORD_FILE).exists()
    assert witness.Witness(tmp_path).last() == Last("memory", room.store.view.revision)
    assert room.doubts.holds()
    shown = confirm.find(tmp_path)
    assert shown is not None
    assert (later in shown.words, LOST in shown.words) == (True, False)
    del room.backend.running[scheduler(later)]
    await room.watcher.sweep()
    assert not room.doubts.holds()
    assert confirm.find(tmp_path) is None


async def test_a_word_about_another_database_means_nothing(tmp_path: pathlib.Path) -> None:
    room = Room(tmp_path, "is another")
    (tmp_path / doubts.WORD_FILE).write_text(
        json.dumps({"database": "of yesterday", "clusters": [{"uid": LOST}]})
    )
    await room.open()
    await room.watcher.sweep()
    assert room.running() == {ENDED.uid, LOST}
    assert not (tmp_path / doubts.WORD_FILE).exists()


async def test_a_word_holds_until_it_is_done_also_across_a_restart(tmp_path: pathlib.Path) -> None:
    room = Room(tmp_path)
    await room.open()
    await room.watcher.sweep()
    doubt = confirm.find(tmp_path)
    assert doubt is not None
    confirm.confirm(doubt)
    room.begin()
    await room.doubts.open()
    await room.watcher.sweep()
    assert room.running() == set()


async def test_while_it_is_doubted_no_agent_is_turned_away_for_good(tmp_path: pathlib.Path) -> None:
    room = Room(tmp_path)
    await room.open()
    doors = Doors(Authenticator(), room.store, None, b"", lambda: 0, room.doubts.holds)  # type: ignore[arg-type]
    for uid in (LOST, ENDED.uid):
        # nobody has looked yet whether something runs unknown
        with pytest.raises(StoreUnavailable):
            await doors.agent(uid, "token")
    room.backend.running = {}
    await room.watcher.sweep()
    for uid in (LOST, ENDED.uid):
        with pytest.raises(CredentialsInvalid):
            await doors.agent(uid, "token")


async def test_while_it_is_doubted_the_edge_forgets_no_way_to_a_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(route_service, "HEARTBEAT_S", 0.01)
    store, doubted = MemoryStore(), True
    await store.open()
    scheduler = Scheduler(Launching.RUNNING, address="tls://10.0.0.7:8786")
    await store.transact(
        lambda tx: tx.put_cluster(replace(ENDED, state=State.ACTIVE, scheduler=scheduler))
    )
    current.set(Caller("id", edge=True))
    updates: Any = route_service.RouteServicer(
        store.view, [b"key"], lambda: False, (), lambda: doubted
    ).WatchRoutes(pb.WatchRoutesRequest(), None)
    first = await anext(updates)
    assert (first.snapshot, [one.uid for one in first.routes], first.ticket_keys) == (
        False,
        [ENDED.uid],
        [b"key"],
    )
    assert not (await anext(updates)).routes  # a sign of life
    doubted = False
    while not (told := await anext(updates)).snapshot:
        pass
    assert [one.uid for one in told.routes] == [ENDED.uid]
    assert not (await anext(updates)).snapshot
    await updates.aclose()


async def test_what_a_witness_says_is_read_whatever_it_is(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen, store = witness.Witness(tmp_path), MemoryStore()
    assert seen.last() is None
    await seen.note(store)
    assert witness.Witness(tmp_path).last() == Last("memory", 0)
    assert caplog.records == []
    numbers = (
        "1e400",
        "-1e400",
        "NaN",
        "-5",
        "1.5",
        "true",
        '"12"',
        "[1]",
        str(10**30),
        str(2**63 - 10),
        str(2**62),
        "1" * 5000,
    )
    wrong = [f'{{"identity": "x", "revision": {number}}}' for number in numbers]
    for text in (
        "",
        "[]",
        '{"identity": "x"}',
        '{"identity": "x", "revision": "many"}',
        '{"identity": 7, "revision": 7}',
        *wrong,
    ):
        caplog.clear()
        (tmp_path / witness.FILE).write_text(text)
        assert witness.Witness(tmp_path).last() is None
        assert "cannot be read" in caplog.text
    await seen.note(store)
    (tmp_path / witness.FILE).unlink()
    await store.open()
    await store.transact(lambda tx: tx.put_meta("k", b"v"))
    seen = witness.Witness(tmp_path / "gone")
    caplog.clear()
    for _ in range(3):
        await seen.note(store)
    assert len(errors(caplog)) == 1


def test_names_of_unknown_processes_cannot_break_what_is_shown(tmp_path: pathlib.Path) -> None:
    (tmp_path / doubts.DOUBT_FILE).write_text(
        json.dumps({"path": "p", "why": "w", "clusters": [{}, 7, {"uid": 3}], "count": 2})
    )
    assert confirm.find(tmp_path) is not None
    (tmp_path / doubts.DOUBT_FILE).write_text("[]")
    assert confirm.find(tmp_path) is None


def test_observations_are_told_by_cluster() -> None:
    found = [
        Observation(Instance(LOST, Role.WORKER, f"w-{n}"), Phase.RUNNING, user="bob")
        for n in range(3)
    ]
    assert doubts._clusters({"slurm": found}) == [("slurm", LOST, "bob", 3)]


@pytest.mark.parametrize(
    "clusters", [[1], [["x"]], "abc", 5, True, {"uid": 1}, [None], [{}], [{"uid": 7}], None]
)
async def test_a_word_that_cannot_be_read_ends_nothing_and_hinders_nothing(
    clusters: object, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    room = Room(tmp_path)
    await room.open()
    (tmp_path / doubts.WORD_FILE).write_text(
        json.dumps({"database": room.store.identity, "clusters": clusters})
    )
    room.begin()
    await room.doubts.open()
    await room.watcher.sweep()
    assert room.running() == {LOST}
    assert sum("cannot be read" in line for line in errors(caplog)) == 1
    assert not (tmp_path / doubts.WORD_FILE).exists()


@pytest.mark.parametrize(
    "wrong",
    [[1], "abc", "1e5", -5, 1.5, True, {"uid": 1}, [None], 10**400, math.inf, math.nan, None],
)
@pytest.mark.parametrize("field", ["clusters", "count", "processes"])
def test_a_doubt_that_was_not_written_by_us_can_be_shown(
    field: str, wrong: object, tmp_path: pathlib.Path
) -> None:
    told: dict[str, object] = {
        "path": "p",
        "why": "w",
        "clusters": [{"uid": LOST, "processes": wrong}],
        "count": 1,
    }
    if field != "processes":
        told[field] = wrong
    (tmp_path / doubts.DOUBT_FILE).write_text(json.dumps(told))
    shown = confirm.find(tmp_path)
    assert shown is not None
    assert shown.processes >= 0
