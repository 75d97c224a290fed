"""Where a login may lead: to a dashboard of ours, and nowhere else."""

from __future__ import annotations

import pytest

from gateway.server.core.login_pages import MAX_GOES_TO, safe_place
from gateway.wire import DASHBOARD_PATH

HERE = DASHBOARD_PATH + "c" + "a2" * 10


@pytest.mark.parametrize("text", [HERE, f"{HERE}/", f"{HERE}/status", f"{HERE}/a-b/c_d.js~/"])
def test_a_dashboards_page_is_gone_to(text: str) -> None:
    assert safe_place(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "//elsewhere.example.org",
        "https://elsewhere.example.org" + HERE,
        f"{HERE}//elsewhere.example.org",
        f"{HERE}/../login",
        f"{HERE}/.hidden",
        f"{HERE}/a?next=b",
        f"{HERE}/a#b",
        f"{HERE}/%2e%2e",
        f"{HERE}\\elsewhere",
        f"{HERE}/a\n",
        f" {HERE}",
        HERE[:-1],
        f"{HERE}a",
        HERE.upper(),
        f"{HERE}/é",
    ],
)
def test_whatever_else_there_is_leads_to_the_front_page(text: str) -> None:
    assert safe_place(text) == ""


def test_a_place_has_its_bound() -> None:
    longest = f"{HERE}/" + "a" * (MAX_GOES_TO - len(HERE) - 1)
    assert safe_place(longest) == longest
    assert safe_place(longest + "a") == ""
