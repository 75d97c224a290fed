"""What every answer of the gateway has in common: it is frozen, shows itself in one line or as a
table, and keeps its message."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import ClassVar, Generic, TypeVar

from google.protobuf.message import Message

from gateway.client.model import show
from gateway.printable import printable

M = TypeVar("M", bound=Message, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Answer(Generic[M]):
    """An answer of the gateway. Fields have the names that they have in the protocol."""

    COLUMNS: ClassVar[tuple[str, ...]] = ()

    proto: M = field(repr=False, compare=False)
    """The protobuf message that it was made from."""

    def cells(self) -> tuple[str, ...]:
        """Return what stands for it in a table, one text for each of `COLUMNS`."""
        return ()

    def rows(self) -> list[tuple[str, str]]:
        """Return everything there is to tell of it, each with its name."""
        return [
            (name.replace("_", " "), "" if value is None else show.text(value))
            for name, value in _told(self)
        ]

    def _line(self) -> str:
        """Return it in one line of text."""
        return ", ".join(
            [cell for cell in self.cells() if cell]
            or [f"{name}={show.text(value)}" for name, value in _told(self)]
        )

    def __repr__(self) -> str:
        return printable(f"{type(self).__name__}({self._line()})", keep="")

    def _repr_html_(self) -> str:
        return show.html_table((), [row for row in self.rows() if row[1]])


def _told(answer: Answer[M]) -> list[tuple[str, object]]:
    return [(one.name, getattr(answer, one.name)) for one in fields(answer) if one.repr]


A = TypeVar("A", bound=Answer[Message])


class Page(list[A]):
    """Answers of one kind as a list, which shows itself as a table."""

    def __init__(self, kind: type[A], found: Iterable[A] = (), *, revision: int = 0) -> None:
        super().__init__(found)
        self._kind = kind
        self.revision = revision
        """A watch that starts after this revision misses nothing of what the list does not show; 0
        where it means nothing."""

    @property
    def columns(self) -> tuple[str, ...]:
        """What each of an answer's `cells` is."""
        return self._kind.COLUMNS

    def __repr__(self) -> str:
        return show.lines(self.columns, [one.cells() for one in self]) if self else "[]"

    def _repr_html_(self) -> str:
        return show.html_table(self.columns, [one.cells() for one in self])
