"""The distribution's name is one that PyPI takes, and what it is called is told alike
everywhere."""

from __future__ import annotations

import pathlib
import re

import pytest
import tomllib

from gateway.wire import DISTRIBUTION

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Distributions of PyPI, seen there on 2026-11-27, that ours could be taken for.
TAKEN = (
    "dask-gateway",
    "dask-gateway-server",
    "dask-gateway-ctl",
    "dask-cloudprovider",
    "dask-jobqueue",
    "dask-yarn",
    "dask-kubernetes",
)


def folded(name: str) -> str:
    """Return a name as PyPI compares it with those that exist: without separators and case,
    look-alikes as one.

    PyPI's own rule is its database function ultranormalize_name: `.`, `_` and `-` go, `l` and `i`
    become 1, `o` becomes 0.
    """
    return re.sub("[lLiI]", "1", re.sub("[oO]", "0", re.sub(r"[._-]", "", name))).lower()


def test_the_name_is_told_alike() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION
    everything = [extra for extras in project["optional-dependencies"].values() for extra in extras]
    assert [extra for extra in everything if re.match(r"daskgateway\b", extra)] == []


@pytest.mark.parametrize("taken", TAKEN)
def test_the_name_is_not_taken_for_another(taken: str) -> None:
    assert folded(DISTRIBUTION) != folded(taken)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("daskgateway", "dask-gateway"),
        ("Dask.Gateway", "dask-gateway"),
        ("dask_gateway_0", "dask-gateway-O"),
        ("l1I", "111"),
    ],
)
def test_what_pypi_takes_for_one_name_is_noticed(ours: str, theirs: str) -> None:
    assert folded(ours) == folded(theirs)


def test_no_document_installs_a_name_that_is_not_ours() -> None:
    documents = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "gateway").rglob("*.py"),
        *(ROOT / "scripts").glob("*"),
    ]
    wrong = [
        str(path.relative_to(ROOT))
        for path in documents
        if re.search(r"pip install ['\"]?daskgateway\b", path.read_text())
    ]
    assert wrong == []
