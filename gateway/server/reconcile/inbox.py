"""What was observed of each cluster and not yet taken in: one entry a cluster, merged as it
grows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.backends.contract import Instance, Observation
from gateway.server.core.facts import AgentNews, Facts, merge_news
from gateway.server.reconcile.hearing import Hearing


@dataclass(slots=True)
class _Entry:
    observations: dict[Instance, Observation] = field(default_factory=dict)
    news: AgentNews | None = None
    unavailable: str = ""


class Inbox:
    """Facts by cluster. Bounded by the clusters and instances that exist: later facts replace
    earlier ones."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._hearing = Hearing()
        self._resumed: set[str] = set()
        self._doubted: set[str] = set()  # whose agents have told nothing since the clock jumped
        self._log_read_at: dict[str, int] = {}  # when the scheduler's log was looked at last
        self.listening_since_at = 0

    def observe(self, observations: Iterable[Observation]) -> set[str]:
        """Take what a backend saw; return the clusters it is about."""
        uids = set()
        for observation in observations:
            uid = observation.instance.uid
            self._entries.setdefault(uid, _Entry()).observations[observation.instance] = observation
            uids.add(uid)
        return uids

    def hear(self, uid: str, news: AgentNews) -> None:
        """Take what an agent told."""
        entry = self._entries.setdefault(uid, _Entry())
        entry.news = merge_news(entry.news, news)
        self._doubted.discard(uid)
        self._hearing.heard(uid)

    def hear_beat(self, uid: str) -> bool:
        """Take an agent's sign of life; return whether it was silent before."""
        return self._hearing.heard(uid)

    def fallen_silent(self) -> list[str]:
        """Return the agents that have become silent, each once."""
        return self._hearing.fallen_silent()

    def unanswered(self, uid: str, words: str) -> None:
        """Note that the machine room did not answer."""
        self._entries.setdefault(uid, _Entry()).unavailable = words

    def agent_came(self, uid: str) -> None:
        """Note that an agent's stream is open."""
        self._hearing.came(uid)

    def agent_went(self, uid: str) -> None:
        """Note that an agent's stream has ended."""
        if self._hearing.went(uid):
            self._doubted.discard(uid)

    def clock_jumped(self, now: int) -> None:
        """Note that instants known so far say nothing of how long ago they were."""
        self.listening_since_at = now
        self._doubted = set(self._hearing.connected())

    def listen_anew(self, now: int) -> None:
        """Note that nobody was listened to until now: this process stood still."""
        self.listening_since_at = now
        self._hearing.begin_anew()

    def resume(self, uid: str) -> None:
        """Note that what was asked before the cluster's next step may never have been done."""
        self._resumed.add(uid)

    def take(self, uid: str, now: int) -> Facts:
        """Return what is known of a cluster since it was last taken, and forget it."""
        heard, hushed, age_s, since_s = self._hearing.of(uid)
        entry = self._entries.pop(uid, None) or _Entry()
        resumed = uid in self._resumed
        self._resumed.discard(uid)
        return Facts(
            observations=entry.observations,
            news=entry.news,
            agent_connected=heard,
            hushed=hushed,
            heard_at=0 if age_s is None else now - int(age_s * 1000),
            heard_since_at=0 if since_s is None else now - int(since_s * 1000),
            listening_since_at=self.listening_since_at,
            doubted=uid in self._doubted,
            resumed=resumed,
            unavailable=entry.unavailable,
            log_read_at=self._log_read_at.get(uid, 0),
        )

    def log_read(self, uid: str, now: int) -> None:
        """Note that the scheduler's log was looked at."""
        self._log_read_at[uid] = now

    def put_back(self, uid: str, facts: Facts) -> None:
        """Return facts whose step could not be stored, behind what has come in since."""
        entry = self._entries.setdefault(uid, _Entry())
        entry.observations = {**facts.observations, **entry.observations}
        if facts.news is not None:
            entry.news = facts.news if entry.news is None else merge_news(facts.news, entry.news)
        entry.unavailable = entry.unavailable or facts.unavailable
        if facts.resumed:
            self._resumed.add(uid)

    def forget(self, uid: str) -> None:
        """Drop everything about a cluster that is purged."""
        self._doubted.discard(uid)
        self._entries.pop(uid, None)
        self._log_read_at.pop(uid, None)
        self._resumed.discard(uid)
