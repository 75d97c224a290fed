"""What is said of trouble that lasts: aloud when it comes and when its reason changes, quietly
while it repeats, and once when it is over.

One entry a key that is in trouble; whoever owns the keys says when it is over.
"""

from __future__ import annotations

import logging

MAX_REASON = 1024  # characters of a reason that are kept


class Complaints:
    """What was last complained of, by key."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._reasons: dict[str, str] = {}

    def hear(self, key: str, reason: str) -> None:
        """Take note that something could not be done and is tried again."""
        level = logging.DEBUG if self._reasons.get(key) == reason else logging.WARNING
        self._reasons[key] = reason
        self._logger.log(level, "%s: %s; trying again", key, reason)

    def fault(self, key: str, error: BaseException) -> None:
        """Take note of a fault of our own that is tried again: with its traceback when it comes and
        when it changes."""
        reason = f"{type(error).__name__}: {error}"[:MAX_REASON]
        if self._reasons.get(key) == reason:
            self._logger.debug("%s: it failed again: %s", key, reason)
            return
        self._reasons[key] = reason
        self._logger.error("%s: it failed (%s); trying again", key, reason, exc_info=error)

    def over(self, key: str) -> None:
        """Take note that it has been done; nothing is said if nothing was complained of."""
        reason = self._reasons.pop(key, None)
        if reason is not None:
            self._logger.info("%s: it is over: %s", key, reason)
