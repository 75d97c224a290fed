"""What the process has for itself: how many files it may open, and which ports are the gateway's own."""

from __future__ import annotations

import contextlib
import resource
from urllib.parse import urlsplit

from gateway.proxy.config import Proxy
from gateway.proxy.routes import parse_address


def raise_descriptor_limit() -> int:
    """Let the process open as many files as the administrator permits (the hard limit); return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return 2**20 if soft == resource.RLIM_INFINITY else soft


def own_ports(options: Proxy, bound: int) -> set[int]:
    """Return the ports at which the gateway itself listens: never the target of a route on this machine."""
    found = {bound}
    for text in (options.address, options.grpc_address, options.admin_address):
        address = parse_address(text)
        if address is not None:
            found.add(address[1])
    server = urlsplit(options.server_address)
    with contextlib.suppress(ValueError):
        if server.scheme in ("http", "https") and server.port:
            found.add(server.port)
    return found
