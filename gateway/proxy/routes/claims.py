"""Whose a dashboard's address is: the first user's whose cluster names it, for as long as a cluster
of theirs does.

An agent names its dashboard itself, and its user's code could name another's, whose pages the edge
would then show to that user. The later claim gives way, or anybody could take a dashboard by naming
it. Not the earlier one too, or anybody could put it out.
"""

from __future__ import annotations

from gateway.networks import Destination

Address = tuple[str, int]


class Claims:
    """Who has claimed which address."""

    def __init__(self) -> None:
        self._owners: dict[Address, str] = {}
        # clusters, all of that owner: one that ended may not be told gone when the next comes
        self._holders: dict[Address, set[str]] = {}
        self._claimed: dict[str, Address] = {}  # by cluster
        # owners, as they were before everything is told anew
        self._reserved: dict[Address, str] = {}

    def claim(self, uid: str, owner: str, address: Address) -> bool:
        """Take an address for a cluster, in place of what it had; False if it is another user's."""
        self.release(uid)
        spot = _spot(address)
        if self._owners.get(spot, self._reserved.get(spot, owner)) != owner:
            return False
        self._owners[spot] = owner
        self._holders.setdefault(spot, set()).add(uid)
        self._claimed[uid] = spot
        return True

    def release(self, uid: str) -> None:
        """Let go of what a cluster has."""
        spot = self._claimed.pop(uid, None)
        if spot is not None:
            self._holders[spot].discard(uid)
            if not self._holders[spot]:
                del self._holders[spot], self._owners[spot]

    def begin_anew(self) -> None:
        """Forget who holds what until it is told again, which may be in any order: nobody else gets
        it before `told`."""
        self._reserved |= self._owners
        self._owners, self._holders, self._claimed = {}, {}, {}

    def told(self) -> None:
        """Everything is told: what nobody has claimed again is free."""
        self._reserved = {}


def _spot(address: Address) -> Address:
    """Return an address, the same however it is written."""
    host = Destination.of(*address).host
    return host.lower().rstrip("."), address[1]
