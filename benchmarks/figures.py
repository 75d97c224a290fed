"""How rounds become figures: medians, spreads, ratios, a table, and the one JSON line at the
end."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Samples:
    """What was measured, by its name and by whom, round by round."""

    rows: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def add(self, what: str, whose: str, value: float) -> None:
        """Note one value."""
        self.rows.setdefault((what, whose), []).append(value)

    def median(self, what: str, whose: str) -> float:
        """Return the median of a row."""
        return statistics.median(self.rows[what, whose])

    def ratio(self, what: str, ours: str, theirs: str) -> float:
        """Return the ratio of two medians."""
        return self.median(what, ours) / self.median(what, theirs)


def table(samples: Samples) -> str:
    """Return every row as median, least and greatest."""
    width = max(len(what) for what, _ in samples.rows)
    lines = [f"{'':{width}}  {'':8} {'median':>10} {'min':>10} {'max':>10}  rounds"]
    for (what, whose), values in samples.rows.items():
        numbers = " ".join(
            f"{_shown(value):>10}"
            for value in (statistics.median(values), min(values), max(values))
        )
        lines.append(f"{what:{width}}  {whose:8} {numbers}  {len(values)}")
    return "\n".join(lines)


def _shown(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def last_line(section: str, found: Mapping[str, float]) -> str:
    """Return the figures as the JSON object that a benchmark ends with."""
    return json.dumps({f"{section}.{name}": round(value, 4) for name, value in found.items()})


def orders(rounds: int, sides: Sequence[str]) -> list[list[str]]:
    """Return who goes first in each round: the order turns around, so that nobody always has the
    quieter half."""
    return [list(sides) if number % 2 == 0 else list(reversed(sides)) for number in range(rounds)]


def batched(items: Sequence[str], size: int) -> list[Sequence[str]]:
    """Return items in groups of at most so many."""
    return [items[first : first + size] for first in range(0, len(items), size)]
