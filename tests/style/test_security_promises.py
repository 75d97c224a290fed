"""SECURITY.md names the tests that hold each promise: they exist, and they have tests."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROWS = re.findall(
    r"^\| (.+?) \| (.*`tests/.+?) \|$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE
)


def test_there_are_promises() -> None:
    assert len(ROWS) > 15


@pytest.mark.parametrize(("promise", "tests"), ROWS)
def test_a_promise_names_tests_that_there_are(promise: str, tests: str) -> None:
    named = re.findall(r"`(tests/[^`]+)`", tests)
    assert named, promise
    for path in named:
        assert re.search(r"^\s*(async )?def test_", (ROOT / path).read_text(), re.MULTILINE), (
            f"{path} has no test"
        )
