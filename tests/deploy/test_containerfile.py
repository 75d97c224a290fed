"""The recipe of the image: what it copies is there, and what runs is nobody's root."""

from __future__ import annotations

import pathlib
import re

import tomllib

ROOT = pathlib.Path(__file__).parents[2]
LINES = [
    line
    for line in (ROOT / "deploy" / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]


def test_it_copies_what_is_there_and_all_that_the_package_is_made_of() -> None:
    copied = [
        word
        for line in LINES
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    assert copied
    assert all((ROOT / word).exists() for word in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    asked = [*packages, project["project"]["readme"], *project["project"]["license-files"]]
    assert {word.partition("/")[0] for word in asked} <= set(copied)


def test_it_installs_extras_that_there_are() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"install .*'\.\[([\w,]+)\]'", "\n".join(LINES))
    assert {"server", "kubernetes"} <= set(extras.split(","))
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()


def test_what_runs_is_not_root_and_the_last_stage_builds_nothing() -> None:
    start = max(at for at, line in enumerate(LINES) if line.startswith("FROM "))
    last = LINES[start:]
    users = [line for line in last if line.startswith("USER ")]
    assert users == ["USER 1000:1000"]
    assert last.index(users[0]) > max(at for at, line in enumerate(last) if line[:4] == "RUN ")
    assert not any("pip" in line for line in last)
    assert last[-1].startswith("CMD [")
