"""What is stored is never answered OK once the database's files are not those that were opened,
whatever somebody did to them."""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.server.store.contract import StoreError, StoreUnreachable
from gateway.server.store.sqlite import files
from gateway.server.store.sqlite.store import SqliteStore
from tests.store.losses import (
    Place,
    _another_server,
    _copy_over,
    _cut_log,
    _cut_off,
    _move,
    _move_directory,
    _other_program_writes,
    _remove_directory,
    _replace_by_a_copy,
    _replace_by_backup,
    _unlink,
    _unlink_all,
    _unlink_index,
    _unlink_log,
    _write_over,
    cluster,
)


@pytest.fixture
async def place(tmp_path: pathlib.Path) -> AsyncIterator[Place]:
    """A store with three clusters, started again before the last; its backup has the first."""
    (tmp_path / "state").mkdir()
    made = Place(tmp_path / "state")
    await made.store.open()
    await made.put(1)
    raw = sqlite3.connect(made.path)
    with sqlite3.connect(made.backup) as copy:
        raw.backup(copy)
    copy.close()
    raw.close()
    await made.put(10)
    await made.store.close()  # which moves all of the log into the file
    await made.store.open()
    await made.put(2)
    yield made
    await made.store.close()
    if made.other is not None:
        os.close(made.other)


def _way(place: Place) -> pathlib.Path:
    """Return a link that leads to the database."""
    way = place.directory.with_name("way.db")
    way.symlink_to(place.path)
    return way


LOSSES: list[Callable[[Place], None]] = [
    _unlink,
    _unlink_all,
    _move,
    _replace_by_backup,
    _replace_by_a_copy,
    _unlink_log,
    _unlink_index,
    _another_server,
    _move_directory,
    _remove_directory,
    _cut_off,
    _cut_log,
    _copy_over,
    _write_over,
    _other_program_writes,
]


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__.strip("_"))
async def test_what_is_stored_after_the_files_were_lost_is_refused_and_one_error_says_so(
    place: Place, lose: Callable[[Place], None], caplog: pytest.LogCaptureFixture
) -> None:
    lose(place)
    for number in (3, 4, 5):
        with pytest.raises(StoreUnreachable):
            await place.put(number)
    assert place.store.view.cluster(cluster(3).uid) is None
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.levelname for record in told] == ["ERROR"]
    assert str(place.path) in told[0].getMessage()
    # what the administrator is to do
    assert "start" in told[0].getMessage() or "put" in told[0].getMessage()


async def test_a_file_that_is_lost_while_a_commit_is_made_is_noticed_before_its_answer(
    place: Place,
) -> None:
    def lose(tx: object) -> None:
        place.path.unlink()

    with pytest.raises(StoreUnreachable):
        await place.store.transact(lambda tx: (tx.put_cluster(cluster(3)), lose(tx)))


@pytest.mark.parametrize("lose", [_move, _move_directory], ids=["file", "directory"])
async def test_when_the_very_files_are_back_it_goes_on_and_says_so(
    place: Place, lose: Callable[[Place], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lose(place)
    with pytest.raises(StoreUnreachable):
        await place.put(3)
    if lose is _move:
        (place.directory / "away.db").rename(place.path)
    else:
        place.directory.with_name("elsewhere").rename(place.directory)
    await place.put(4)
    assert place.stored() == {cluster(number).uid for number in (1, 2, 4, 10)}
    assert caplog.records[-1].levelno == logging.INFO
    assert "again" in caplog.records[-1].getMessage()


async def test_a_lost_log_of_changes_takes_nothing_with_it(place: Place) -> None:
    """Until the server is started again all there is would be in a file that has no name; a kill
    would lose it."""
    _unlink_log(place)
    with pytest.raises(StoreUnreachable):
        await place.put(3)
    shutil.copy(place.path, place.directory / "as-a-kill-leaves-it.db")
    place.path = place.directory / "as-a-kill-leaves-it.db"
    assert {cluster(number).uid for number in (1, 2, 10)} <= place.stored()


@pytest.mark.parametrize(
    "lose", [_replace_by_backup, _copy_over], ids=["moved there", "copied over"]
)
async def test_a_backup_that_was_put_there_while_it_ran_is_left_as_it_is(
    place: Place, lose: Callable[[Place], None]
) -> None:
    lose(place)
    with pytest.raises(StoreUnreachable):
        await place.put(3)
    await place.store.close()
    assert place.path.read_bytes() == place.backup.read_bytes()
    again = SqliteStore(place.path)
    await again.open()
    assert [one.uid for one in again.view.clusters()] == [cluster(1).uid]
    await again.close()
    place.store = SqliteStore(place.path)
    await place.store.open()


async def test_a_backup_moved_there_is_not_mixed_with_the_log_after_a_kill_either(
    place: Place, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    await place.put(3)
    # the very files, as a kill would leave them
    shutil.copytree(place.directory, tmp_path / "killed", copy_function=os.link)
    killed = Place(tmp_path / "killed")
    os.rename(shutil.copy(place.backup, tmp_path / "killed" / "new.db"), killed.path)
    # which the first server holds; it is another's now, and says the same
    killed.beside(".lock").unlink()
    shutil.copy(place.beside(".lock"), killed.beside(".lock"))
    await killed.store.open()
    assert [one.uid for one in killed.store.view.clusters()] == [cluster(1).uid]
    assert killed.beside("-wal.set-aside").exists()
    assert "set-aside" in caplog.text
    await killed.store.close()


async def test_a_lock_that_was_removed_is_taken_again(place: Place) -> None:
    place.beside(".lock").unlink()
    await place.put(3)
    with pytest.raises(StoreError, match="another server uses this database"):
        await SqliteStore(place.path).open()


async def test_a_copy_that_undoes_nothing_is_no_loss(place: Place) -> None:
    """The log has all that changed since the file was last written: a backup made since then lies
    below it."""
    await place.put(3)
    raw = sqlite3.connect(place.path)
    with sqlite3.connect(place.backup) as copy:
        raw.backup(copy)
    copy.close()
    raw.close()
    await place.put(4)
    _copy_over(place)
    await place.put(5)
    await place.store.close()
    await place.store.open()
    assert {one.uid for one in place.store.view.clusters()} == {
        cluster(number).uid for number in (1, 2, 3, 4, 5, 10)
    }


async def test_another_program_may_read_and_tidy_up(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Backups read, replication moves the log of changes into the file; neither changes what is
    stored."""
    code = (
        f"import sqlite3; raw = sqlite3.connect({str(place.path)!r}); raw.execute('SELECT *"
        f" FROM cluster').fetchall(); "
    )
    code += "print(raw.execute('PRAGMA wal_checkpoint(PASSIVE)').fetchall()); raw.close()"
    for number in (3, 4):
        await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", code], check=True, capture_output=True
        )
        os.utime(place.path)
        await place.put(number)
    assert place.stored() == {cluster(number).uid for number in (1, 2, 3, 4, 10)}
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_our_own_tidying_up_is_no_other_program(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    # more than what is moved into the file at once
    await place.store.transact(lambda tx: tx.put_meta("large", os.urandom(8 * 2**20)))
    for number in range(3, 30):
        await place.put(number)
    assert caplog.records == []


async def test_a_full_disk_is_one_error_and_over_when_there_is_room(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pages = "PRAGMA max_page_count={}"  # beyond them SQLite answers as when the disk is full
    await place.store.transact(lambda tx: tx._connection.exec_driver_sql(pages.format(1)))  # type: ignore[attr-defined]
    for _ in range(3):
        with pytest.raises(StoreUnreachable, match="full"):
            await place.store.transact(lambda tx: tx.put_meta("large", b"0" * 2**20))
    await place.store.transact(lambda tx: tx._connection.exec_driver_sql(pages.format(10**6)))  # type: ignore[attr-defined]
    await place.store.transact(lambda tx: tx.put_meta("large", b"0" * 2**20))
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


async def test_a_lock_that_another_program_holds_is_unavailable_and_over_when_it_is_let_go(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await place.store.transact(lambda tx: tx._connection.exec_driver_sql("PRAGMA busy_timeout=100"))  # type: ignore[attr-defined]
    other = sqlite3.connect(place.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for number in (3, 4):
        with pytest.raises(StoreUnreachable, match="locked"):
            await place.put(number)
    other.rollback()
    other.close()
    await place.put(5)
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


async def test_a_database_that_is_damaged_under_a_transaction_is_the_databases_fault_not_the_callers(  # noqa: E501
    place: Place,
) -> None:
    def damaged(tx: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    with pytest.raises(StoreUnreachable, match="malformed"):
        await place.store.transact(damaged)


async def test_a_writer_that_cannot_even_undo_goes_on_answering(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy import Connection

    def broken(self: Connection) -> None:
        monkeypatch.undo()
        raise sqlite3.OperationalError("disk I/O error")

    def fail(tx: object) -> None:
        monkeypatch.setattr(Connection, "rollback", broken)
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(StoreUnreachable, match="disk I/O"):
        await place.store.transact(fail)
    await place.put(3)
    assert cluster(3).uid in place.stored()


async def test_an_idle_servers_lost_file_is_noticed_when_it_looks(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    assert await place.store.healthy()
    place.path.unlink()
    assert not await place.store.healthy()
    assert not await place.store.healthy()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_the_examination_is_not_made_with_every_commit() -> None:
    assert files.EXAMINED_EVERY_S >= 60


async def test_a_database_is_used_by_way_of_a_link_and_another_server_is_kept_out(
    place: Place,
) -> None:
    await place.store.close()
    store = SqliteStore(_way(place))
    await store.open()
    await store.transact(lambda tx: tx.put_cluster(cluster(4)))
    for path in (place.path, _way_by_directory(place)):
        with pytest.raises(StoreError, match="another server uses this database"):
            await SqliteStore(path).open()
    await store.close()
    assert cluster(4).uid in place.stored()


def _way_by_directory(place: Place) -> pathlib.Path:
    """Return the database's path by way of a link to its directory."""
    place.directory.with_name("other-way").symlink_to(place.directory)
    return place.directory.with_name("other-way") / place.path.name


@pytest.mark.parametrize("by", [_way, _way_by_directory])
async def test_a_link_that_leads_elsewhere_meanwhile_is_noticed(
    place: Place, by: Callable[[Place], pathlib.Path]
) -> None:
    await place.store.close()
    way = by(place)
    store = SqliteStore(way)
    await store.open()
    link = way if way.is_symlink() else way.parent
    link.unlink()
    elsewhere = place.directory.with_name("elsewhere")
    elsewhere.mkdir()
    shutil.copy(place.backup, elsewhere / place.path.name)
    link.symlink_to(elsewhere / place.path.name if link is way else elsewhere)
    with pytest.raises(StoreUnreachable, match="was replaced while the server runs"):
        await store.transact(lambda tx: tx.put_cluster(cluster(4)))
    await store.close()
    assert cluster(4).uid not in place.stored()


async def test_links_that_lead_in_a_circle_are_told(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.db").symlink_to(tmp_path / "b.db")
    (tmp_path / "b.db").symlink_to(tmp_path / "a.db")
    with pytest.raises(StoreError, match="Too many levels of symbolic links"):
        await SqliteStore(tmp_path / "a.db").open()


async def test_a_file_of_two_names_is_refused_as_no_lock_covers_both(place: Place) -> None:
    await place.store.close()
    other = place.directory.with_name("other.db")
    other.hardlink_to(place.path)
    for path in (place.path, other):
        with pytest.raises(StoreError, match="has another name"):
            await SqliteStore(path).open()
    other.unlink()
    store = SqliteStore(place.path)
    await store.open()
    await store.close()
