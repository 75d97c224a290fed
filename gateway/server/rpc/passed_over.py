"""What is left out of answers because it cannot be told: each record is complained of once, not
with every call."""

from __future__ import annotations

import logging
from collections import OrderedDict

# records that were complained of and are remembered, by their names; of more, some may be told
# twice
MAX_TOLD = 10_000


class PassedOver:
    """Records of one kind that are left out, by uid or id."""

    def __init__(self, logger: logging.Logger, words: str) -> None:
        self._logger, self._words = logger, words
        self._told: OrderedDict[str, None] = OrderedDict()

    def tell(self, name: str, why: BaseException) -> None:
        """Log that a record is passed over, unless that was said before."""
        if name in self._told:
            return
        self._told[name] = None
        while len(self._told) > MAX_TOLD:
            self._told.popitem(last=False)
        self._logger.error("%s: %s (%s: %.300s)", name, self._words, type(why).__name__, why)
