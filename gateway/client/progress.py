"""What a starting cluster waits for, told while one waits: a live line on a terminal, a widget in a
notebook, plain lines on standard error elsewhere."""

from __future__ import annotations

import html
import sys
from typing import Any

from gateway.client.model import Cluster
from gateway.printable import printable


class Progress:
    """Tells nothing: for who asked for quiet, and where nothing is awaited."""

    def tell(self, words: str) -> None:
        """Tell what is awaited now; from any thread."""

    def close(self) -> None:
        """Tell no more; what was live disappears."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Lines(Progress):
    """A line for each change, such as a batch job's log shows it."""

    def __init__(self) -> None:
        self._last = ""

    def tell(self, words: str) -> None:
        """Print a line, unless it was the last one."""
        line = one_line(words)
        if line == self._last or sys.stderr is None:
            return
        self._last = line
        encoding = getattr(sys.stderr, "encoding", None) or "ascii"
        try:
            print(
                line.encode(encoding, "backslashreplace").decode(encoding),
                file=sys.stderr,
                flush=True,
            )
        except (OSError, ValueError):  # it is closed: nobody is there to be told
            pass

    def close(self) -> None:
        """Tell no more."""
        self._last = ""


class Live(Progress):
    """One line of a terminal that changes."""

    def __init__(self, console: Any) -> None:
        from rich.live import Live as Changing
        from rich.spinner import Spinner

        kind = "dots" if console.encoding.lower().startswith("utf") else "line"
        self._line = Spinner(kind, text("asked for a cluster"), style="status.spinner")
        # what is printed meanwhile appears above it; what goes to a file goes there all the same
        self._live = Changing(
            self._line,
            console=console,
            refresh_per_second=12.5,
            transient=True,
            redirect_stdout=bool(sys.stdout and sys.stdout.isatty()),
        )
        self._live.start()

    def tell(self, words: str) -> None:
        """Change the line."""
        self._line.update(text=text(words))

    def close(self) -> None:
        """Take the line away."""
        self._live.stop()


class Notebook(Progress):
    """One line below a cell that changes."""

    def __init__(self) -> None:
        from IPython import display
        from ipywidgets import HTML

        pieces: Any = display  # which is not annotated
        self._shown = HTML("asked for a cluster")
        pieces.display(self._shown)

    def tell(self, words: str) -> None:
        """Change the line."""
        self._shown.value = html.escape(one_line(words))

    def close(self) -> None:
        """Take the line away."""
        self._shown.close()


class PlainNotebook(Progress):
    """The same without ipywidgets."""

    def __init__(self) -> None:
        from IPython import display

        pieces: Any = display  # which is not annotated
        self._html = pieces.HTML
        self._shown = pieces.display(self._html("asked for a cluster"), display_id=True)

    def tell(self, words: str) -> None:
        """Change the line."""
        self._shown.update(self._html(html.escape(one_line(words))))

    def close(self) -> None:
        """Take the line away."""
        self._shown.update(self._html(""))


NONE = Progress()


def begin(*, quiet: bool = False) -> Progress:
    """Return how waiting is told where this process shows things. Made in the thread of a cell."""
    if quiet:
        return NONE
    if in_notebook():
        try:
            return Notebook()
        except ImportError:
            return PlainNotebook()
    if sys.stderr is None or sys.stderr.closed or not sys.stderr.isatty():
        return Lines()
    try:
        from rich.console import Console
        from rich.errors import LiveError
    except (ImportError, AttributeError):  # a file rich.py of the user's hides it
        return Lines()

    console = Console(stderr=True)
    if console.is_dumb_terminal:
        return Lines()
    try:
        return Live(console)
    except LiveError:  # something else is live already, perhaps another cluster
        return Lines()


def in_notebook() -> bool:
    """Whether a kernel runs this, whose output goes to a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def words_of(cluster: Cluster) -> str:
    """Return where a cluster stands and why, in one line."""
    return f"{cluster.id}: {cluster.state}: {one_line(cluster.explanation)}"


def one_line(words: str) -> str:
    """Return words without anything that a terminal acts on: their first line."""
    return printable(words.strip().partition("\n")[0].rstrip(), keep="")


def text(words: str) -> Any:
    """Return words as rich shows them as they are: it finds markup in plain texts."""
    from rich.text import Text

    return Text(one_line(words))
