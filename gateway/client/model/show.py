"""How values and tables look: one line of text on a terminal, HTML in a notebook. Pure; knows
nothing of clusters.

What a server says is not trusted to be harmless: control characters never reach a terminal, and
HTML is always escaped.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum

from gateway.printable import printable

Row = Sequence[str]

SPANS = ((86400, "d"), (3600, "h"), (60, "min"))  # seconds of each, greatest first


def when(at: datetime | None) -> str:
    """Return an instant in UTC to the second; empty for none."""
    return at.strftime("%Y-%m-%d %H:%M:%SZ") if at else ""


def span(lasts: timedelta | None) -> str:
    """Return a duration, such as `1 h 30 min`; empty for none."""
    if lasts is None:
        return ""
    left, said = abs(lasts.total_seconds()), []
    for seconds, unit in SPANS:
        count, left = divmod(left, seconds)
        said += [f"{count:.0f} {unit}"] if count else []
    if left or not said:
        said.append(f"{left:g} s")
    return ("-" if lasts < timedelta(0) else "") + " ".join(said)


def size(count: int) -> str:
    """Return a number of bytes, such as `4 GiB`."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count >= 1024**power:
            return f"{count / 1024**power:.4g} {unit}"
    return f"{count} B"


def cores(count: float) -> str:
    """Return a number of cores, such as `2 cores`."""
    return f"{count:.15g} core{'' if count == 1 else 's'}"


def beside(gpus: int | None, resources: Mapping[str, float]) -> list[str]:
    """Return what there is beside cores and memory, such as `1 GPU`, `2 fpga`; no GPUs for None."""
    told = [f"{gpus} GPU{'' if gpus == 1 else 's'}"] if gpus is not None else []
    return told + [f"{amount:.15g} {name}" for name, amount in sorted(resources.items())]


def harmless(text: str) -> str:
    """Return a text as one line without anything that a terminal acts on: its first line."""
    return printable(text.strip().partition("\n")[0].rstrip(), keep="")


def text(value: object) -> str:
    """Return any value of an answer as people write it."""
    if isinstance(value, datetime):
        return when(value)
    if isinstance(value, timedelta):
        return span(value)
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, str):
        return harmless(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{harmless(str(key))}={text(item)}" for key, item in value.items())
    if isinstance(value, tuple | list):
        return ", ".join(text(item) for item in value)
    return harmless(str(value))


def lines(headings: Row, rows: Sequence[Row]) -> str:
    """Return a table as aligned lines, headings first."""
    every = [headings, *([printable(cell, keep="") for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in every) for column in range(len(headings))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in every
    )


def html_table(headings: Row, rows: Sequence[Row]) -> str:
    """Return a table as HTML; without headings, the first cell of each row is one."""
    head = f"<thead><tr>{_html_cells('th', headings)}</tr></thead>" if headings else ""
    body = "".join(f"<tr>{_html_row(row, named=not headings)}</tr>" for row in rows)
    return f"<table>{head}<tbody>{body}</tbody></table>"


def _html_row(row: Row, *, named: bool) -> str:
    return (
        _html_cells("th", row[:1]) + _html_cells("td", row[1:]) if named else _html_cells("td", row)
    )


def _html_cells(tag: str, cells: Row) -> str:
    return "".join(
        f'<{tag} style="text-align: left">{html.escape(printable(cell))}</{tag}>' for cell in cells
    )
