"""Whether passwords and tokens can be read, or taken, on their way to the edge, by what is
configured."""

from __future__ import annotations

from gateway.networks import is_loopback
from gateway.server.boot.settings import Settings
from gateway.server.edge.account import first_open_port
from gateway.wire import split_host_port

REMEDY = "set c.Proxy.tls_cert and tls_key"


def notes(found: Settings) -> list[str]:
    """Return what an administrator should know of it, one line each; nothing where TLS is
    spoken."""
    place = split_host_port(found.proxy.address)
    if found.proxy.tls_cert or place is None or not found.server.start_proxy:
        return []
    host, port = place
    said = []
    if not is_loopback(host):
        said.append(
            f"c.Proxy.address: {found.proxy.address} is reachable from elsewhere, and"
            f" c.Proxy.tls_cert is not set: passwords and tokens go through the network in clear"
            f" text, also between a front proxy and here; {REMEDY}"
        )
    sharing = _users_here(found)
    if sharing and (not port or port >= first_open_port()):
        said.append(
            f"c.Proxy.tls_cert is not set, and {sharing}: any user of this machine can take the"
            f" edge's port ({port or 'any free one'}) while the edge is down, and then hears the"
            f" passwords of the others, which go there in clear text; {REMEDY}"
        )
    return said


def _users_here(found: Settings) -> str:
    """Return the setting that says that users have accounts on this machine; empty if none
    does."""
    for backend in found.backends.values():
        section = f"c.{type(backend).__name__}"
        # the setting of that name of pods is a number
        if getattr(backend, "run_as_user", False) is True:
            return f"{section}.run_as_user lets users' programs run on this machine"
        if getattr(backend, "identity", "") == "sudo":
            return f"{section}.identity is 'sudo', so users have accounts on this machine"
    return ""
