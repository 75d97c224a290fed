"""How the edge looks from outside: below which prefix, over which scheme and host, for pages of
which origins."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.configfile import ConfigurationError
from gateway.proxy.config import Proxy
from gateway.proxy.http.forwarded import Seen, networks, same_site, seen
from gateway.proxy.problems import outside
from gateway.wire import SECURE_SESSION_COOKIE, SESSION_COOKIE


class Front:
    """The edge's outside, as it is configured."""

    def __init__(self, options: Proxy) -> None:
        """ConfigurationError if a setting cannot be used."""
        if wrong := outside(options):
            raise ConfigurationError("\n".join(wrong))
        self.prefix = options.prefix.rstrip("/")  # a slash before and none behind, empty for none
        self._trusted = networks(options.trusted_proxies)
        # the public one's is among them
        self._origins = frozenset(origin.lower() for origin in options.allowed_origins)
        self._kind = options.forwarded_by

    def seen(self, request: web.BaseRequest) -> Seen:
        """Return who calls, and by which scheme and host."""
        where: Any = (
            request.transport.get_extra_info("peername") if request.transport is not None else None
        )
        secure = (
            request.transport is not None
            and request.transport.get_extra_info("sslcontext") is not None
        )
        peer = Seen(
            str(where[0]) if where else "",
            "https" if secure else "http",
            request.headers.get("Host", ""),
        )
        return seen(peer, _lower(request), self._trusted, self._kind) if self._trusted else peer

    def same_site(self, request: web.BaseRequest) -> bool:
        """Whether a request comes from a page of the edge itself, of an allowed origin, or of
        none."""
        found = self.seen(request)
        return same_site(_lower(request), found.scheme, found.host, self._origins)

    def secure(self, request: web.BaseRequest) -> bool:
        """Whether a caller's browser speaks https, as what stands before the edge or its own
        configuration tells."""
        found = self.seen(request)
        return (
            found.scheme == "https"
            or f"https://{found.host.lower().removesuffix(':443')}" in self._origins
        )

    def cookie(self, request: web.BaseRequest) -> str:
        """Return the name of our cookie for a caller."""
        return SECURE_SESSION_COOKIE if self.secure(request) else SESSION_COOKIE


def _lower(request: web.BaseRequest) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in request.headers.items():
        headers.setdefault(name.lower(), []).append(value)
    return headers
