"""How the kernel finds out that a peer is gone who never said so: for relays, and for the tunnels'
way to their schedulers."""

from __future__ import annotations

import socket
from typing import Protocol

# A peer that vanished is told of within 2 minutes. While bytes are in flight to it nothing is
# probed, and only the last of these ends it
# (tcp(7)); that ends a reader too who takes nothing for so long, whom Dask's own peers give up
# after 30 s.
KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 60),
    (socket.TCP_KEEPINTVL, 20),
    (socket.TCP_KEEPCNT, 3),
    (socket.TCP_USER_TIMEOUT, 120_000),
)


class End(Protocol):
    """A socket: of the system, of Python's, or what an event loop shows of its own."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """Set an option."""


def probe(end: End) -> None:
    """Have the kernel check that the peer still lives. Done to a listening socket it holds for
    every connection accepted there."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        end.setsockopt(socket.IPPROTO_TCP, option, value)
