"""Who is let in, and how many at a time: connections in all, of one address, to one cluster. Pure:
counts and decisions, no sockets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capacity:
    """What is allowed at a time."""

    connections: int
    per_address: int
    per_cluster: int
    newcomers: int  # of those, how many may not yet have said what they want


class Admission:
    """Counts who is there."""

    __slots__ = ("_addresses", "_clusters", "_resume", "capacity", "present")

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self.present = 0
        self._addresses: dict[str, int] = {}
        self._clusters: dict[str, int] = {}
        self._resume: Callable[[], None] | None = None

    @property
    def full(self) -> bool:
        """Whether nobody more can be served."""
        return self.present >= self.capacity.connections

    def enter(self, address: str) -> bool:
        """Let a connection of an address in; False if the address has its share."""
        here = self._addresses.get(address, 0)
        if here >= self.capacity.per_address:
            return False
        self._addresses[address] = here + 1
        self.present += 1
        return True

    def leave(self, address: str) -> None:
        """A connection that was let in is over."""
        self.present -= 1
        _decrease(self._addresses, address)
        if self._resume is not None:
            resume, self._resume = self._resume, None
            resume()

    def when_free(self, resume: Callable[[], None]) -> None:
        """Have `resume` called once, as soon as somebody has left."""
        self._resume = resume

    def join(self, uid: str) -> bool:
        """Let a connection through to a cluster; False if the cluster has its share."""
        here = self._clusters.get(uid, 0)
        if here >= self.capacity.per_cluster:
            return False
        self._clusters[uid] = here + 1
        return True

    def end(self, address: str, uid: str) -> None:
        """A connection of an address to a cluster is over."""
        self.part(uid)
        self.leave(address)

    def part(self, uid: str) -> None:
        """A connection to a cluster is over."""
        _decrease(self._clusters, uid)


def _decrease(counts: dict[str, int], key: str) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]
