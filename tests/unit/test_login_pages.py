"""Where a login may lead: to a dashboard of ours, and nowhere else."""

from __future__ import annotations

import pytest

from gateway.proxy.http.browsers import _PLACE
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


# what browsers take for another site, or may be made to, by one spelling or another
ELSEWHERE = (
    "//evil.example.org",
    "///evil.example.org",
    "////evil.example.org",
    "/\\evil.example.org",
    "\\\\evil.example.org",
    "\\/evil.example.org",
    "/\t/evil.example.org",
    "/\n/evil.example.org",
    "\t//evil.example.org",
    "\0//evil.example.org",
    "\x20//evil.example.org",
    "https:evil.example.org",
    "https:/evil.example.org",
    "https:///evil.example.org",
    "HTTPS://evil.example.org",
    "http:\\\\evil.example.org",
    "https://dask.example.org@evil.example.org",
    "https://dask.example.org.evil.example.org",
    "//evil.example.org@dask.example.org",
    "//[::1]/",
    "//2130706433/",
    "%2f%2fevil.example.org",
    "/%2fevil.example.org",
    "/%5cevil.example.org",
    "%252f%252fevil.example.org",
    "/%09/evil.example.org",
    "/%0d%0aLocation:%20//evil.example.org",
    "/\u2044/evil.example.org",
    "/\uff0fevil.example.org",
    "\uff0f\uff0fevil.example.org",
    "/\u3002evil.example.org",
    "//evil\u3002example\u3002org",
    "/\u202e//evil.example.org",
    "\ufeff//evil.example.org",
    "/;//evil.example.org",
    "/.//evil.example.org",
    "/..//evil.example.org",
    "?next=//evil.example.org",
    "#//evil.example.org",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "data:text/html,x",
    "vbscript:x",
    "file:///etc/passwd",
    "blob:https://evil.example.org/x",
    "view-source:https://evil.example.org",
)


@pytest.mark.parametrize("text", ELSEWHERE, ids=ascii)
@pytest.mark.parametrize("before", ["", HERE, f"{HERE}/", f"{HERE}/status", DASHBOARD_PATH])
def test_no_spelling_leads_to_another_site(text: str, before: str) -> None:
    assert safe_place(before + text) == ""
    assert _PLACE.fullmatch(before + text) is None  # the edge's own word


@pytest.mark.parametrize("text", [HERE, f"{HERE}/", f"{HERE}/status", f"{HERE}/a-b/c_d.js~/"])
def test_the_edge_takes_for_a_dashboard_what_the_server_does(text: str) -> None:
    assert _PLACE.fullmatch(text) is not None


def test_a_place_has_its_bound() -> None:
    longest = f"{HERE}/" + "a" * (MAX_GOES_TO - len(HERE) - 1)
    assert safe_place(longest) == longest
    assert safe_place(longest + "a") == ""
