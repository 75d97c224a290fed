"""Connections that are served here and not relayed: TLS is ended, each address having its share of handshakes, and then HTTP/2 or HTTP/1.1.

A handshake costs a millisecond of the loop that relays share: so many a second are begun, those of different addresses in turn.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from socket import SocketType
from typing import Any

from gateway.fair import Bucket, FairPool
from gateway.proxy.counted import Counted
from gateway.proxy.counts import Counts
from gateway.turns import Crowded, Turns

HANDSHAKES_A_SECOND, HANDSHAKES_AT_ONCE = 500.0, 100.0
HANDSHAKES, HANDSHAKES_EACH = 2000, 500  # under way at a time, in all and of one address
WAITING_EACH = 500  # of one address

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
        """What serves a connection of either kind; `leave` is told the address of one that is over."""
        self._http1, self._http2, self._counts, self._leave, self._handshake_s = http1, http2, counts, leave, handshake_s
        self._loop = asyncio.get_running_loop()
        bucket = Bucket(HANDSHAKES_A_SECOND, HANDSHAKES_AT_ONCE)
        self._handshakes = Turns(FairPool(HANDSHAKES, HANDSHAKES_EACH, most_waiting=WAITING_EACH, bucket=bucket))

    async def admit(self, newcomer: SocketType, context: ssl.SSLContext | None, address: str, *, http2: bool) -> None:
        """Serve a connection; without TLS its first bytes have told whether it is `http2`, with TLS that is agreed on."""
        whole = socket.socket(fileno=newcomer.detach())
        whole.setblocking(False)
        served = Counted(lambda transport: self._choose(transport, address, http2), lambda: self._leave(address))
        try:
            if context is None:
                await self._loop.connect_accepted_socket(served.protocol, whole)
                return
            async with self._handshakes.turn(address):
                await self._loop.connect_accepted_socket(served.protocol, whole, ssl=context, ssl_handshake_timeout=self._handshake_s)
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

    def _choose(self, transport: asyncio.Transport, address: str, http2: bool) -> Any:
        agreed = transport.get_extra_info("ssl_object")
        if not http2 and (agreed is None or agreed.selected_alpn_protocol() != "h2"):
            return self._http1()
        where: Any = transport.get_extra_info("peername") or (address, 0)
        return self._http2(address, (str(where[0]), int(where[1])))

    def close(self) -> None:
        """Begin no handshake any more."""
        self._handshakes.close()
