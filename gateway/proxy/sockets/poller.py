"""Which sockets are ready: an epoll set of the edge's own, itself watched by the event loop as one
descriptor.

The event loop wakes once for a batch of ready sockets. Its own readers cost a libuv handle, a
callback object and a context each, and two system calls for every change; measured, that is what
keeps new connections and small messages behind Go's.
"""

from __future__ import annotations

import asyncio
import logging
import select
from collections.abc import Callable

logger = logging.getLogger(__name__)

IN, OUT, ERROR, ENDED = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR, select.EPOLLRDHUP
EDGES = IN | OUT | ENDED | select.EPOLLET  # everything, each time that it becomes so
BATCH = 256  # sockets looked at before the set is asked again
ROUNDS = 4  # batches before everything else on the event loop has its turn

Ready = Callable[[int], None]  # is told what the kernel reports: a combination of the masks above


class Poller:
    """Calls back for descriptors that are ready. A descriptor is forgotten by the kernel when
    closed; `forget` it here."""

    __slots__ = ("_again", "_loop", "_soon", "epoll", "table")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.epoll = select.epoll()
        self._loop = loop
        self.table: dict[int, Ready] = {}
        self._again: list[Ready] = []
        # a turn for these is to come: never two, each of which might call for more
        self._soon = False
        loop.add_reader(self.epoll.fileno(), self._turn)

    def watch(self, descriptor: int, mask: int, ready: Ready) -> None:
        """Call back whenever what the mask says holds."""
        self.table[descriptor] = ready
        self.epoll.register(descriptor, mask)

    def again(self, ready: Ready) -> None:
        """Call back once more, when the others have had their turn, with no event."""
        if not self._soon:
            self._soon = True
            self._loop.call_soon(self._turn_again)
        self._again.append(ready)

    def release(self, descriptor: int) -> None:
        """Watch an open descriptor no longer."""
        del self.table[descriptor]
        self.epoll.unregister(descriptor)

    def forget(self, descriptor: int) -> None:
        """Call back no more for a descriptor that is closed now, which ends the kernel's part."""
        self.table.pop(descriptor, None)

    def close(self) -> None:
        """Watch nothing any more."""
        self._loop.remove_reader(self.epoll.fileno())
        self.epoll.close()
        self.table.clear()

    def _turn_again(self) -> None:
        self._soon = False
        self._turn()

    def _turn(self) -> None:
        if self.epoll.closed:
            return
        poll, find = self.epoll.poll, self.table.get
        for _ in range(ROUNDS):
            found = poll(0, BATCH)
            for descriptor, events in found:
                ready = find(descriptor)
                if ready is not None:
                    _call(ready, events)
            if self._again:
                more, self._again = self._again, []
                for ready in more:
                    _call(ready, 0)
            elif not found or self.epoll.closed:
                return


def _call(ready: Ready, events: int) -> None:
    try:
        ready(events)
    except Exception:  # one connection's fault must not end the others
        logger.exception("serving a connection failed")
