"""What a type checker tells a user of the client, under --strict and for the oldest Python that the
client supports."""

from __future__ import annotations

import pathlib
import re

import pytest
from mypy import api

# mypy reads everything anew, which takes minutes where much else runs
pytestmark = pytest.mark.timeout(600)
USERS = pathlib.Path(__file__).parent / "users"
EXPECTED = re.compile(r"#\s*error: ([\w-]+)$")
TOLD = re.compile(
    r"^(?P<file>[^:]+):(?P<line>\d+): error: (?P<words>.*?)(  \[(?P<code>[\w-]+)\])?$"
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, tuple[str, str]]]:
    """Return what mypy finds in the users' files: by file and line, code and words."""
    directory = tmp_path_factory.mktemp("mypy")
    # as text, where no tool of this repository minds the wrong uses
    for name in ("right.py", "wrong.txt"):
        (directory / name).with_suffix(".py").write_text((USERS / name).read_text())
    with pytest.MonkeyPatch.context() as patched:
        # as a user has it: the package is found where it is installed, not by its sources
        patched.chdir(directory)
        words = [
            "--strict",
            "--python-version=3.10",
            "--config-file=",
            f"--cache-dir={directory}/cache",
            "--hide-error-context",
        ]
        out, wrong, _ = api.run([*words, "--no-error-summary", "right.py", "wrong.py"])
    assert wrong == ""
    found: dict[str, dict[int, tuple[str, str]]] = {"right.py": {}, "wrong.py": {}}
    for line in out.splitlines():
        if match := TOLD.match(line):
            found[pathlib.Path(match["file"]).name][int(match["line"])] = (
                match["code"] or "",
                match["words"],
            )
    return found


@pytest.mark.slow
def test_right_uses_are_right(told: dict[str, dict[int, tuple[str, str]]]) -> None:
    assert told["right.py"] == {}


@pytest.mark.slow
def test_every_wrong_use_is_found(told: dict[str, dict[int, tuple[str, str]]]) -> None:
    lines = (USERS / "wrong.txt").read_text().splitlines()
    expected = {
        number: match[1] for number, line in enumerate(lines, 1) if (match := EXPECTED.search(line))
    }
    assert {number: code for number, (code, _) in told["wrong.py"].items()} == expected, told[
        "wrong.py"
    ]
