"""What is wrong with the edge's settings, as far as they and the files that they name tell."""

from __future__ import annotations

import datetime
import os
from typing import TYPE_CHECKING

from gateway import checks
from gateway.checks import named
from gateway.networks import is_loopback, parse_address
from gateway.wire import SNI_SUFFIX, uid_of_server_name

if TYPE_CHECKING:
    from gateway.proxy.config import Proxy

SERVER_LIKE = "unix:/path or https://host:port"


def problems(options: Proxy, *, beside_server: bool) -> list[str]:
    """Return what is wrong, one line each with the setting's name, its value and what would be
    right."""
    found = named("c.Proxy.address", checks.address(options.address))
    found += _tls(options)
    found += outside(options)
    for network in options.scheduler_networks:
        found += named("c.Proxy.scheduler_networks", checks.network(network))
    if options.admin_address:
        found += named("c.Proxy.admin_address", checks.address(options.admin_address))
    found += _mutual(options)
    if not beside_server:
        found += _alone(options)
    return found


def hints(options: Proxy) -> list[str]:
    """Return what works and is not what anybody wants."""
    if not options.tls_cert:
        return []
    now = datetime.datetime.now(datetime.timezone.utc)
    return named("c.Proxy.tls_cert", checks.expiry(options.tls_cert, now))


def outside(options: Proxy) -> list[str]:
    """Return what is wrong with how the edge is to look from outside."""
    found = named("c.Proxy.prefix", checks.prefix(options.prefix))
    for network in options.trusted_proxies:
        found += named("c.Proxy.trusted_proxies", checks.network(network))
    for origin in options.allowed_origins:
        found += named("c.Proxy.allowed_origins", checks.origin(origin))
    return found


def _tls(options: Proxy) -> list[str]:
    if bool(options.tls_cert) != bool(options.tls_key):
        return [
            f"c.Proxy.tls_cert and tls_key: set both or none; tls_cert is {options.tls_cert!r},"
            f" tls_key is {options.tls_key!r}"
        ]
    if options.tls_cert:
        certificate, key = checks.key_pair(options.tls_cert, options.tls_key)
        return named("c.Proxy.tls_cert", certificate) + named("c.Proxy.tls_key", key)
    place = checks.parts(options.address)
    if place is None or options.insecure_ok or is_loopback(place[0]):
        return []
    return [
        f"c.Proxy.address: {options.address} is reachable from elsewhere; set tls_cert and tls_key"
        f" (or insecure_ok = True)"
    ]


def _mutual(options: Proxy) -> list[str]:
    """Return what is wrong with the way to the listener for client certificates."""
    name, address = options.mtls_name, options.mtls_address
    if bool(name) != bool(address):
        return [
            f"c.Proxy.mtls_name and mtls_address: set both or none; mtls_name is {name!r},"
            f" mtls_address is {address!r}"
        ]
    found = []
    if name and (not checks.is_host(name) or ":" in name or name != name.lower()):
        found.append(f"c.Proxy.mtls_name: must be a name in small letters, not {name!r}")
    elif name.endswith(SNI_SUFFIX) or uid_of_server_name(name) is not None:
        found.append(f"c.Proxy.mtls_name: {name} is a name that clusters have")
    if address and parse_address(address) is None:
        found.append(
            f"c.Proxy.mtls_address: must be host:port of the server's listener, not {address!r}"
        )
    return found


def _alone(options: Proxy) -> list[str]:
    """Return what is wrong with what an edge is told that no server starts."""
    found = named("c.Proxy.server_address", server_address(options.server_address))
    if options.server_ca:
        found += named("c.Proxy.server_ca", checks.bundle(options.server_ca))
    if not options.token_file:
        found.append("c.Proxy.token_file: must name the file edge.token in the server's state_dir")
    else:
        found += named("c.Proxy.token_file", checks.file(options.token_file))
    return found + named("c.Proxy.state_dir", checks.directory(options.state_dir))


def server_address(text: str) -> str:
    """What is wrong with the address of the server."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            return f"must be {SERVER_LIKE}, not {text!r}: a socket's path begins with /"
        if len(os.fsencode(path)) > checks.MAX_SOCKET_PATH:
            return f"{path}: a socket's path has at most {checks.MAX_SOCKET_PATH} bytes"
        return ""
    wrong = checks.url(text, ("https",), like=SERVER_LIKE, path=False, port=True)
    if text.startswith("http://"):
        wrong = (
            f"must be {SERVER_LIKE}, not {text!r}; over plain TCP whoever has the port would get"
            f" all passwords"
        )
    return wrong.replace("must look like", "must be")
