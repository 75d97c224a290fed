"""Connections that are served here and not relayed: TLS is ended, each address having its share of
handshakes, and then HTTP/2 or HTTP/1.1.

A handshake costs a millisecond of the loop that relays share: so many a second are begun, those of
different addresses in turn. Places for them are few as each takes memory: whoever lets the edge
wait longest gives way to those who wait for one.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections.abc import Callable
from socket import SocketType
from typing import Any

from gateway.fair import Bucket, FairPool
from gateway.proxy.counting.counts import Counts
from gateway.proxy.http.counted import Counted
from gateway.turns import Crowded, Turns

HANDSHAKES_A_SECOND, HANDSHAKES_AT_ONCE = 250.0, 100.0
HANDSHAKES, HANDSHAKES_EACH = 2000, 500  # under way at a time, in all and of one address
WAITING_EACH = 500  # of one address
LOOK_S = 0.1  # at whether some still wait
YIELD_S = 1.0  # a handshake that is not over after so long may have to give way

Caller = tuple[str, int]


class Doorway:
    """Lets connections in."""

    def __init__(
        self,
        http1: Callable[[], Any],
        http2: Callable[[str, Caller], Any],
        counts: Counts,
        leave: Callable[[str], None],
        *,
        handshake_s: float,
    ) -> None:
        """What serves a connection of either kind; `leave` is told the address of one that is
        over."""
        self._http1, self._http2, self._counts, self._leave, self._handshake_s = (
            http1,
            http2,
            counts,
            leave,
            handshake_s,
        )
        self._loop = asyncio.get_running_loop()
        bucket = Bucket(HANDSHAKES_A_SECOND, HANDSHAKES_AT_ONCE)
        self._handshakes = Turns(
            FairPool(HANDSHAKES, HANDSHAKES_EACH, most_waiting=WAITING_EACH, bucket=bucket)
        )
        self._under_way: dict[asyncio.Timeout, float] = {}  # since when, the longest first
        self._making_room: asyncio.TimerHandle | None = None

    async def admit(
        self, newcomer: SocketType, context: ssl.SSLContext | None, address: str, *, http2: bool
    ) -> None:
        """Serve a connection; without TLS its first bytes have told whether it is `http2`, with TLS
        that is agreed on."""
        whole = socket.socket(fileno=newcomer.detach())
        whole.setblocking(False)
        served = Counted(
            lambda transport: self._choose(transport, address, http2), lambda: self._leave(address)
        )
        try:
            if context is None:
                await self._loop.connect_accepted_socket(served.protocol, whole)
                return
            await self._shake_hands(served, whole, context, address)
        except Crowded:
            self._counts.refused_handshake += 1
            whole.close()
        except (OSError, ssl.SSLError):
            whole.close()
        except asyncio.CancelledError:
            whole.close()
            raise
        finally:
            served.settle()

    async def _shake_hands(
        self, served: Counted, whole: socket.socket, context: ssl.SSLContext, address: str
    ) -> None:
        self._make_room(1)
        async with self._handshakes.turn(address), asyncio.timeout(None) as patience:
            self._under_way[patience] = self._loop.time()
            try:
                await self._loop.connect_accepted_socket(
                    served.protocol, whole, ssl=context, ssl_handshake_timeout=self._handshake_s
                )
            finally:
                self._under_way.pop(patience, None)

    def _make_room(self, coming: int = 0) -> None:
        """End handshakes that have taken long, as many as others wait for the places of; look again
        while some wait."""
        pool, now = self._handshakes.pool, self._loop.time()
        if pool.taken < HANDSHAKES or not (wanted := pool.waiting + coming):
            return
        for patience, since in list(itertools.islice(self._under_way.items(), wanted)):
            if now - since < YIELD_S:
                break
            self._under_way.pop(patience)
            self._counts.refused_handshake += 1
            patience.reschedule(now)
        if self._making_room is None:
            self._making_room = self._loop.call_later(LOOK_S, self._look_again)

    def _look_again(self) -> None:
        self._making_room = None
        self._make_room()

    def _choose(self, transport: asyncio.Transport, address: str, http2: bool) -> Any:
        agreed = transport.get_extra_info("ssl_object")
        if not http2 and (agreed is None or agreed.selected_alpn_protocol() != "h2"):
            return self._http1()
        where: Any = transport.get_extra_info("peername") or (address, 0)
        return self._http2(address, (str(where[0]), int(where[1])))

    def close(self) -> None:
        """Begin no handshake any more."""
        if self._making_room is not None:
            self._making_room.cancel()
            self._making_room = None
        self._handshakes.close()
