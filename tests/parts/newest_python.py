"""The newest Python of this machine: the tests run on the oldest that the server supports."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess

VERSIONS = ("3.13", "3.12")


def newest() -> str:
    """Return the command of the newest Python that can make environments, "" where only older
    ones are here."""
    # pyenv's command of a version works only where that version was chosen
    own = pathlib.Path.home() / ".pyenv" / "versions"
    for version in VERSIONS:
        kept = sorted(own.glob(f"{version}.*/bin/python"), key=_numbers, reverse=True)
        for command in (f"python{version}", *map(str, kept)):
            if _works(command):
                return command
    return ""


def _numbers(path: pathlib.Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.parts[-3])]


def _works(python: str) -> bool:
    return (
        shutil.which(python) is not None
        and subprocess.run([python, "-c", "import venv"], capture_output=True).returncode == 0
    )
