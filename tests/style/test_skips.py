"""Where everything must be tested, what is skipped has failed."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from tests.skips import allowed

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTS = """
import os, unittest, pytest

@pytest.mark.skipif(True, reason="only root becomes other users")
def test_by_mark(): ...

def test_by_call():
    pytest.skip("this kernel lets nobody make user namespaces")

@pytest.fixture
def disk():
    pytest.skip("there is no second file system here")

def test_by_fixture(disk): ...

def test_by_unittest():
    raise unittest.SkipTest("lose_files: [Errno 13] Permission denied")

def test_that_has_nothing_to_test():
    raise unittest.SkipTest("outage: this machine always answers")

@pytest.mark.xfail(reason="a mistake that is known")
def test_that_is_expected_to_fail():
    assert False
"""


@pytest.mark.parametrize(
    ("ci", "outcomes"),
    [
        ("true", {"failed": 2, "error": 2, "skipped": 1, "xfailed": 1}),
        ("", {"skipped": 5, "xfailed": 1}),
    ],
)
def test_under_ci_a_skip_is_a_failure_but_for_what_there_is_nothing_to_test_of(
    tmp_path: pathlib.Path, ci: str, outcomes: dict[str, int]
) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    words = ["-p", "tests.skips", "-p", "no:cacheprovider", "-q", "-c", os.devnull]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
    )
    told = done.stdout.strip().splitlines()[-1]
    found = {
        word.rstrip(",").rstrip("s") if word.startswith("error") else word.rstrip(","): int(number)
        for number, word in zip(told.split(), told.split()[1:])
        if number.isdigit()
    }
    assert found == outcomes, done.stdout
    if ci:
        assert "skipped, though CI=true: this kernel lets nobody" in done.stdout


def test_a_reason_that_is_allowed_speaks_of_no_machine() -> None:
    assert allowed("programs: it starts nothing, and only says that it does")
    for reason in (
        "only root can give files away",
        "nginx is not here; this installs it: apt-get install nginx",
        "programs: ",
        "lose_files: [Errno 13] Permission denied",
    ):
        assert not allowed(reason)
