"""What may be skipped where everything must be tested. Under CI=true a skip is a failure, unless
its reason says that there is nothing to test; it never may say that this machine lacks something.

tests/conftest.py makes the rule hold for every test.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from typing import Any

import pytest

# Each as a whole.
ALLOWED = (
    # of the suite of backends, which checks that what is said here is true: it is how they are
    r"(programs|again|stranger|outage|refused|lose_files|shown): (?!\[Errno).+",
    # of the suite of authenticators, likewise
    r"(change|remove|renew|expired|replayed|ending|odd|hang|asked_by_name|names): (?!\[Errno).+",
    r"(passwords|letter_case|stamps|slow|lies|impostor|off_by): (?!\[Errno).+",
)


def allowed(reason: str) -> bool:
    """Whether a test may be skipped for a reason."""
    return any(re.fullmatch(pattern, reason) for pattern in ALLOWED)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a failure of a skip."""
    report = yield
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return report
    told: Any = report.longrepr
    reason = (told[2] if isinstance(told, tuple) else str(told)).removeprefix("Skipped: ")
    if not allowed(reason):
        report.outcome = "failed"
        report.longrepr = (
            f"skipped, though CI=true: {reason}\nEither this machine must have it, or"
            " tests/skips.py names the reason as one for which there is nothing to test."
        )
    return report
