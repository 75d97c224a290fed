"""Logs of processes of this machine do not fill its disk: the oldest part of a large one is given
back, and the rest reads as before."""

from __future__ import annotations

import os
import pathlib

import pytest

from gateway.backends import logfile
from gateway.backends.conformance import UID, Room
from gateway.backends.contract import Phase
from gateway.backends.local import backend as local
from gateway.backends.local import log_shares
from gateway.backends.local.backend import LocalBackend

MIB = 2**20
LINE = b"x" * 1023 + b"\n"


def on_disk(path: pathlib.Path) -> int:
    """Return how much of the disk a file takes."""
    return path.stat().st_blocks * 512


def append(path: pathlib.Path, text: bytes) -> None:
    """Write as a process does that has the log for its output."""
    with open(path, "ab") as file:
        file.write(text)


@pytest.fixture
def log(tmp_path: pathlib.Path) -> pathlib.Path:
    """A log of 4 MiB, with its last line of another kind."""
    path = tmp_path / "log"
    path.write_bytes(b"first\n" + LINE * 4096 + b"last\n")
    return path


def test_the_oldest_part_of_a_large_log_is_given_back_and_where_everything_stands_stays(
    log: pathlib.Path,
) -> None:
    before = log.read_bytes()
    logfile.shorten([log], 8 * MIB)
    assert log.read_bytes() == before
    logfile.shorten([log, log.with_name("none")], MIB)
    assert MIB // 2 <= on_disk(log) <= MIB
    assert log.stat().st_size == len(before)
    assert log.read_bytes()[-MIB // 2 :] == before[-MIB // 2 :]
    assert logfile.tail(log, 1) == "last"
    append(log, b"more\n")
    assert logfile.tail(log, 2) == "last\nmore"


@pytest.mark.parametrize("lines", [0, 1, 100_000])
async def test_what_was_given_back_is_told_of_and_not_read_as_nothing_but_zeros(
    log: pathlib.Path, lines: int
) -> None:
    logfile.shorten([log], MIB)
    shown = "".join([piece async for piece in logfile.pieces(log, lines, False, lambda: False)])
    assert "\0" not in shown
    assert shown.endswith("x\nlast\n" if lines != 1 else "last\n")
    assert len(shown) == 5 if lines == 1 else len(shown) > MIB // 2
    assert shown.startswith("[the first 3") == (lines == 0)


async def test_who_follows_a_log_goes_on_where_it_was(log: pathlib.Path) -> None:
    runs = [True]
    shown = ""
    async for piece in logfile.pieces(log, 0, True, lambda: bool(runs)):
        if not shown:
            logfile.shorten([log], MIB)
        shown += piece
        if runs and shown.endswith("last\n"):
            append(log, b"more\n")
            runs.clear()
    assert shown.startswith("first\n")
    assert shown.count("bytes of this log were dropped") == 1
    assert shown.endswith("last\nmore\n")


def test_the_last_lines_of_a_log_with_nothing_in_it_are_looked_for_in_bounded_time(
    log: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfile, "MAX_TAIL_BYTES", MIB)
    with open(log, "ab") as file:
        file.truncate(10**12)  # which its writer can do
    assert logfile.tail_offset(log, 5) == 10**12 - MIB


def test_links_are_not_followed(log: pathlib.Path) -> None:
    link = log.with_name("link")
    link.symlink_to(log)
    logfile.shorten([link], MIB)
    assert on_disk(log) > 4 * MIB


async def test_a_process_that_never_stops_talking_does_not_fill_the_disk(
    tmp_path: pathlib.Path,
) -> None:
    room = Room(LocalBackend(root=str(tmp_path), max_log_bytes=MIB))
    await room.open()
    code = (
        "import os, time; [os.write(1, b'x' * 1023 + b'\\n') for _ in range(4096)];"
        " os.write(1, b'all\\n'); time.sleep(600)"
    )
    targets = await room.start(room.launch("default-0", code))
    assert (await room.log_with(targets[0], "all")).endswith("all\n")
    await room.until(targets, Phase.RUNNING)
    path = tmp_path / "logs" / UID / "default-0.log"
    assert on_disk(path) <= MIB
    assert path.stat().st_size > 4 * MIB
    await room.backend.stop(targets)
    await room.until_gone(targets)
    append(path, LINE * 2048)  # what it wrote after the last look
    await room.backend.cleanup(UID)
    assert on_disk(path) <= MIB
    await room.close()


def written(root: pathlib.Path, uid: str, user: str, size: int, at: int) -> pathlib.Path:
    """Return a log of a user's cluster."""
    directory = root / uid
    directory.mkdir(parents=True, exist_ok=True)
    log_shares.mark(directory, user)
    path = directory / "scheduler.log"
    path.write_bytes(LINE * (size // 1024))
    os.utime(path, (at, at))
    return path


def test_all_logs_of_one_user_together_are_bounded_and_the_oldest_gives_way(
    tmp_path: pathlib.Path,
) -> None:
    mine = [written(tmp_path, f"c{n}", "alice", 2 * MIB, n) for n in range(6)]
    other = written(tmp_path, "other", "bob", 6 * MIB, 0)
    (tmp_path / "stray").write_text("no directory")
    unmarked = tmp_path / "old"
    unmarked.mkdir()
    (unmarked / "scheduler.log").write_bytes(LINE * 8192)
    log_shares.shorten_beyond(tmp_path, 7 * MIB)
    sizes = [on_disk(path) for path in mine]
    assert sum(sizes) <= 7 * MIB
    assert sizes[-3:] == [2 * MIB] * 3
    assert max(sizes[:3]) <= log_shares.LEAST_BYTES
    assert logfile.tail(mine[0], 1) == "x" * 1023
    assert on_disk(other) == 6 * MIB
    assert on_disk(unmarked / "scheduler.log") == 8 * MIB


def test_very_many_logs_of_one_user_are_bounded_too(tmp_path: pathlib.Path) -> None:
    mine = [written(tmp_path, f"c{n}", "alice", 128 * 1024, n) for n in range(40)]
    log_shares.shorten_beyond(tmp_path, MIB)
    assert sum(on_disk(path) for path in mine) <= MIB
    assert on_disk(mine[-1]) > 0


async def test_a_look_bounds_the_logs_of_a_user(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "SHARES_S", 0.0)
    room = Room(
        LocalBackend(root=str(tmp_path), max_log_bytes_per_user=2 * MIB, max_log_bytes=64 * MIB)
    )
    await room.open()
    code = (
        "import os, time; [os.write(1, b'x' * 1023 + b'\\n') for _ in range(4096)];"
        " os.write(1, b'all\\n'); time.sleep(600)"
    )
    targets = await room.start(room.launch("default-0", code), room.launch("default-1", code))
    for target in targets:
        await room.log_with(target, "all")
    await room.until(targets, Phase.RUNNING)
    await room.backend.observations(targets)
    assert sum(on_disk(path) for path in (tmp_path / "logs" / UID).glob("*.log")) <= 2 * MIB
    await room.backend.stop(targets)
    await room.until_gone(targets)
    await room.close()
