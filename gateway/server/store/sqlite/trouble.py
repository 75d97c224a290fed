"""What is said of a database that does not answer: once when it begins and when its reason changes,
and once when it is over."""

from __future__ import annotations

import logging


class Trouble:
    """The reason why nothing can be stored now, if there is one."""

    def __init__(self, logger: logging.Logger, what: str) -> None:
        self._logger, self._what = logger, what
        self.reason = ""

    def hear(self, reason: str) -> None:
        """Take note that nothing could be stored."""
        level = logging.DEBUG if reason == self.reason else logging.ERROR
        self.reason = reason
        self._logger.log(level, "%s: %s", self._what, reason)

    def over(self) -> None:
        """Take note that something was stored; nothing is said if that was so before."""
        if self.reason:
            self.reason = ""
            self._logger.info("%s: it can be written to again", self._what)
