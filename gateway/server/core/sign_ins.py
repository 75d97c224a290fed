"""When a sign-in may be tried: guesses are slowed by address and by name, and nobody is locked out
by what others do elsewhere. Pure.

What counts are failures, of which some are free and come back with time:

* of a name at one address: beyond them the next try has to wait, twice as long each time;
* of a name everywhere: beyond them those addresses wait that have failed lately themselves. So who
  calls from an address of which nothing bad is known is not kept out, however many guess the name
  elsewhere;
* of an address in all: beyond them answers that refuse come late. A right password is answered at
  once, also from an address where others guess.

An address from which a name has signed in before is judged, for that name, by what failed of the
two together alone: neither guesses elsewhere nor its neighbours' behind one address keep such a
user out. All tables are bounded; what was touched longest ago is forgotten.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

MOST_KEPT = 10_000  # entries of each table, about 200 bytes each
NAME_LETTERS = 64  # of a name that are looked at


@dataclass(frozen=True, slots=True)
class Leniency:
    """How many failures are free, after how many seconds each comes back, and for how long one
    waits at first and at most."""

    free: int
    back_s: float
    first_s: float
    most_s: float


PAIR = Leniency(free=5, back_s=60.0, first_s=1.0, most_s=60.0)
ADDRESS = Leniency(free=20, back_s=6.0, first_s=0.1, most_s=5.0)
NAME = Leniency(free=20, back_s=6.0, first_s=1.0, most_s=30.0)
SPOTLESS_S = 600.0  # since an address last failed, after which nothing bad is known of it
CLEAN = 3  # failures of an address at which it still counts as one of which nothing bad is known


class _Failures:
    """Failures by key, which fade."""

    __slots__ = ("_kept", "_leniency")

    def __init__(self, leniency: Leniency) -> None:
        self._leniency = leniency
        # how many are left, and when that was
        self._kept: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def count(self, key: str, now: float) -> float:
        """Return how many there are, those deducted that have come back."""
        count, at = self._kept.get(key, (0.0, now))
        return max(0.0, count - (now - at) / self._leniency.back_s)

    def add(self, key: str, now: float) -> None:
        """One more."""
        most = self._leniency.free + 20.0  # more make nobody wait longer
        self._kept[key] = (min(most, self.count(key, now) + 1.0), now)
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)

    def since_s(self, key: str, now: float) -> float:
        """Return the seconds since the last one, infinity if none is known."""
        kept = self._kept.get(key)
        return now - kept[1] if kept is not None else math.inf

    def forget(self, key: str) -> None:
        """None any more."""
        self._kept.pop(key, None)

    def beyond_s(self, key: str, now: float) -> float:
        """Return for how long what is beyond those that are free makes wait."""
        beyond = self.count(key, now) - self._leniency.free
        longest: float = self._leniency.first_s * 2.0 ** min(beyond, 20.0)
        return min(self._leniency.most_s, longest) if beyond > 0 else 0.0

    def wait_s(self, key: str, now: float) -> float:
        """Return for how long the next try still has to wait."""
        wait_s = self.beyond_s(key, now)
        return max(0.0, self._kept[key][1] + wait_s - now) if wait_s else 0.0

    def __len__(self) -> int:
        return len(self._kept)


class SignIns:
    """What is remembered of sign-ins."""

    def __init__(self) -> None:
        self._pairs, self._addresses, self._names = (
            _Failures(PAIR),
            _Failures(ADDRESS),
            _Failures(NAME),
        )
        self._good: OrderedDict[str, None] = OrderedDict()  # pairs that have signed in

    def wait_s(self, address: str, name: str, now: float) -> float:
        """Return in how many seconds a sign-in may be tried, 0 for now."""
        name = name[:NAME_LETTERS]
        pair = f"{address} {name}"
        if pair in self._good:
            return self._pairs.wait_s(pair, now)
        elsewhere_s = (
            self._names.wait_s(name, now)
            if name and self._addresses.count(address, now) > CLEAN
            else 0.0
        )
        return max(self._pairs.wait_s(pair, now), elsewhere_s)

    def late_s(self, address: str, name: str, now: float) -> float:
        """Return by how much an answer that refuses is to come late."""
        return 0.0 if self.familiar(address, name) else self._addresses.beyond_s(address, now)

    def familiar(self, address: str, name: str) -> bool:
        """Whether a name has signed in from an address before."""
        return f"{address} {name[:NAME_LETTERS]}" in self._good

    def lane(self, address: str, name: str, now: float) -> int:
        """Return among whom a sign-in waits: 0 those familiar, 1 those of addresses of which
        nothing bad is known, 2 all others."""
        if self.familiar(address, name):
            return 0
        return 1 if self._addresses.since_s(address, now) > SPOTLESS_S else 2

    def failed(self, address: str, name: str, now: float) -> None:
        """A sign-in has failed."""
        name = name[:NAME_LETTERS]
        pair = f"{address} {name}"
        self._pairs.add(pair, now)
        if pair not in self._good:  # somebody's own mistakes are not held against the neighbours
            self._addresses.add(address, now)
            if name:
                self._names.add(name, now)

    def succeeded(self, address: str, name: str) -> None:
        """Somebody has signed in."""
        pair = f"{address} {name[:NAME_LETTERS]}"
        self._pairs.forget(pair)
        self._good[pair] = None
        self._good.move_to_end(pair)
        while len(self._good) > MOST_KEPT:
            self._good.popitem(last=False)

    @property
    def kept(self) -> int:
        """How many entries there are."""
        return len(self._pairs) + len(self._addresses) + len(self._names) + len(self._good)
