"""Builds stub packages and examples of other languages, once for each state of their sources: in
the cache of this machine's user, not in the tree."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
from dataclasses import dataclass, field

from tests.parts import PATH, program

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = (
    pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    / "daskgateway"
    / "languages"
)
KEPT = 3  # states of one language's sources
BUILD_S = 900
# What a build leaves beside its sources, in a tree that somebody works in.
LEFT_BY_BUILDS = ("node_modules", "dist", "target", "daskgateway", "__pycache__")


@dataclass(frozen=True)
class Language:
    """How a language's stub package and example are built and run."""

    name: str
    sources: tuple[str, ...]
    needs: tuple[tuple[str, str], ...]  # programs, and what installs them
    build: tuple[tuple[str, tuple[str, ...]], ...]  # directories and commands
    run: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


GO = Language(
    "Go",
    ("packages/go", "examples/go"),
    (("go", "Go 1.26 or newer: https://go.dev/doc/install"),),
    (
        ("packages/go", ("buf", "generate")),
        ("packages/go", ("go", "vet", "./...")),
        ("examples/go", ("go", "build", "-o", "run", ".")),
    ),
    ("examples/go/run",),
    {"GOFLAGS": "-mod=readonly"},
)
TYPESCRIPT = Language(
    "TypeScript",
    ("packages/npm", "examples/typescript"),
    (("node", "Node.js 20 or newer"), ("npm", "npm, which comes with Node.js")),
    (
        ("packages/npm", ("npm", "ci")),
        ("packages/npm", ("npm", "run", "build")),
        ("examples/typescript", ("npm", "ci")),
        ("examples/typescript", ("npm", "run", "build")),
    ),
    ("node", "examples/typescript/dist/conformance.js"),
    {"npm_config_fund": "false", "npm_config_audit": "false", "npm_config_loglevel": "error"},
)
JAVA = Language(
    "Java",
    ("packages/maven", "examples/java"),
    (("java", "apt-get install default-jdk-headless"), ("mvn", "apt-get install maven")),
    (("examples/java", ("mvn", "-q", "-B", "package")),),
    (
        "java",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        "examples/java/conformance/target/classes:examples/java/conformance/target/lib/*",
        "example.Conformance",
    ),
)
PYTHON = Language(
    "Python",
    ("examples/python", "tests/languages/alone.py"),
    (),
    (),
    (sys.executable, "tests/languages/alone.py", "examples/python/conformance.py"),
)
LANGUAGES = {one.name: one for one in (GO, TYPESCRIPT, JAVA, PYTHON)}


def built(language: Language) -> pathlib.Path:
    """Return the directory in which a language's example is built, as its sources now are."""
    for name, install in language.needs:
        program(name, install)
    place = CACHE / f"{language.name.lower()}-{_state(language)}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{language.name.lower()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = place / ".built"
        if not done.exists():
            shutil.rmtree(place, ignore_errors=True)
            _build(language, place)
            done.touch()
        os.utime(done)
        _forget(language)
    return place


def environment() -> dict[str, str]:
    """Return that of builds and runs: buf is found beside this Python."""
    return os.environ | {"PATH": f"{pathlib.Path(sys.executable).parent}:{PATH}"}


def _files(name: str) -> list[pathlib.Path]:
    place = ROOT / name
    if place.is_file():
        return [place]
    return sorted(
        path
        for path in place.rglob("*")
        if path.is_file()
        and not any(part in LEFT_BY_BUILDS for part in path.relative_to(place).parts[:-1])
    )


def _protos() -> list[pathlib.Path]:
    return sorted((ROOT / "protos" / "daskgateway" / "v1").glob("*.proto"))


def _state(language: Language) -> str:
    digest = hashlib.sha256(repr(language).encode())
    for path in (*_protos(), *(file for name in language.sources for file in _files(name))):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _build(language: Language, place: pathlib.Path) -> None:
    for path in (*_protos(), *(file for name in language.sources for file in _files(name))):
        target = place / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for directory, words in language.build:
        done = subprocess.run(
            words,
            cwd=place / directory,
            env=environment() | language.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_S,
        )
        said = f"{' '.join(words)} in {directory}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        assert done.returncode == 0, said


def _forget(language: Language) -> None:
    """Remove what was built of older states."""
    found = sorted(
        CACHE.glob(f"{language.name.lower()}-*/.built"), key=lambda path: path.stat().st_mtime
    )
    for done in found[:-KEPT]:
        shutil.rmtree(done.parent, ignore_errors=True)
