"""Answers that come one after another: changes of clusters and pieces of logs, for threads and for
event loops.

A lost watch is resumed where it broke off. Whoever iterates is the only one who reads: nothing is
read ahead.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import Protocol, TypeAlias, TypeVar

from daskgateway.v1 import cluster_service_pb2 as pb

from gateway.client.calls import api, errors
from gateway.client.calls.channel import Connection
from gateway.client.model.events import Bookmark, LogPiece, WatchEvent

T = TypeVar("T")

WATCH_RETRY_S = (0.2, 5.0)  # between two attempts to go on watching
MAX_GOODBYE_S = 60.0  # a gateway that goes away cannot ask for a longer pause
AGAIN = ("UNAVAILABLE", "CANCELLED")  # codes of a watch that broke off


class Closes(Protocol):
    """A stream of the connection, as far as it is ended."""

    def close(self) -> None:
        """End it."""


S = TypeVar("S", bound=Closes)


class Answers(Iterator[T]):
    """Answers one after another. `close` ends them, from any thread, and so does the end of a
    `with` statement."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._open: Closes | None = None

    def close(self) -> None:
        """End the answers: whoever waits for the next one sees the end."""
        self._closed.set()
        with self._lock:
            stream, self._open = self._open, None
        if stream is not None:
            stream.close()

    def __enter__(self) -> Answers[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()  # for who breaks off a loop and forgets

    def _opened(self, stream: S) -> S:
        """Return a stream that was just opened, unless it is not wanted any more."""
        with self._lock:
            if not self._closed.is_set():
                self._open = stream
                return stream
        stream.close()
        raise StopIteration


class LogPieces(Answers[LogPiece]):
    """Pieces of the logs that a request asks for."""

    def __init__(self, connection: Connection, request: pb.StreamLogsRequest) -> None:
        super().__init__(connection)
        self._request = request
        self._pieces: Iterator[pb.StreamLogsResponse] | None = None

    def __next__(self) -> LogPiece:
        if self._closed.is_set():
            raise StopIteration
        try:
            if self._pieces is None:
                self._pieces = self._opened(self._connection.stream(api.STREAM_LOGS, self._request))
            return LogPiece.from_proto(next(self._pieces))
        except StopIteration:
            self.close()
            raise
        except errors.GatewayError:
            if self._closed.is_set():
                raise StopIteration from None
            self.close()
            raise


class Changes(Answers[WatchEvent | Bookmark]):
    """Changes of the clusters that a request asks for, without end."""

    def __init__(self, connection: Connection, request: pb.WatchClustersRequest) -> None:
        super().__init__(connection)
        self._request = request
        self._told: Iterator[pb.WatchClustersResponse] | None = None
        self._wait_s = WATCH_RETRY_S[0]

    def __next__(self) -> WatchEvent | Bookmark:
        while not self._closed.is_set():
            told = self._next()
            if told is None:
                self._pause(self._wait_s)
                self._wait_s = min(WATCH_RETRY_S[1], self._wait_s * 2)
                continue
            self._request.start_revision = max(self._request.start_revision, told.revision)
            self._wait_s = WATCH_RETRY_S[0]
            if told.HasField("event"):
                return WatchEvent.from_proto(told)
            if told.HasField("bookmark"):
                return Bookmark.from_proto(told)
            if told.HasField("goodbye"):
                self._pause(
                    min(
                        MAX_GOODBYE_S,
                        told.goodbye.retry_delay.seconds + told.goodbye.retry_delay.nanos / 1e9,
                    )
                )
        raise StopIteration

    def _next(self) -> pb.WatchClustersResponse | None:
        """Return what is told next; None if the watch broke off, and the next call goes on with
        it."""
        try:
            if self._told is None:
                self._told = self._opened(
                    self._connection.stream(api.WATCH_CLUSTERS, self._request)
                )
            if (told := next(self._told, None)) is not None:
                return told
        except errors.RevisionCompacted:
            self._request.start_revision = 0
        except errors.GatewayError as error:
            if error.code not in AGAIN and not self._closed.is_set():
                self.close()
                raise
        self._told = None
        with self._lock:
            broken, self._open = self._open, None
        if broken is not None:
            broken.close()
        return None

    def _pause(self, seconds: float) -> None:
        self._closed.wait(max(0.0, seconds))


class End:
    """Says that there is no further answer."""


# one answer at a time; None at the end
Wanted: TypeAlias = "queue.SimpleQueue[asyncio.Future[T | End] | None]"


async def stepped(answers: Answers[T]) -> AsyncGenerator[T, None]:
    """Yield answers in an event loop. A thread of its own asks for each when it is wanted; ending
    the generator ends them."""
    loop = asyncio.get_running_loop()
    wanted: Wanted[T] = queue.SimpleQueue()
    threading.Thread(
        target=_answer, args=(answers, wanted, loop), name="daskgateway-stream", daemon=True
    ).start()
    try:
        while True:
            answer: asyncio.Future[T | End] = loop.create_future()
            wanted.put(answer)
            if isinstance(told := await answer, End):
                return
            yield told
    finally:
        answers.close()
        wanted.put(None)


def _answer(answers: Answers[T], wanted: Wanted[T], loop: asyncio.AbstractEventLoop) -> None:
    while (answer := wanted.get()) is not None:
        told: T | End | Exception
        try:
            told = next(answers, End())
        except Exception as error:
            told = error
        try:
            loop.call_soon_threadsafe(_settle, answer, told)
        except RuntimeError:  # the loop is closed: nobody waits any more
            answers.close()
            return


def _settle(answer: asyncio.Future[T | End], told: T | End | Exception) -> None:
    if answer.done():  # nobody waits for it any more
        return
    if isinstance(told, Exception):
        answer.set_exception(told)
    else:
        answer.set_result(told)
