"""Do the unit tests notice a wrong core? Changes one line of gateway/server/core at a time, at
random but seeded, and runs them.

    python scripts/mutants.py [--count 200] [--seed 1] [--jobs 2] [--file plan.py]

A mutant is noticed when tests/unit fail or do not end in time; the tests of its file's own name are
tried first. Prints those that live as they are found, and ends with one JSON object. A mutant that
lives is a missing test, or a change that nobody can see; the latter stand in
scripts/mutants_explained.txt with the reason, and count as living all the same.
"""

from __future__ import annotations

import argparse
import ast
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parents[1]
CORE = pathlib.Path("gateway/server/core")
TESTS = "tests/unit"
EXPLAINED = ROOT / "scripts" / "mutants_explained.txt"
LEAST_TIMEOUT_S = 120.0
SLOWER = 5  # times as long as without a mutant, until the tests count as not ending
WANTED = 0.95
COMPARISONS = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not", ast.IsNot: "is",  # noqa: E501
               ast.In: "not in", ast.NotIn: "in"}  # fmt: skip
ARITHMETIC = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "+",
    ast.FloorDiv: "*",
    ast.Div: "*",
    ast.BitOr: "&",
    ast.BitAnd: "|",
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One changed line."""

    path: pathlib.Path  # relative to ROOT
    line: int  # counts from 1
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before.strip()}  →  {self.after.strip()}"


def mutants_of(path: pathlib.Path) -> Iterator[Mutant]:
    """Yield every single-line mutant of a file."""
    text = (ROOT / path).read_text()
    lines = text.splitlines()
    tree = ast.parse(text)
    skipped, silent = set(_untouched(tree)), set(_silent(tree))
    for node in ast.walk(tree):
        line = getattr(node, "lineno", None)
        if line is None or node.end_lineno != line or line in skipped or node in silent:
            continue
        before = lines[line - 1]
        for start, end, words in _changes(node, before):
            after = before.encode()[:start].decode() + words + before.encode()[end:].decode()
            if after != before and _parses(lines, line, after):
                yield Mutant(path, line, before, after)


def _untouched(tree: ast.AST) -> Iterator[int]:
    """Yield the lines of docstrings, imports and annotations alone, whose change means nothing."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)
        if isinstance(node, ast.AnnAssign) and node.value is None:
            yield node.lineno


def _silent(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield what stands in annotations and decorators: types and `slots=True` decide nothing when
    the code runs."""
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                parts = [node.returns, *node.decorator_list]
            case ast.ClassDef():
                parts = list(node.decorator_list)
            case ast.AnnAssign() | ast.arg():
                parts = [node.annotation]
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.BinOp(op=ast.BitOr())) if (
                name[0].isupper() and not name.isupper()
            ):
                parts = [node.value]  # a type's other name
        for part in parts:
            if part is not None:
                yield from ast.walk(part)


def _changes(node: ast.AST, line: str) -> Iterator[tuple[int, int, str]]:
    """Yield where in the line's bytes something else could stand, and what."""
    raw = line.encode()

    def span(part: ast.AST) -> tuple[int, int]:
        return part.col_offset, part.end_col_offset or 0  # type: ignore[attr-defined]

    match node:
        case ast.Compare(left=left, ops=[operator], comparators=[right]) if (
            type(operator) in COMPARISONS
        ):
            yield span(left)[1], span(right)[0], f" {COMPARISONS[type(operator)]} "
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in ARITHMETIC:
            if (
                b"(" not in raw[span(left)[1] : span(right)[0]]
                and b")" not in raw[span(left)[1] : span(right)[0]]
            ):
                yield span(left)[1], span(right)[0], f" {ARITHMETIC[type(operator)]} "
        case ast.BoolOp(op=operator, values=[first, second, *_]):
            between = raw[span(first)[1] : span(second)[0]]
            if b"(" not in between and b")" not in between:
                yield (
                    span(first)[1],
                    span(second)[0],
                    " and " if isinstance(operator, ast.Or) else " or ",
                )
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield span(node)[0], span(operand)[0], ""
        case ast.Constant(value=bool(value)):
            yield *span(node), str(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield *span(node), repr(value + 1)
        case ast.IfExp(test=test):
            yield *span(test), f"not ({raw[slice(*span(test))].decode()})"
        case ast.Return(value=ast.AST()):
            yield *span(node), "return None"
        case ast.Raise() | ast.Continue() | ast.Break() | ast.AugAssign():
            yield *span(node), "pass"
        case ast.Expr(value=ast.Call()):
            yield *span(node), "pass"


def _parses(lines: list[str], line: int, after: str) -> bool:
    try:
        ast.parse("\n".join([*lines[: line - 1], after, *lines[line:]]))
    except SyntaxError:
        return False
    return True


class Room:
    """A copy of what the tests need, in which one file is changed at a time."""

    def __init__(self) -> None:
        self.place = pathlib.Path(tempfile.mkdtemp(prefix="mutants-"))
        self.timeout_s: float | None = None
        for name in (
            "gateway",
            "protos",
            "tests",
            "pyproject.toml",
            "ARCHITECTURE.md",
            "README.md",
        ):
            source, target = ROOT / name, self.place / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)

    def notices(self, mutant: Mutant | None) -> bool:
        """Whether the tests fail with a mutant; None: as it is."""
        if mutant is None:
            began = time.monotonic()
            failed = self._fails(TESTS)
            self.timeout_s = max(LEAST_TIMEOUT_S, SLOWER * (time.monotonic() - began))
            return failed
        path = self.place / mutant.path
        whole = path.read_text()
        lines = whole.splitlines()
        lines[mutant.line - 1] = mutant.after
        path.write_text("\n".join(lines) + "\n")
        try:
            own = sorted(
                (str(one) for one in (self.place / TESTS).glob(f"test_{path.stem}*.py")),
                reverse=True,
            )
            # most are noticed by the former, in a fraction of the time
            return (bool(own) and self._fails(*own)) or self._fails(TESTS)
        finally:
            path.write_text(whole)

    def _fails(self, *tests: str) -> bool:
        words = [
            sys.executable,
            "-B",
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "--hypothesis-seed=0",
            *tests,
        ]
        environment = {
            "PYTHONPATH": f"{self.place}:{self.place / 'protos'}",
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.place),
        }
        try:
            done = subprocess.run(
                words, cwd=self.place, env=environment, capture_output=True, timeout=self.timeout_s
            )
        except subprocess.TimeoutExpired:
            return True
        return done.returncode != 0


def explained() -> set[str]:
    """Return the changes that nobody can see: lines `file: before → after`, each with its reason
    behind the last `#`."""
    if not EXPLAINED.exists():
        return set()
    return {
        line.rpartition("  # ")[0].strip()
        for line in EXPLAINED.read_text().splitlines()
        if line.strip() and not line.startswith("#")
    }


def key_of(mutant: Mutant) -> str:
    """Return a mutant as `mutants_explained.txt` names it: without the number of its line, which
    moves."""
    return f"{mutant.path.name}: {mutant.before.strip()}  →  {mutant.after.strip()}"


def main() -> int:
    """Make mutants, try each, and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--file", default="*.py", help="only of these files of the core, such as plan.py"
    )
    options = parser.parse_args()
    everything = [
        mutant
        for path in sorted((ROOT / CORE).glob(options.file))
        for mutant in mutants_of(path.relative_to(ROOT))
    ]
    chosen = random.Random(options.seed).sample(everything, min(options.count, len(everything)))
    rooms = [Room() for _ in range(options.jobs)]
    try:
        if rooms[0].notices(None):
            print("tests/unit fail without any mutant", file=sys.stderr)
            return 2
        for room in rooms:
            room.timeout_s = rooms[0].timeout_s
        known = explained()
        with ThreadPoolExecutor(options.jobs) as threads:
            shares = [chosen[number :: options.jobs] for number in range(options.jobs)]
            verdicts = threads.map(
                lambda pair: [one for one in pair[1] if _lives(one, pair[0], known)],
                zip(rooms, shares),
            )
            living = [mutant for share in verdicts for mutant in share]
    finally:
        for room in rooms:
            shutil.rmtree(room.place, ignore_errors=True)
    return _told(len(chosen), living, sum(key_of(mutant) not in known for mutant in living))


def _lives(mutant: Mutant, room: Room, known: set[str]) -> bool:
    """Whether a mutant is not noticed, which is told at once."""
    if room.notices(mutant):
        return False
    print(("explained  " if key_of(mutant) in known else "LIVES      ") + str(mutant), flush=True)
    return True


def _told(count: int, living: list[Mutant], unexplained: int) -> int:
    noticed = 1 - len(living) / max(count, 1)
    print(
        json.dumps(
            {
                "mutants.count": count,
                "mutants.noticed": round(noticed, 4),
                "mutants.unexplained": unexplained,
            }
        )
    )
    return int(noticed < WANTED or unexplained > 0)


if __name__ == "__main__":
    sys.exit(main())
