"""Watches and logs, told by a gateway that is not there: resumed, ended from elsewhere, and
iterated in an event loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from daskgateway.v1 import cluster_service_pb2 as pb
from google.protobuf.duration_pb2 import Duration

from gateway import Bookmark, WatchEvent
from gateway.client.calls import errors, streams
from gateway.client.calls.streams import Changes, LogPieces, stepped
from tests.waiting import comes, until

BROKEN = errors.Unavailable("the way broke", code="UNAVAILABLE")


class Script:
    """A stream that tells what it is given: messages, errors, and functions that it calls; None
    waits until it is closed."""

    def __init__(self, *told: Any) -> None:
        self._told: Iterator[Any] = iter(told)
        self.read = 0
        self.closed = threading.Event()

    def __iter__(self) -> Script:
        return self

    def __next__(self) -> Any:
        told = next(self._told)
        self.read += 1
        if told is None:
            assert self.closed.wait(20)
            raise errors.GatewayError("cancelled", code="CANCELLED")
        if isinstance(told, Exception):
            raise told
        return told

    def close(self) -> None:
        """End it."""
        self.closed.set()


class Gateway:
    """Opens one script after another, and keeps what it was asked."""

    def __init__(self, *scripts: Script | Exception | Callable[[], Script]) -> None:
        self._scripts = iter(scripts)
        self.asked: list[Any] = []

    def stream(self, _: Any, request: Any) -> Script:
        """Open the next script."""
        self.asked.append(type(request).FromString(request.SerializeToString()))
        script = next(self._scripts)
        if isinstance(script, Exception):
            raise script
        return script if isinstance(script, Script) else script()


def changed(revision: int) -> pb.WatchClustersResponse:
    """Return a change."""
    return pb.WatchClustersResponse(
        revision=revision, event=pb.WatchEvent(type=pb.WATCH_EVENT_TYPE_MODIFIED)
    )


def goodbye(revision: int, seconds: int) -> pb.WatchClustersResponse:
    """Return a goodbye."""
    return pb.WatchClustersResponse(
        revision=revision, goodbye=pb.Goodbye(retry_delay=Duration(seconds=seconds))
    )


def streaming() -> list[threading.Thread]:
    """Return the threads that read for event loops."""
    return [thread for thread in threading.enumerate() if thread.name == "daskgateway-stream"]


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return for how long a watch has paused; it takes no time."""
    seconds: list[float] = []
    monkeypatch.setattr(Changes, "_pause", lambda _, pause_s: seconds.append(pause_s))
    return seconds


def watch(gateway: Gateway, start_revision: int = 0) -> Changes:
    """Return a watch."""
    return Changes(gateway, pb.WatchClustersRequest(start_revision=start_revision))  # type: ignore[arg-type]


def test_a_watch_goes_on_where_it_broke_off(paused: list[float]) -> None:
    first, second = (
        Script(changed(5), BROKEN),
        Script(pb.WatchClustersResponse(revision=7, bookmark=pb.Bookmark()), changed(9), None),
    )
    gateway = Gateway(BROKEN, first, second)
    changes = watch(gateway, 3)
    told = [next(changes), next(changes), next(changes)]
    assert [type(one) for one in told] == [WatchEvent, Bookmark, WatchEvent]
    assert [one.revision for one in told] == [5, 7, 9]
    assert [asked.start_revision for asked in gateway.asked] == [3, 3, 5]
    assert paused == [0.2, 0.2]
    assert first.closed.is_set()
    changes.close()
    assert next(changes, None) is None
    assert second.closed.is_set()


def test_a_watch_obeys_a_goodbye_though_not_for_ever(paused: list[float]) -> None:
    gateway = Gateway(
        Script(changed(1), goodbye(4, 2)), Script(goodbye(6, 10**9)), Script(changed(8))
    )
    changes = watch(gateway)
    assert [next(changes).revision, next(changes).revision] == [1, 8]
    assert [asked.start_revision for asked in gateway.asked] == [0, 4, 6]
    assert paused == [2.0, 0.2, streams.MAX_GOODBYE_S, 0.2]


def test_a_watch_from_a_forgotten_revision_begins_anew(paused: list[float]) -> None:
    gateway = Gateway(
        errors.RevisionCompacted("forgotten", code="OUT_OF_RANGE"), Script(changed(8))
    )
    assert next(watch(gateway, 3)).revision == 8
    assert [asked.start_revision for asked in gateway.asked] == [3, 0]


def test_pauses_grow_up_to_a_bound(paused: list[float]) -> None:
    next(watch(Gateway(*[BROKEN] * 8, Script(changed(1)))))
    assert paused == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_what_will_not_change_ends_a_watch_with_its_error(paused: list[float]) -> None:
    changes = watch(Gateway(errors.PermissionDenied("no", code="PERMISSION_DENIED")))
    with pytest.raises(errors.PermissionDenied):
        next(changes)
    assert next(changes, None) is None
    assert paused == []


def test_a_watch_is_ended_from_another_thread_also_while_it_pauses_or_opens() -> None:
    opening, go_on = threading.Event(), threading.Event()
    late = Script(changed(1))

    def opened() -> Script:
        opening.set()
        assert go_on.wait(20)
        return late

    waits, pauses = Script(None), Gateway(BROKEN, *[BROKEN] * 100)
    for changes, ready in (
        (watch(Gateway(waits)), lambda: waits.read == 1),
        (watch(pauses), lambda: len(pauses.asked) > 0),
        (watch(Gateway(opened)), opening.is_set),
    ):
        found: queue.SimpleQueue[Any] = queue.SimpleQueue()
        thread = threading.Thread(
            target=lambda changes=changes, found=found: found.put(next(changes, "the end")),
            daemon=True,
        )
        thread.start()
        until(ready, "it waits")
        changes.close()
        if opening.is_set():
            go_on.set()
        assert found.get(timeout=20) == "the end"
        thread.join(20)
    assert late.closed.is_set()


def test_logs_end_and_close_what_they_were_read_from() -> None:
    script = Script(
        pb.StreamLogsResponse(instance="scheduler", text="a\n"),
        pb.StreamLogsResponse(instance="default-0", text="b\n"),
    )
    pieces = LogPieces(Gateway(script), pb.StreamLogsRequest(name="n"))  # type: ignore[arg-type]
    assert [(instance, text) for instance, text in pieces] == [
        ("scheduler", "a\n"),
        ("default-0", "b\n"),
    ]
    assert script.closed.is_set()
    assert next(pieces, None) is None
    broken = LogPieces(Gateway(Script(BROKEN)), pb.StreamLogsRequest(name="n"))  # type: ignore[arg-type]
    with pytest.raises(errors.Unavailable):
        next(broken)


def test_who_breaks_off_and_forgets_leaves_no_stream_open() -> None:
    watched, logged = Script(changed(1), None), Script(pb.StreamLogsResponse(text="a"), None)
    for _ in watch(Gateway(watched)):
        break
    for _ in LogPieces(Gateway(logged), pb.StreamLogsRequest()):  # type: ignore[arg-type]
        break
    assert watched.closed.is_set()
    assert logged.closed.is_set()


async def test_an_event_loop_is_told_one_by_one_and_reads_nothing_ahead() -> None:
    script = Script(*[changed(number) for number in range(1, 100)])
    async with aclosing(stepped(watch(Gateway(script)))) as changes:
        assert [(await anext(changes)).revision for _ in range(3)] == [1, 2, 3]
        assert script.read == 3
    assert script.closed.is_set()


async def test_a_task_that_is_cancelled_ends_the_watch_it_waits_for() -> None:
    script = Script(None)

    async def follow() -> None:
        async for _ in stepped(watch(Gateway(script))):
            raise AssertionError

    task = asyncio.create_task(follow())
    await comes(lambda: script.read)
    assert len(streaming()) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(script.closed.wait, 20)
    await comes(lambda: not streaming())


async def test_the_end_and_errors_reach_the_event_loop() -> None:
    pieces = LogPieces(Gateway(Script(pb.StreamLogsResponse(text="a"))), pb.StreamLogsRequest())  # type: ignore[arg-type]
    assert [piece.text async for piece in stepped(pieces)] == ["a"]
    with pytest.raises(errors.PermissionDenied):
        await anext(
            stepped(watch(Gateway(errors.PermissionDenied("no", code="PERMISSION_DENIED"))))
        )


def test_a_loop_that_is_closed_under_a_watch_leaves_no_thread() -> None:
    script = Script(None)
    loop = asyncio.new_event_loop()
    changes = stepped(watch(Gateway(script)))
    asked = loop.create_task(changes.__anext__())
    while not script.read:
        loop.run_until_complete(asyncio.sleep(0.01))
    asked.cancel()
    loop.run_until_complete(asyncio.gather(asked, return_exceptions=True))
    loop.close()
    until(lambda: not streaming(), "the thread has ended")
    assert script.closed.is_set()
