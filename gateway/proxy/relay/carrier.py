"""Makes the connections that relays need and keeps the relays: connecting in time, half-closed ones
that go silent, drain. Whoever's relay is over, or whose target is not reached, leaves from here.

A target is an address or a name; an address is connected to without a task or a lookup. Knows
nothing of names of clusters or of TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Collection
from socket import SocketType

from gateway.networks import Destination, Destinations, is_loopback
from gateway.proxy.counting.counts import Counts
from gateway.proxy.door.admission import Admission
from gateway.proxy.relay.pipes import Pipe, PipePool
from gateway.proxy.relay.relay import Place, Relay, RelayEnd
from gateway.proxy.routes.lookup import Names
from gateway.proxy.sockets.deadlines import Deadlines
from gateway.proxy.sockets.farewell import refuse
from gateway.proxy.sockets.poller import EDGES, Poller
from gateway.proxy.sockets.vitality import probe

logger = logging.getLogger(__name__)

# a bulk flow of which nothing comes for so long gives its pipe back, at the latest in twice the
# time
CALM_S = 2.0

_KIND = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_ESTABLISHED, _CONNECTING = 1, 2  # TCP_ESTABLISHED, TCP_SYN_SENT: the first byte of struct tcp_info


class _Attempt:
    """A client that waits for its target."""

    __slots__ = ("carrier", "client", "left", "place", "upstream")

    upstream: SocketType

    def __init__(
        self, carrier: Carrier, client: SocketType, place: Place, left: list[Destination]
    ) -> None:
        self.carrier = carrier
        self.client = client
        self.place = place
        self.left = left

    def ready(self, _: int) -> None:
        """The connection is made, or has failed."""
        self.carrier.settle(self)


class Carrier:
    """Connects and relays."""

    def __init__(
        self,
        poller: Poller,
        pipes: PipePool,
        counts: Counts,
        targets: Destinations,
        names: Names,
        admission: Admission,
        *,
        unreached: bytes,
        connect_timeout_s: float,
        linger_s: float,
        near_congestion: str,
    ) -> None:
        """`unreached`: the last words to a client whose target is not reached."""
        self._loop = asyncio.get_running_loop()
        self.poller = poller
        self.pipes = pipes
        self._counts = counts
        self._targets = targets
        self._names = names
        self._admission = admission
        self._unreached = unreached
        self.relays: set[Relay] = set()
        self._attempts: Deadlines[_Attempt] = Deadlines(
            self._loop, connect_timeout_s, self._give_up
        )
        self._lookups: set[asyncio.Task[None]] = set()
        self._near_congestion = near_congestion.encode()
        self._looking: asyncio.TimerHandle | None = None
        self._look_s = linger_s / 2  # silence is ended after once to one and a half times as long
        # who has a pipe, and the bytes it had carried when last looked at
        self._bulk: dict[RelayEnd, int] = {}
        self._calming: asyncio.TimerHandle | None = None
        self._drained: asyncio.Event | None = None

    # Connecting

    def carry(
        self,
        client: SocketType,
        target: Destination,
        place: Place,
        permitted: Destinations | None = None,
    ) -> None:
        """Connect to a target and carry, or refuse the client; its place, which was joined, is left
        when that is over. `permitted`: where a target that is a name may be; by default where
        schedulers may."""
        if target.near and (upstream := _connected(target)) is not None:
            self._begin(client, upstream, place, watched=False)
        elif target.family:
            self._connect(_Attempt(self, client, place, [target]))
        else:
            targets = self._targets if permitted is None else permitted
            task = self._loop.create_task(self._look_up(client, target, place, targets))
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)

    async def _look_up(
        self, client: SocketType, target: Destination, place: Place, targets: Destinations
    ) -> None:
        found: list[Destination] = []
        try:
            async with asyncio.timeout(self._attempts.timeout_s):
                found = await self._names.look_up(target, targets)
        except (OSError, TimeoutError) as error:
            logger.info(
                "%s has no address: %s", target.host, str(error) or "it is not told in time"
            )
        except asyncio.CancelledError:
            client.close()
            self._admission.end(*place)
            raise
        # whatever it is: a client that is not refused takes up its place for ever
        except Exception:
            logger.exception("the look-up of %s failed", target.host)
        self._connect(_Attempt(self, client, place, found))

    def _connect(self, attempt: _Attempt) -> None:
        """Try the next address."""
        while attempt.left:
            target = attempt.left.pop(0)
            try:
                upstream = attempt.upstream = SocketType(target.family, _KIND, 0)
            except OSError as error:  # no descriptors
                logger.warning("%s:%d is not reached: %s", target.host, target.port, error.strerror)
                break
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = upstream.connect_ex((target.host, target.port))
            if code in (0, errno.EINPROGRESS):
                self.poller.watch(upstream.fileno(), EDGES, attempt.ready)
                self._attempts.add(attempt)
                return
            upstream.close()
            logger.info(
                "%s:%d is not reached: %s",
                target.host,
                target.port,
                errno.errorcode.get(code, code),
            )
        self._counts.connect_failures += 1
        self._refuse(attempt)

    def settle(self, attempt: _Attempt) -> None:
        """See how connecting went."""
        upstream = attempt.upstream
        code = upstream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if (
            code == 0
            and upstream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _CONNECTING
        ):
            return  # the event was of a socket that had the same number before
        self._attempts.discard(attempt)
        if code == 0:
            self._begin(attempt.client, upstream, attempt.place, watched=True)
            return
        self._abandon(attempt)
        logger.info(
            "%s is not reached: %s",
            attempt.place[1],
            errno.errorcode.get(code, code),
        )
        self._connect(attempt)

    def _begin(
        self, client: SocketType, upstream: SocketType, place: Place, *, watched: bool
    ) -> None:
        self._counts.relays_opened += 1
        relay = Relay(self, client, upstream, place)
        self.relays.add(relay)
        if self._looking is None:
            self._looking = self._loop.call_later(self._look_s, self._look_after)
        relay.start(watched=watched)

    def _look_after(self) -> None:
        """Now and then: what short relays are spared, and who is silent after one side has
        ended."""
        self._looking = (
            self._loop.call_later(self._look_s, self._look_after) if self.relays else None
        )
        for relay in list(self.relays):
            if not relay.armed:
                relay.armed = True
                probe(relay.upstream.socket)  # five system calls
            if relay.half_closed:
                # not what was read: a slow reader's may be held here for long
                delivered = relay.delivered
                if relay.seen == delivered:
                    self._counts.linger_timeouts += 1
                    relay.cut()
                else:
                    relay.seen = delivered

    def _give_up(self, attempt: _Attempt) -> None:
        self._counts.connect_timeouts += 1
        self._abandon(attempt)
        self._refuse(attempt)

    def _refuse(self, attempt: _Attempt) -> None:
        refuse(attempt.client, self._unreached)
        self._admission.end(*attempt.place)

    def _abandon(self, attempt: _Attempt) -> None:
        self.poller.forget(attempt.upstream.fileno())
        attempt.upstream.close()

    # Pipes

    def lease(self, end: RelayEnd) -> Pipe | None:
        """Return a pipe for what comes from an end, None if none is to be had."""
        pipe = self.pipes.lease()
        if pipe is not None:
            self._bulk[end] = end.carried
            if self._calming is None:
                self._calming = self._loop.call_later(CALM_S, self._calm)
        return pipe

    def give_back(self, end: RelayEnd, pipe: Pipe, *, empty: bool) -> None:
        """Take it back."""
        del self._bulk[end]
        self.pipes.give_back(pipe, empty=empty)

    def _calm(self) -> None:
        """Take back the pipes of those from whom nothing has come since the last look."""
        for end, carried in list(self._bulk.items()):
            if end.carried == carried:
                end.rest()
            else:
                self._bulk[end] = end.carried
        self._calming = self._loop.call_later(CALM_S, self._calm) if self._bulk else None

    # What relays tell

    def hasten(self, relay: Relay) -> None:
        """Bulk begins: on this machine nothing can congest, and a congestion control that paces
        costs half the throughput."""
        for end in (relay.client.socket, relay.upstream.socket):
            end.setblocking(False)  # splice goes by the socket's own mode
            if self._near_congestion and _is_near(end):
                # not permitted by net.ipv4.tcp_allowed_congestion_control
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, self._near_congestion)

    def over(self, relay: Relay) -> None:
        """Count what it carried, and let its place go."""
        self.relays.discard(relay)
        self._counts.bytes_up += relay.client.carried
        self._counts.bytes_down += relay.upstream.carried
        self._admission.end(*relay.place)
        if self._drained is not None and not self.relays:
            self._drained.set()

    # End

    def cut(self, uids: Collection[str]) -> int:
        """End every relay to these clusters; return how many."""
        ended = [relay for relay in self.relays if relay.place[1] in uids]
        for relay in ended:
            relay.cut()
        return len(ended)

    async def drain(self, drain_s: float) -> None:
        """Let relays go on for a while."""
        if self.relays:
            self._drained = asyncio.Event()
            try:
                async with asyncio.timeout(drain_s):
                    await self._drained.wait()
            except TimeoutError:
                logger.info("%d relays are ended", len(self.relays))

    async def close(self) -> None:
        """End everything at once."""
        for task in list(self._lookups):
            task.cancel()
        await asyncio.gather(*self._lookups, return_exceptions=True)
        for attempt in self._attempts.clear():
            self._abandon(attempt)
            attempt.client.close()
            self._admission.end(*attempt.place)
        for relay in list(self.relays):
            relay.cut()
        if self._looking is not None:
            self._looking.cancel()
        if self._calming is not None:
            self._calming.cancel()
        self.pipes.close()


def _connected(target: Destination) -> SocketType | None:
    """Return a socket connected to a target on this machine, where the kernel is done before
    `connect_ex` returns; None if it is not."""
    try:
        upstream = SocketType(target.family, _KIND, 0)
    except OSError:  # no descriptors: said by who tries next
        return None
    upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    code = upstream.connect_ex((target.host, target.port))
    if (
        code in (0, errno.EINPROGRESS)
        and upstream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED
    ):
        return upstream
    upstream.close()
    return None


def _is_near(end: SocketType) -> bool:
    """Whether a socket's peer is on this machine, as far as its address says."""
    try:
        return is_loopback(str(end.getpeername()[0]))
    except OSError:
        return False
