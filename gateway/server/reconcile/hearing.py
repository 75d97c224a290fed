"""When each scheduler's agent was last heard: an open connection is no sign of life, and what was
not listened to is no silence.

Counted by the steady clock, which goes on while this process is suspended or its event loop is held
up; then hearing begins anew.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.server.core.facts import HUSH_S


@dataclass(slots=True)
class _Agent:
    streams: int  # an old one may outlive its successor's start
    heard: float
    since: float  # since when it has not been silent
    hushed: bool = False  # whether its silence was told


class Hearing:
    """One entry an agent whose stream is open; those heard longest ago come first."""

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._agents: OrderedDict[str, _Agent] = OrderedDict()
        self._listening_since = steady()

    def came(self, uid: str) -> None:
        """Note that an agent's stream is open."""
        now = self._steady()
        agent = self._agents.setdefault(uid, _Agent(0, now, now))
        agent.streams += 1
        self.heard(uid)

    def went(self, uid: str) -> bool:
        """Note that an agent's stream has ended; return whether that was its last."""
        agent = self._agents.get(uid)
        if agent is None:
            return True
        agent.streams -= 1
        if agent.streams:
            return False
        del self._agents[uid]
        return True

    def heard(self, uid: str) -> bool:
        """Note that something came by an agent's stream; return whether it was silent before."""
        agent = self._agents.get(uid)
        if agent is None:
            return False
        now = self._steady()
        silent = self._silent(agent, now)
        if silent:
            agent.since = now
        woken, agent.heard, agent.hushed = silent or agent.hushed, now, False
        self._agents.move_to_end(uid)
        return woken

    def begin_anew(self) -> None:
        """Note that nobody was listened to until now."""
        self._listening_since = self._steady()

    def connected(self) -> Iterator[str]:
        """Yield every agent whose stream is open."""
        return iter(tuple(self._agents))

    def fallen_silent(self) -> list[str]:
        """Return the agents that have been silent for HUSH_S, each once."""
        now, found = self._steady(), []
        for uid, agent in self._agents.items():
            if not self._silent(agent, now):
                break
            if not agent.hushed:
                agent.hushed = True
                found.append(uid)
        return found

    def of(self, uid: str) -> tuple[bool, bool, float | None, float | None]:
        """Return whether an agent is heard, whether it is silent though connected, and ages in s:
        of the last word, of the first since."""
        agent = self._agents.get(uid)
        if agent is None:
            return False, False, None, None
        now = self._steady()
        silent = self._silent(agent, now)
        return not silent, silent, now - agent.heard, now - agent.since

    def _silent(self, agent: _Agent, now: float) -> bool:
        return now - max(agent.heard, self._listening_since) >= HUSH_S
