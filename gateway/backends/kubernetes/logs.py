"""Logs of pods: live from Kubernetes while there is a pod, from a file of ours afterwards.

Kubernetes forgets a pod's log with the pod. So logs are read to their end while a pod ends, and
kept up to a bound: those of schedulers, of what failed, and of some workers of each cluster.
"""

from __future__ import annotations

import asyncio
import codecs
import datetime
import logging
import os
import pathlib
import shutil
from collections import deque
from collections.abc import AsyncIterator, Callable

from gateway.backends import logfile
from gateway.backends.contract import BackendUnavailable, Instance
from gateway.backends.kubernetes import api
from gateway.backends.kubernetes.api import Api
from gateway.backends.kubernetes.manifests import CONTAINER
from gateway.backends.kubernetes.refusals import Kind, Refusal
from gateway.backends.reading import in_reader
from gateway.files import write_kept

logger = logging.getLogger(__name__)

PIECE_BYTES = 16 * 1024  # three times as long where every byte is replaced
KEEP_AT_A_TIME = 16  # logs that are read to be kept
OPENED_S = 5.0  # within which the log of what is to end must have been opened
LOOK_S = 0.3  # between two looks whether a pod has begun to write
SILENCE_S = 600.0  # after which the log of a quiet pod is asked for anew


async def live(
    connection: Api,
    namespace: str,
    pod: str,
    *,
    tail_lines: int,
    follow: bool,
    waits: Callable[[], bool],
    runs: Callable[[], bool],
) -> AsyncIterator[str]:
    """Yield the log of a pod; when following, go on until it runs no longer. A follower whose
    connection is lost goes on with the second in which that was: it may see lines of it twice."""
    query = [("container", CONTAINER), *([("follow", "true")] if follow else [])]
    begin = [("tailLines", str(tail_lines))] if tail_lines > 0 else []
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    while True:
        last_s = _now()
        try:
            path = f"{api.pods(namespace, pod)}/log"
            async with connection.stream(path, query + begin, silence_s=SILENCE_S) as pieces:
                async for raw in pieces:
                    last_s = _now()
                    for start in range(0, len(raw), PIECE_BYTES):
                        if text := decoder.decode(raw[start : start + PIECE_BYTES]):
                            yield text
        except Refusal as error:
            if error.kind is Kind.ABSENT or not follow or not (waits() or runs()):
                return
        except BackendUnavailable:
            if not follow or not runs():
                raise
        else:
            if not follow or not runs():
                return
            begin = [("sinceTime", last_s)]
        await asyncio.sleep(LOOK_S)


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class KeptLogs:
    """The logs of pods that are no more."""

    def __init__(
        self, connection: Api, root: pathlib.Path, *, each_bytes: int, all_bytes: int
    ) -> None:
        self._api, self._root, self._each, self._all = connection, root, each_bytes, all_bytes
        self._tasks: dict[Instance, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(KEEP_AT_A_TIME)

    def path(self, instance: Instance) -> pathlib.Path:
        """Return where an instance's log is kept."""
        return self._root / instance.uid / f"{instance.name}.log"

    async def keep(
        self, namespace: str, pod: str, instance: Instance, *, follow: bool, within_s: float
    ) -> None:
        """Begin to keep a log; it is open when this returns, or cannot be had. `follow`: until the
        pod has ended, at most `within_s`."""
        if instance not in self._tasks:
            opened = asyncio.Event()
            work = self._keep(namespace, pod, instance, opened, follow, within_s)
            task = asyncio.create_task(work, name=f"keep the log of {pod}")
            self._tasks[instance] = task

            def over(_: asyncio.Task[None]) -> None:
                opened.set()
                self._tasks.pop(instance, None)

            task.add_done_callback(over)
            try:
                async with asyncio.timeout(OPENED_S):
                    await opened.wait()
            except TimeoutError:
                logger.debug("the log of %s could not be opened in time", pod)

    async def settled(self, uid: str, name: str = "", within_s: float = 10.0) -> None:
        """Wait until what is being kept of a cluster, or of one of its instances, is."""
        tasks = [
            task
            for instance, task in self._tasks.items()
            if instance.uid == uid and name in ("", instance.name)
        ]
        if tasks:
            await asyncio.wait(tasks, timeout=within_s)

    async def _keep(
        self,
        namespace: str,
        pod: str,
        instance: Instance,
        opened: asyncio.Event,
        follow: bool,
        within_s: float,
    ) -> None:
        held: deque[bytes] = deque()
        size = dropped = 0
        query = [("container", CONTAINER), *([("follow", "true")] if follow else [])]
        path = f"{api.pods(namespace, pod)}/log"
        try:
            async with asyncio.timeout(within_s), self._turns:
                async with self._api.stream(path, query, silence_s=within_s) as pieces:
                    opened.set()
                    async for raw in pieces:
                        held.append(raw)
                        size += len(raw)
                        while size - len(held[0]) > self._each:
                            dropped += len(held[0])
                            size -= len(held.popleft())
        except (Refusal, BackendUnavailable, TimeoutError) as error:
            logger.debug("the log of %s is kept as far as it was read: %s", pod, error)
        if not held:
            return
        text = b"".join(held)
        if dropped:
            said = f"[the first {dropped} bytes of this log were dropped, for it was too long]\n"
            text = said.encode() + text[text.find(b"\n") + 1 :]
        try:
            await in_reader(self._write, instance, text)
        except OSError as error:
            logger.warning("the log of %s cannot be kept: %s", pod, error)

    def _write(self, instance: Instance, text: bytes) -> None:
        path = self.path(instance)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_room(len(text))
        write_kept(path, text)

    def _make_room(self, most: int) -> None:
        """Remove the oldest logs while there are too many bytes of them."""
        found = []
        for path in self._root.glob("*/*.log"):
            status = path.lstat()
            found.append((status.st_mtime_ns, status.st_size, path))
        size = most + sum(one[1] for one in found)
        for _, its, path in sorted(found):
            if size <= self._all:
                return
            path.unlink(missing_ok=True)
            size -= its

    def count(self, uid: str) -> int:
        """Return how many logs of a cluster are kept, or are being."""
        try:
            written = {path.removesuffix(".log") for path in os.listdir(self._root / uid)}
        except OSError:
            written = set()
        return len(written | {one.name for one in self._tasks if one.uid == uid})

    def read(self, instance: Instance, tail_lines: int) -> AsyncIterator[str]:
        """Yield what is kept of a log."""
        return logfile.pieces(self.path(instance), tail_lines, False, lambda: False)

    async def purge(self, uid: str) -> None:
        """Remove a cluster's logs."""
        await self.settled(uid)
        await in_reader(shutil.rmtree, self._root / uid, True)

    async def close(self) -> None:
        """Keep no more."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
