"""Connections that are served by protocols, in the count of all: which protocol is seen when one
stands, and its end is told, whatever becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast


class Counted:
    """One connection. `settle` is called once it was handed over or not; the end is told once."""

    def __init__(self, make: Callable[[asyncio.Transport], Any], over: Callable[[], None]) -> None:
        """`make` returns the protocol that serves a connection, TLS being agreed on."""
        self._make, self._over = make, over
        self._begun = self._told = False

    def protocol(self) -> asyncio.Protocol:
        """Return the protocol for the connection."""
        return _Observed(self)

    def begin(self, transport: asyncio.Transport) -> Any:
        """The connection stands, and its end will be told; return what serves it."""
        self._begun = True
        return self._make(transport)

    def end(self) -> None:
        """Tell the end."""
        if not self._told:
            self._told = True
            self._over()

    def settle(self) -> None:
        """Tell the end of one that never began, such as a failed handshake."""
        if not self._begun:
            self.end()


class _Observed(asyncio.Protocol):
    """A protocol that passes everything on to another one."""

    def __init__(self, counted: Counted) -> None:
        self._counted = counted
        self._inner: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are none by their class
        self._inner = self._counted.begin(cast(asyncio.Transport, transport))
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        answer: bool | None = self._inner.eof_received()
        return answer

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._counted.end()
        if self._inner is not None:
            self._inner.connection_lost(exc)
