"""From a route's target to the addresses that may be connected to: a name is looked up, and each of
its addresses is judged anew.

Every way to a cluster goes through here, or has an address already: `Destinations.permit` lets
names pass, since it cannot know them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.networks import Destination, Destinations
from gateway.proxy.sockets.vitality import probe

MOST_ADDRESSES = 4  # of a name that are tried
ANSWER_S, FAILURE_S = 30.0, 5.0  # for so long they are kept
MOST_KEPT = 4096
# A user's cluster may have a name whose servers never answer, which holds a thread for as long as
# the system's resolver is patient. One name holds one, and a cluster has one name; that all threads
# are held takes as many clusters as there are, and then others wait.
MOST_AT_A_TIME = 32
MOST_WAITING = 1024  # names that are looked up or are about to be


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is known of a name, until when: its addresses, or why there are none."""

    until: float
    addresses: tuple[str, ...]
    failure: str = ""


class Names:
    """Looks names up: each once at a time, whoever asks. Used on one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[str, _Answer] = {}  # oldest first
        self._asking: dict[str, asyncio.Task[_Answer]] = {}
        self._threads = asyncio.Semaphore(MOST_AT_A_TIME)

    async def look_up(self, target: Destination, targets: Destinations) -> list[Destination]:
        """Return the addresses of a target that are permitted, most wanted first; OSError if a name
        has none at all."""
        if target.family:
            return [target] if targets.permit(target) else []
        found = [
            Destination.of(address, target.port, local=target.local)
            for address in await self._addresses(target.host)
        ]
        return [one for one in found if one.family and targets.permit(one)]

    async def connect(
        self, target: Destination, targets: Destinations, *, limit: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first address that answers; OSError if none does or may. `limit`: bytes
        that are read ahead."""
        failure: OSError = PermissionError(
            "the scheduler is at no address that may be connected to"
        )
        for one in await self.look_up(target, targets):
            try:
                reader, writer = await asyncio.open_connection(one.host, one.port, limit=limit)
            except OSError as error:
                failure = error
                continue
            probe(writer.get_extra_info("socket"))
            return reader, writer
        raise failure

    def close(self) -> None:
        """Let everybody go who waits; the system's resolver cannot be told to end, and its threads
        hold nobody up."""
        for asking in self._asking.values():
            asking.cancel()

    async def _addresses(self, host: str) -> tuple[str, ...]:
        answer = self._kept.get(host)
        if answer is None or answer.until <= self._clock():
            # it goes on when the patience of who asked first ends
            answer = await asyncio.shield(self._asked(host))
        if answer.failure:
            raise OSError(answer.failure)
        return answer.addresses

    def _asked(self, host: str) -> asyncio.Task[_Answer]:
        asking = self._asking.get(host)
        if asking is None:
            if len(self._asking) >= MOST_WAITING:
                raise OSError("too many names are being looked up")
            asking = self._asking[host] = asyncio.get_running_loop().create_task(self._ask(host))
            asking.add_done_callback(lambda _: self._asking.pop(host))
        return asking

    async def _ask(self, host: str) -> _Answer:
        async with self._threads:
            try:
                addresses, failure = await _in_thread(host), ""
            # IDNA: empty labels, or such of more than 63 characters
            except (OSError, UnicodeError) as error:
                addresses, failure = (
                    (),
                    str(error)
                    if isinstance(error, OSError)
                    else f"{host[:100]!r} cannot be the name of a host",
                )
        answer = _Answer(self._clock() + (FAILURE_S if failure else ANSWER_S), addresses, failure)
        self._kept.pop(host, None)
        while len(self._kept) >= MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[host] = answer
        return answer


async def _in_thread(host: str) -> tuple[str, ...]:
    """Ask the system's resolver in a thread of its own. A daemon, which no pool's is: one that
    hangs must not hold up the edge's end."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[tuple[str, ...]] = loop.create_future()

    def tell(addresses: tuple[str, ...], error: BaseException | None) -> None:
        if told.done():  # nobody waits any more
            return
        if error is not None:
            told.set_exception(error)
        else:
            told.set_result(addresses)

    def ask() -> None:
        addresses: tuple[str, ...] = ()
        failure: BaseException | None = None
        try:
            answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            addresses = tuple(str(answer[4][0]) for answer in answers[:MOST_ADDRESSES])
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, addresses, failure)

    try:
        threading.Thread(target=ask, name="lookup", daemon=True).start()
    except RuntimeError as error:  # there can be no more threads
        raise OSError(str(error)) from None
    return await told


class Resolver(AbstractResolver):
    """Looks names up for aiohttp, which does not ask it about what is an address already."""

    def __init__(self, names: Names, targets: Destinations, *, local: bool) -> None:
        """`local`: what is looked up may be on this machine."""
        self._names, self._targets, self._local = names, targets, local

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses that may be connected to; OSError if there is none."""
        permitted = await self._names.look_up(
            Destination(host, port, local=self._local), self._targets
        )
        found = [one for one in permitted if family in (socket.AF_UNSPEC, one.family)]
        if not found:
            raise OSError(f"{host} has no address that may be connected to")
        return [
            ResolveResult(
                hostname=host,
                host=one.host,
                port=port,
                family=one.family,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for one in found
        ]

    async def close(self) -> None:
        """Nothing is held."""
