"""What passes between a browser and a dashboard: no credentials one way, nothing that holds for the
whole origin the other."""

from __future__ import annotations

import pytest

from gateway.proxy.http.headers import from_dashboard, recookied, relocated, to_dashboard
from tests.proxy.served import UID

BASE = "http://10.0.0.1:8787"
ROOT = f"/services/daskgateway/clusters/{UID}"


def test_a_dashboard_is_told_nothing_of_the_callers_credentials_or_of_hops() -> None:
    given = [
        ("Accept", "*/*"),
        ("Authorization", "Bearer secret"),
        ("Cookie", "daskgateway_session=x; theme=dark; jupyterhub-user=1"),
        ("Connection", "keep-alive, X-Secret"),
        ("X-Secret", "1"),
        ("Keep-Alive", "5"),
        ("Proxy-Authorization", "Basic x"),
        ("TE", "trailers"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "5"),
        ("Content_Length", "6"),
        ("Forwarded", "for=1.1.1.1"),
        ("X-Forwarded-For", "1.1.1.1"),
        ("X-Real-IP", "1.1.1.1"),
        ("Host", "hub"),
        ("Expect", "100-continue"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "k"),
        ("X-Own", "a"),
        ("x-own", "b"),
    ]
    passed = [
        ("Accept", "*/*"),
        ("X-Own", "a"),
        ("x-own", "b"),
        ("Cookie", "theme=dark; jupyterhub-user=1"),
    ]
    assert to_dashboard(given) == passed


def test_a_browser_is_told_nothing_that_holds_beyond_the_dashboard() -> None:
    given = [
        ("Content-Type", "text/html"),
        ("Connection", "close, X-Hop"),
        ("X-Hop", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Strict-Transport-Security", "max-age=1"),
        ("Clear-Site-Data", '"*"'),
        ("Service-Worker-Allowed", "/"),
        ("WWW-Authenticate", "Basic"),
        ("Alt-Svc", "h3"),
        ("Refresh", "0; url=https://evil.example"),
        ("Set-Cookie", "daskgateway_session=evil"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Location", "/status"),
        ("Content-Location", f"{BASE}/x"),
    ]
    assert from_dashboard(given, BASE, ROOT) == [
        ("Content-Type", "text/html"),
        ("Set-Cookie", f"a=1; Path={ROOT}/"),
        ("Set-Cookie", f"b=2; Path={ROOT}/"),
        ("Location", f"{ROOT}/status"),
        ("Content-Location", f"{ROOT}/x"),
    ]


@pytest.mark.parametrize(
    ("location", "wanted"),
    [
        ("/status", f"{ROOT}/status"),
        (f"{BASE}/graph?a=%2F#x", f"{ROOT}/graph?a=%2F#x"),
        (BASE, f"{ROOT}/"),
        (f"{BASE}?a=1", f"{ROOT}?a=1"),
        (f"{BASE}.evil.example/", f"{ROOT}/"),
        ("status?a=1", "status?a=1"),
        ("?a=1", "?a=1"),
        ("https://evil.example/x", f"{ROOT}/"),
        ("//evil.example/x", f"{ROOT}/"),
        ("\\\\evil.example", f"{ROOT}/"),
        ("/\\evil.example", f"{ROOT}/"),
        ("javascript:alert(1)", f"{ROOT}/"),
        ("\t//evil.example", f"{ROOT}/"),
        ("http://[", f"{ROOT}/"),
    ],
)
def test_a_redirect_never_leaves_the_dashboard(location: str, wanted: str) -> None:
    assert relocated(location, BASE, ROOT) == wanted


@pytest.mark.parametrize(
    ("cookie", "wanted"),
    [
        ("a=1", f"a=1; Path={ROOT}/"),
        ("a=1; Path=/; HttpOnly; Secure", f"a=1; HttpOnly; Secure; Path={ROOT}/"),
        ("a=1; path=/x; Domain=example.org; SameSite=None", f"a=1; SameSite=None; Path={ROOT}/x"),
        (f"a=1; Path={ROOT}/x", f"a=1; Path={ROOT}/x"),
        ("a=1; Path=x", f"a=1; Path={ROOT}/"),
        ("a=1; Path=/x; Path=/y", f"a=1; Path={ROOT}/y"),
        ("daskgateway_session=1; Path=/", None),
        (" daskgateway_session =1", None),
        ("DASKGATEWAY_SESSION=1", None),
        ("=daskgateway_session=1", None),
        ("daskgateway_session", None),
        ("", None),
        ("__Host-a=1; Secure; Path=/", None),
        ("__Secure-a=1; Secure", None),
    ],
)
def test_a_cookie_holds_for_the_dashboard_alone_and_is_never_ours(
    cookie: str, wanted: str | None
) -> None:
    assert recookied(cookie, ROOT) == wanted
