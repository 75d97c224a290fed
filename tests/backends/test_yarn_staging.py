"""What is left of applications in HDFS, and who removes it. `hadoop` is a script over a directory,
which answers as Hadoop 3.4 does; the real one is tried in test_yarn_faults.py."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Launch,
    Phase,
    Resources,
    Role,
    Started,
    Target,
)
from gateway.backends.yarn import record, staging
from gateway.backends.yarn.answers import Application, Queue
from gateway.backends.yarn.backend import YarnBackend
from gateway.backends.yarn.calls import NotAnswered
from gateway.backends.yarn.record import Record
from gateway.backends.yarn.shape import Shape, Size
from tests.parts import executable
from tests.waiting import comes

pytestmark = pytest.mark.timeout(120)
UID = "c" + "a" * 20
ONE, OTHER = "application_1_0001", "application_1_0002"
SCHEDULER = Instance(UID, Role.SCHEDULER, "scheduler")
HADOOP = """#!/bin/sh
cd %s/${HADOOP_PROXY_USER:-dask} || exit 1
echo "WARN NativeCodeLoader: Unable to load native-hadoop library" >&2
[ ! -e ../down ] || { echo "$2: Call From here to nn failed: Connection refused" >&2; exit 1; }
case $2 in
  -ls) ls -d $4 2>/dev/null || { echo "ls: \\`$4': No such file or directory" >&2; exit 1; } ;;
  -rm) rm -r -f "$6" ;;
esac
"""


class Room:
    """A gateway whose ResourceManager tells of what a test has put here."""

    def __init__(self, place: pathlib.Path) -> None:
        self.hdfs = place / "hdfs"
        (place / "bin").mkdir()
        for user in ("dask", "alice"):
            (self.hdfs / user).mkdir(parents=True)
        for name in ("hadoop", "yarn"):
            executable(place / "bin" / name, HADOOP % self.hdfs)
        self.backend = YarnBackend(
            root=str(place / "root"),
            commands_directory=str(place / "bin"),
            resourcemanager_urls=["http://127.0.0.1:9"],
            end_s=1.0,
        )
        self.told: dict[str, Application] = {}

    async def open(self) -> None:
        """Open it."""
        await self.backend.open(lambda _: None)

        async def live(tag: str) -> list[Application]:
            return [one for one in self.told.values() if not one.ended]

        async def application(application_id: str) -> Application | None:
            return self.told.get(application_id)

        self.backend.rest.live = live  # type: ignore[method-assign]
        self.backend.rest.application = application  # type: ignore[method-assign]

    def submitted(self, application: str, *, named: bool, account: str = "") -> Record:
        """Keep a record, and what skein has uploaded for it."""
        sizes = {"dask.scheduler": Size(512, 1), "dask.worker": Size(512, 1)}
        made = record.new(UID, {"certificate": "x", "key": "y"}, Shape(account), sizes, True)
        self.backend.records.keep(made)
        below = self.hdfs / (account or "dask") / ".skein" / application
        (below / "ABC").mkdir(parents=True)
        (below / "skein.jar").write_text("x")
        (below / "ABC" / self.backend.records.key_path(made).name).write_text("x")
        return self.backend.records.named(made, application) if named else made

    def left(self, user: str = "dask") -> list[str]:
        """Return what is left in HDFS."""
        return sorted(path.name for path in (self.hdfs / user / ".skein").iterdir())

    def tell(self, application: str, state: str, kept: Record, final: str = "FAILED") -> None:
        """Have the ResourceManager tell of an application."""
        tag = self.backend.gateway_tag
        tags = frozenset({tag, f"{tag}-{UID}", f"nonce-{kept.nonce}"})
        self.told[application] = Application(application, state, final, tags=tags)


@pytest.fixture
async def room(tmp_path: pathlib.Path) -> AsyncIterator[Room]:
    """A gateway."""
    made = Room(tmp_path)
    await made.open()
    yield made
    await made.backend.close()


async def test_what_a_master_that_died_has_left_is_removed_and_no_other(room: Room) -> None:
    kept = room.submitted(ONE, named=True)
    (room.hdfs / "dask/.skein" / OTHER).mkdir()
    room.tell(ONE, "ACCEPTED", kept)
    await room.backend.listing(0.0)
    room.tell(ONE, "FAILED", kept)
    await room.backend.listing(0.0)
    await comes(lambda: room.left() == [OTHER])


async def test_what_is_left_while_the_gateway_is_away_is_removed(room: Room) -> None:
    kept = room.submitted(ONE, named=True, account="alice")
    room.tell(ONE, "FAILED", kept)
    seen = await room.backend.observations([Target(SCHEDULER, f"{ONE}/scheduler")])
    assert SCHEDULER not in seen or seen[SCHEDULER].phase is Phase.GONE
    await comes(lambda: room.left("alice") == [])


async def test_what_hdfs_does_not_remove_is_removed_by_the_cleanup(
    room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.backends.setbacks.RETRY_S", (0.0, 0.0))
    kept = room.submitted(ONE, named=True)
    room.tell(ONE, "ACCEPTED", kept)
    await room.backend.listing(0.0)
    (room.hdfs / "down").touch()
    room.tell(ONE, "FAILED", kept)
    await room.backend.listing(0.0)
    await comes(lambda: f".skein/{ONE} is left in HDFS: " in caplog.text)
    with pytest.raises(BackendUnavailable, match=rf"\.skein/{ONE} is left in HDFS: .*refused"):
        await room.backend.cleanup(UID)
    (room.hdfs / "down").unlink()
    await room.backend.cleanup(UID)
    assert room.left() == []
    assert not room.backend.held


@pytest.mark.parametrize("state", ["", "FAILED"])
async def test_what_a_submission_without_an_answer_has_left_goes_with_its_cluster(
    room: Room, state: str
) -> None:
    kept = room.submitted(ONE, named=False)
    (room.hdfs / "dask/.skein" / OTHER).mkdir()
    if state:
        room.tell(ONE, state, kept)
    await room.backend.cleanup(UID)
    assert room.left() == [OTHER]
    assert room.backend.records.of(UID) == []


async def test_a_submission_that_was_nothing_in_hdfs_needs_no_removal(room: Room) -> None:
    kept = room.submitted(ONE, named=False)
    (room.hdfs / "dask/.skein" / ONE / "ABC" / room.backend.records.key_path(kept).name).unlink()
    await room.backend.cleanup(UID)
    assert room.left() == [ONE]  # nobody knows whose it is


async def test_an_hdfs_that_cannot_be_searched_is_no_empty_one(room: Room) -> None:
    (room.hdfs / "down").touch()
    given = room.backend.variables(), 30.0
    with pytest.raises(BackendUnavailable, match=r"cannot be searched: .*refused"):
        await staging.holder("x.key", "", *given)
    (room.hdfs / "down").unlink()
    assert await staging.holder("x.key", "", *given) == ""


async def test_an_application_that_came_after_another_was_submitted_in_its_place_is_ended(
    room: Room,
) -> None:
    """Nobody knew what came of the first submission, so there was a second."""
    submitted: list[str] = []
    killed: list[str] = []

    async def call(operation: str, **said: Any) -> dict[str, Any]:
        if operation == "credentials":
            return {"certificate": "x", "key": "y"}
        if operation == "submit":
            submitted.extend(tag for tag in said["specification"]["tags"] if "nonce" in tag)
            if len(submitted) == 1:
                raise NotAnswered("submit: no answer within 60 s")
            return {"application": OTHER}
        assert operation == "kill_application"
        if not killed:
            killed.append("unheard")
            raise NotAnswered("kill_application: no answer within 15 s")
        killed.append(said["application"])
        return {}

    async def queues() -> dict[str, Queue]:
        return {}

    room.backend.calls.call = call  # type: ignore[method-assign]
    room.backend.rest.queues = queues  # type: ignore[method-assign]
    launch = Launch(SCHEDULER, "alice", ("python",), resources=Resources(1.0, 2**29))
    with pytest.raises(NotAnswered):
        await room.backend.start([launch])
    outcome = (await room.backend.start([launch]))[SCHEDULER]
    assert outcome == Started(f"{OTHER}/scheduler")
    first, second = submitted
    tag = room.backend.gateway_tag
    for application, nonce in ((ONE, first), (OTHER, second)):
        tags = frozenset({tag, f"{tag}-{UID}", nonce})
        room.told[application] = Application(application, "ACCEPTED", tags=tags)
    for _ in range(2):  # the first end is not heard of
        await room.backend.listing(0.0)
        await asyncio.gather(*room.backend._doubles.values(), return_exceptions=True)
    assert killed == ["unheard", ONE]
    room.told[ONE] = Application(ONE, "KILLED")
    await room.backend.listing(0.0)
    assert [one.handle for one in await room.backend.find()] == [f"{OTHER}/scheduler"]
    seen = await room.backend.observations([Target(SCHEDULER, outcome.handle)])
    assert seen[SCHEDULER].phase is Phase.QUEUED
