"""Which headers pass between a browser and a dashboard, and how they are changed. Pure.

A dashboard runs its owner's code. It must never see the caller's credentials, nor say anything to
the browser that holds for more than its own path: other dashboards and the edge itself are of the
same origin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from gateway.wire import OWN_COOKIES

Headers = Sequence[tuple[str, str]]
HOP_BY_HOP = frozenset(  # RFC 9110 §7.6.1, and what the edge does by itself
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
        "content-length",
    }
    | {
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-authentication-info",
        "expect",
        "http2-settings",
        "host",
    }
)
CREDENTIALS = frozenset({"authorization", "cookie", "cookie2", "x-api-key", "x-auth-token"})
FORWARDING = frozenset({"forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip"})
# What a browser keeps, or asks, for the whole origin and not for one path.
ORIGIN_WIDE = frozenset(
    {
        "strict-transport-security",
        "public-key-pins",
        "alt-svc",
        "clear-site-data",
        "service-worker-allowed",
        "www-authenticate",
    }
    | {
        "authentication-info",
        "nel",
        "report-to",
        "reporting-endpoints",
        "set-cookie2",
        "refresh",
        "origin-agent-cluster",
        "sourcemap",
    }
)


def to_dashboard(headers: Headers) -> list[tuple[str, str]]:
    """Return what a dashboard is told: no credentials, nothing that names a hop, no name that could
    be taken for another."""
    dropped = HOP_BY_HOP | CREDENTIALS | FORWARDING | _named_by_connection(headers)
    passed = []
    for name, value in headers:
        lowered = name.lower()
        if (
            lowered not in dropped
            and not lowered.startswith(("x-forwarded-", "sec-websocket-"))
            and "_" not in name
        ):
            passed.append((name, value))
    others = [f"{name}={value}" for name, value in cookies(headers) if name not in OWN_COOKIES]
    if others:
        passed.append(("Cookie", "; ".join(others)))
    return passed


def from_dashboard(headers: Headers, base: str, root: str) -> list[tuple[str, str]]:
    """Return what a browser is told: `base` is the dashboard's own address, `root` its path behind
    the edge, without a slash at the end."""
    dropped = HOP_BY_HOP | ORIGIN_WIDE | _named_by_connection(headers)
    passed = []
    for name, value in headers:
        lowered = name.lower()
        if lowered in dropped:
            continue
        if lowered in ("location", "content-location"):
            value = relocated(value, base, root)
        elif lowered == "set-cookie":
            cookie = recookied(value, root)
            if cookie is None:
                continue
            value = cookie
        passed.append((name, value))
    return passed


def _named_by_connection(headers: Headers) -> frozenset[str]:
    return frozenset(
        word.strip().lower()
        for name, value in headers
        if name.lower() == "connection"
        for word in value.split(",")
    )


def cookies(headers: Headers) -> Iterator[tuple[str, str]]:
    """Yield every cookie of a request, as it stands; one without a name has an empty one."""
    for name, value in headers:
        if name.lower() == "cookie":
            for pair in value.split(";"):
                left, equals, right = pair.partition("=")
                if pair.strip():
                    yield (left.strip(), right.strip()) if equals else ("", left.strip())


def session_cookies(headers: Headers, own: str) -> Iterable[str]:
    """Return the values of our own cookie: several, if something else has set it for a shorter
    path."""
    return (value for name, value in cookies(headers) if name == own)


def relocated(location: str, base: str, root: str) -> str:
    """Return where a dashboard's redirect leads to behind the edge; one to another host becomes the
    dashboard's front page."""
    if location == base or location.startswith((base + "/", base + "?")):
        return root + (location[len(base) :] or "/")
    try:
        parts = urlsplit(location)
    except ValueError:
        return f"{root}/"
    if (
        parts.scheme
        or parts.netloc
        or "\\" in location
        or any(ord(letter) < 33 for letter in location)
    ):
        return f"{root}/"
    return root + location if location.startswith("/") else location


def recookied(text: str, root: str) -> str | None:
    """Return a Set-Cookie that holds for the dashboard's path alone; None if it would set our own
    cookie or has no name.

    A cookie without a name is sent back as its bare value, which may look like any other cookie.
    """
    pair, *attributes = text.split(";")
    name, equals, _ = pair.partition("=")
    lowered = name.strip().lower()
    if (
        not equals
        or not lowered
        or lowered in OWN_COOKIES
        or lowered.startswith(("__host-", "__secure-"))
    ):
        return None
    path, kept = "/", [pair.strip()]
    for attribute in attributes:
        key, _, value = attribute.partition("=")
        lowered = key.strip().lower()
        if lowered == "path":
            path = value.strip()
        elif lowered not in ("domain", "partitioned"):
            kept.append(attribute.strip())
    if not path.startswith("/"):
        path = "/"
    own = path if path == root or path.startswith(root + "/") else root + path
    return "; ".join([*(word for word in kept if word), f"Path={own}"])
