"""Runs a program in which nothing can be imported but the generated stubs and what they need: no
Dask, and nothing of the gateway's own.

usage: python alone.py PROGRAM WORDS…
"""

from __future__ import annotations

import pathlib
import runpy
import sys
from collections.abc import Sequence

REFUSED = ("gateway", "dask", "distributed", "tornado", "click", "rich")


class Refusing:
    """Finds nothing of what is refused, and says so."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> None:
        """Refuse an import."""
        if name.partition(".")[0] in REFUSED:
            raise ImportError(f"the stubs are to be used alone, and {name} was imported")


if __name__ == "__main__":
    sys.meta_path.insert(0, Refusing())
    del sys.argv[0]
    sys.path[0] = str(pathlib.Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
