"""How much one user may have: of clusters, of tokens, of what is remembered. Pure data; 0 is no
limit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quotas:
    """Bounds of one user, whoever acts for that user."""

    clusters: int = 0  # that are not ended
    ended: int = 0  # that have ended and are kept; of more, those that ended first are purged
    creates_per_minute: int = 0
    tokens: int = 0  # that are valid, those of sessions not counted
    sessions: int = 0  # of more, those end that were renewed longest ago
    followed_logs: int = 0  # at a time
