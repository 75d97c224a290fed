"""HTTP connections in the count of all: tells when one that was handed to the HTTP side is over, whatever becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Counted:
    """One connection. `settle` is called once it was handed over or not; the end is told once."""

    def __init__(self, make: Callable[[], Any], over: Callable[[], None]) -> None:
        self._make, self._over = make, over
        self._begun = self._told = False

    def protocol(self) -> Any:
        """Return the protocol for the connection."""
        return _Observed(self._make(), self)

    def begin(self) -> None:
        """The connection stands; its end will be told."""
        self._begun = True

    def end(self) -> None:
        """Tell the end."""
        if not self._told:
            self._told = True
            self._over()

    def settle(self) -> None:
        """Tell the end of one that never began, such as a failed handshake."""
        if not self._begun:
            self.end()


class _Observed:
    """A protocol that passes everything on to another one."""

    def __init__(self, inner: Any, counted: Counted) -> None:
        self._inner, self._counted = inner, counted
        # The hot ones are the inner's own.
        self.data_received = inner.data_received
        self.eof_received = inner.eof_received
        self.pause_writing = inner.pause_writing
        self.resume_writing = inner.resume_writing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._counted.begin()
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._counted.end()
        self._inner.connection_lost(exc)
