"""What happened to a cluster: its events and its logs."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager

from gateway.backends.contract import SCHEDULER_NAME, Instance, Role, Target
from gateway.server.core.errors import FieldInvalid, QuotaExceeded, Violation
from gateway.server.core.model import Cluster, Event, Principal, Scope
from gateway.server.core.names import worker_name
from gateway.server.usecases.lookup import locate
from gateway.server.usecases.paging import checked_page_size, decode_token, encode_token
from gateway.server.usecases.services import Services
from gateway.wire import decimal

MAX_INSTANCES = 10_000
MAX_FOLLOWED = 256
QUEUED_PIECES = 64  # of at most 64 KiB each, between the readers of logs and the caller
MAX_TAIL = 1_000_000
TURN = 100  # logs that are looked for before others have their turn
FOLLOWED_RETRY_S = 60.0


async def list_events(
    services: Services, principal: Principal, parent: str, page_size: int, page_token: str
) -> tuple[Sequence[Event], str]:
    """Return a page of events, newest first, and where the next one begins."""
    cluster = locate(services, principal, Scope.CLUSTERS_READ, parent, "parent")
    size = checked_page_size(page_size)
    before = None
    if page_token:
        contents = decode_token(page_token)
        if len(contents) != 2 or contents[0] != cluster.uid or not isinstance(contents[1], int):
            raise FieldInvalid([Violation("page_token", "belongs to another cluster")])
        before = contents[1]
    found = await services.store.read(
        lambda tx: tx.events(cluster.uid, before_sequence=before, limit=size + 1)
    )
    more = encode_token([cluster.uid, found[size - 1][0]]) if len(found) > size else ""
    return [event for _, event in found[:size]], more


async def stream_logs(
    services: Services,
    principal: Principal,
    name: str,
    instances: Collection[str],
    tail_lines: int,
    follow: bool,
) -> AsyncIterator[tuple[str, str]]:
    """Yield pairs of an instance's name and a piece of its log."""
    cluster = locate(services, principal, Scope.CLUSTERS_READ, name)
    if not 0 <= tail_lines <= MAX_TAIL:
        raise FieldInvalid([Violation("tail_lines", f"must be between 0 and {MAX_TAIL}")])
    chosen = _chosen(cluster, instances)
    # Put together where it is read: there may be very many workers.
    handles = await services.store.read(
        lambda tx: {worker.name: worker.handle for worker in tx.workers(cluster.uid)}
    )
    backend = services.backends.get(cluster.spec.backend)
    if backend is None:
        return
    if not follow:
        for number, instance in enumerate(chosen or _all(cluster)):
            if number % TURN == 0:
                # a backend that has nothing to tell does not wait for anything
                await asyncio.sleep(0)
            target = _target(cluster, instance, handles)
            async with _closing(backend.logs(target, tail_lines=tail_lines)) as pieces:
                async for piece in pieces:
                    yield target.instance.name, piece
        return
    names = chosen or list(itertools.islice(_all(cluster), MAX_FOLLOWED + 1))
    if len(names) > MAX_FOLLOWED:
        raise FieldInvalid(
            [
                Violation(
                    "instances", f"at most {MAX_FOLLOWED} logs can be followed at once; name some"
                )
            ]
        )
    with _counted(services, principal.user, len(names)):
        targets = [_target(cluster, instance, handles) for instance in names]
        streams = {
            target.instance.name: backend.logs(target, tail_lines=tail_lines, follow=True)
            for target in targets
        }
        async with aclosing(_merged(services, streams)) as pairs:
            async for pair in pairs:
                yield pair


@contextmanager
def _counted(services: Services, user: str, count: int) -> Iterator[None]:
    """Count logs that a user follows; QuotaExceeded if they are too many together."""
    most, followed = services.quotas.followed_logs, services.followed
    if most and followed[user] + count > most:
        what = (
            f"{user} follows {followed[user]} logs; with {count} more it would be more than"
            f" the {most} that one user may follow"
        )
        raise QuotaExceeded(user, what, retry_after_s=FOLLOWED_RETRY_S)
    followed[user] += count
    try:
        yield
    finally:
        followed[user] -= count
        if not followed[user]:
            del followed[user]


def _chosen(cluster: Cluster, instances: Collection[str]) -> list[str]:
    """Return the names asked for, each once; FieldInvalid for one that none of this cluster's
    instances ever had."""
    for name in instances:
        group, _, digits = name.rpartition("-")
        sequence, status = decimal(digits), cluster.groups.get(group)
        known = (
            status is not None
            and sequence is not None
            and sequence < status.next_sequence
            and name == worker_name(group, sequence)
        )
        if name != SCHEDULER_NAME and not known:
            raise FieldInvalid(
                [
                    Violation(
                        "instances",
                        f"{name[:100]!r} is none of this cluster's; there are scheduler and its"
                        f" workers",
                    )
                ]
            )
    return list(dict.fromkeys(instances))


def _all(cluster: Cluster) -> Iterator[str]:
    """Yield every name there ever was in this cluster; of very many workers those that came
    last."""
    yield SCHEDULER_NAME
    for group, status in cluster.groups.items():
        first = max(0, status.next_sequence - MAX_INSTANCES // len(cluster.groups))
        for sequence in range(first, status.next_sequence):
            yield worker_name(group, sequence)


def _target(cluster: Cluster, name: str, handles: dict[str, str]) -> Target:
    if name == SCHEDULER_NAME:
        return Target(cluster.scheduler_instance, cluster.scheduler.handle, cluster.owner)
    return Target(Instance(cluster.uid, Role.WORKER, name), handles.get(name, ""), cluster.owner)


@asynccontextmanager
async def _closing(stream: AsyncIterator[str]) -> AsyncIterator[AsyncIterator[str]]:
    """Hold a log that is read, so that what reads it is let go at once when nobody listens any
    more."""
    try:
        yield stream
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


async def _merged(
    services: Services, streams: dict[str, AsyncIterator[str]]
) -> AsyncGenerator[tuple[str, str], None]:
    """Yield the pieces of several streams as they come, until all end or the server drains."""
    queue: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue(QUEUED_PIECES)

    async def read(name: str, stream: AsyncIterator[str]) -> None:
        async with _closing(stream) as pieces:
            async for piece in pieces:
                await queue.put((name, piece))

    async def end() -> None:
        """Tell that nothing more comes: all logs have ended, one cannot be read, or the server
        drains."""
        waited = [
            asyncio.ensure_future(asyncio.wait(readers, return_when=asyncio.FIRST_EXCEPTION)),
            asyncio.ensure_future(services.draining()),
        ]
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in waited:
                waiting.cancel()
        await queue.put(None)

    readers = [asyncio.create_task(read(name, stream)) for name, stream in streams.items()]
    ender = asyncio.create_task(end())
    try:
        while (piece := await queue.get()) is not None:
            yield piece
        for reader in readers:
            if reader.done():
                reader.result()
    finally:
        for task in (*readers, ender):
            task.cancel()
        await asyncio.gather(*readers, ender, return_exceptions=True)
