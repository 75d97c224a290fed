"""How many rows of one kind there are at most, by whose they are: so that nobody counts them for
each row that is added."""

from __future__ import annotations

from collections import OrderedDict

# owners whose rows were counted; of more, those used longest ago are counted again
MAX_KNOWN = 100_000


class RowCounts:
    """Upper bounds: what a transaction that was undone has added is counted too. The writer's
    own."""

    def __init__(self) -> None:
        self._most: OrderedDict[str, int] = OrderedDict()

    def know(self, whose: str, count: int) -> None:
        """Take what was counted."""
        self._most[whose] = count
        self._most.move_to_end(whose)
        while len(self._most) > MAX_KNOWN:
            self._most.popitem(last=False)

    def add(self, whose: str, added: int) -> int | None:
        """Count rows that are added; return how many there are at most, None if nobody knows."""
        most = self._most.get(whose)
        if most is None:
            return None
        self.know(whose, most + added)
        return most + added

    def forget(self, whose: str) -> None:
        """Drop what is gone."""
        self._most.pop(whose, None)
