"""Recorded cases of a real OpenPBS 23.06: what a command was, and what came of it.
tests/parts/pbs_cases/ holds those that tests use."""

from __future__ import annotations

import base64
import functools
import json
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DIRECTORY = pathlib.Path(__file__).parent / "pbs_cases"


@dataclass(frozen=True, slots=True)
class Case:
    """One command and its answer."""

    name: str
    argv: tuple[str, ...]
    code: int | None  # None: it was still running when the recorder gave up
    out: str
    err: str
    server_died: bool = False

    @property
    def jobs(self) -> dict[str, dict[str, Any]]:
        """The jobs of a valid answer, in its order."""
        found: dict[str, dict[str, Any]] = json.loads(self.out).get("Jobs", {})
        return found

    @property
    def blocks(self) -> list[str]:
        """The jobs of any answer of the release, each as the text that was printed for it, without
        the comma behind."""
        found: list[list[str]] = []
        for line in self.out.split("\n"):
            if line.startswith('        "'):
                found.append([])
            if found and line.startswith("        "):
                found[-1].append(line)
        return ["\n".join(lines).removesuffix(",") for lines in found]


@functools.cache
def case(name: str) -> Case:
    """Return a recorded case."""
    told: Mapping[str, Any] = json.loads((DIRECTORY / f"{name}.json").read_text())
    raw = told.get("stdout_base64")
    out = base64.b64decode(raw).decode(errors="replace") if raw else told["stdout"]
    return Case(
        name, tuple(told["cmd"]), told["rc"], out, told["stderr"], bool(told.get("server_died"))
    )


def names(prefix: str = "") -> list[str]:
    """Return the names of the cases there are."""
    return sorted(path.stem for path in DIRECTORY.glob(f"{prefix}*.json"))
