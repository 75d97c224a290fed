"""Who follows logs, however many, holds nobody else up: they are read in threads of their own, few
at a time, when there is more."""

from __future__ import annotations

import asyncio
import pathlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.backends import logfile, reading
from gateway.backends.reading import LOOK_S, MAX_GROWN, Growth, _Followed, in_reader
from tests.rpc.turns import Served
from tests.waiting import comes

MANY = 190


@pytest.fixture
def logs(tmp_path: pathlib.Path) -> list[pathlib.Path]:
    """Many logs of a line each."""
    found = [tmp_path / f"{n}.log" for n in range(MANY)]
    for path in found:
        path.write_text("first\n")
    return found


async def follow(path: pathlib.Path, runs: list[bool], read: dict[pathlib.Path, str]) -> None:
    """Follow one log while it runs."""
    async for piece in logfile.pieces(path, 0, True, lambda: bool(runs)):
        read[path] = read.get(path, "") + piece


def append(path: pathlib.Path, text: str) -> None:
    """Write as a process does that has the log for its output."""
    with open(path, "a") as file:
        file.write(text)


class Refusing(ThreadPoolExecutor):
    """The event loop's own threads, which are for other things."""

    def submit(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        raise AssertionError("a log is read in a thread that others need")


async def test_many_followed_logs_are_read_to_their_end_in_threads_of_their_own(
    logs: list[pathlib.Path],
) -> None:
    asyncio.get_running_loop().set_default_executor(Refusing(1))
    runs, read = [True], dict[pathlib.Path, str]()
    following = [asyncio.create_task(follow(path, runs, read)) for path in logs]
    await comes(lambda: len(read) == MANY)
    for path in logs:
        append(path, "more\n")
    await comes(lambda: all(text == "first\nmore\n" for text in read.values()))
    runs.clear()
    async with asyncio.timeout(20):
        await asyncio.gather(*following)


async def test_readers_that_hang_keep_no_other_work_waiting(
    logs: list[pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as those of a file system that does not answer."""
    pool = ThreadPoolExecutor(reading.READERS)
    monkeypatch.setattr(reading, "_readers", lambda: pool)
    hangs, begun = threading.Event(), []

    def hang() -> None:
        begun.append(1)
        hangs.wait(20)

    stuck = [asyncio.create_task(in_reader(hang)) for _ in range(50)]
    await comes(lambda: len(begun) == reading.READERS)
    try:
        async with asyncio.timeout(5):
            assert await asyncio.to_thread(lambda: "done") == "done"
    finally:
        hangs.set()
        await asyncio.gather(*stuck)


async def test_few_pieces_are_read_at_a_time_and_everybody_has_a_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[int] = []
    waiting: list[int] = []

    def work(number: int) -> None:
        order.append(number)
        waiting.append(pool._work_queue.qsize())

    async def one(number: int) -> None:
        for _ in range(3):
            await in_reader(work, number)

    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(reading, "_readers", lambda: pool)
        await asyncio.gather(*(one(number) for number in range(40)))
    assert sorted(order[:40]) == list(range(40))  # nobody twice before the last once
    assert max(waiting) < reading.READ_AT_A_TIME


def test_many_logs_that_grow_all_at_once_hold_the_event_loop_for_a_moment_only(
    logs: list[pathlib.Path],
) -> None:
    thread = Served()
    runs, read = [True], dict[pathlib.Path, str]()

    async def begin() -> list[asyncio.Task[None]]:
        return [asyncio.create_task(follow(path, runs, read)) for path in logs]

    async def ended(tasks: list[asyncio.Task[None]]) -> None:
        async with asyncio.timeout(20):
            await asyncio.gather(*tasks)

    try:
        with thread.longest_turn() as longest:
            following = thread.run(begin())
            thread.run(comes(lambda: len(read) == MANY))
            for _ in range(3):
                before = sum(map(len, read.values()))
                for path in logs:
                    append(path, "x" * 200_000 + "\n")
                thread.run(
                    comes(
                        lambda before=before: (  # type: ignore[misc]
                            sum(map(len, read.values())) >= before + MANY * 200_000
                        ),
                        30.0,
                    )
                )
            assert longest() < 0.05
        runs.clear()
        thread.run(ended(following))
    finally:
        thread.close()


@pytest.fixture
def growth() -> Iterator[Growth]:
    """What looks at files, whose thread is gone afterwards."""
    made = Growth()
    yield made
    if made._thread is not None:
        made._thread.join(10)
    assert made._thread is None or not made._thread.is_alive()


async def test_a_file_that_grows_or_comes_to_be_is_told_and_the_thread_ends_with_the_last(
    growth: Growth, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "log"
    with growth.followed(path) as grown:
        async with asyncio.timeout(10):
            path.write_text("a")
            await grown.wait()
            grown.clear()
            path.write_text("ab")
            await grown.wait()
        thread = growth._thread
        assert thread is not None
    await asyncio.to_thread(thread.join, 10)
    assert growth._thread is None


async def test_quiet_files_are_looked_at_less_often_and_few_followers_are_told_at_once(
    tmp_path: pathlib.Path,
) -> None:
    growth, loop = Growth(), asyncio.get_running_loop()
    files = [_Followed(tmp_path / str(n), loop) for n in range(3 * MAX_GROWN)]
    growth._files = dict.fromkeys(files)
    for one in files:
        one.path.write_text("x")
    growth._look(list(growth._files), 0.0)
    await asyncio.sleep(0)
    assert sum(one.grown.is_set() for one in files) == MAX_GROWN
    growth._look(list(growth._files), 0.0)
    growth._look(list(growth._files), 0.0)
    await asyncio.sleep(0)
    assert all(one.grown.is_set() for one in files)  # those not told before had their turn
    for step in range(1, 40):
        growth._look(list(growth._files), 10.0 * step)
    assert {one.wait_s for one in files} == {LOOK_S[1]}
    files[0].path.write_text("xy")
    growth._look(list(growth._files), 1000.0)
    assert files[0].wait_s == LOOK_S[0]
