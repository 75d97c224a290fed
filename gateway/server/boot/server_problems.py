"""What is wrong with the server's own settings, as far as they and the files that they name
tell."""

from __future__ import annotations

import datetime
import os
import pathlib
from collections.abc import Sequence
from urllib.parse import urlsplit

from gateway import checks
from gateway.checks import named
from gateway.networks import is_loopback, literal
from gateway.server.boot.config import DaskGateway

DATABASE_LIKE = "sqlite:////path/to/file"


def problems(server: DaskGateway) -> list[str]:
    """Return what is wrong, one line each with the setting's name, its value and what would be
    right."""
    found = named("c.DaskGateway.address", checks.address(server.address))
    found += named("c.DaskGateway.state_dir", checks.directory(server.state_dir))
    found += named("c.DaskGateway.backends", _backends(server.backends))
    found += named("c.DaskGateway.public_url", public_url(server.public_url))
    found += named("c.DaskGateway.agent_address", agent_address(server.agent_address))
    found += named("c.DaskGateway.database", database(server.database))
    found += _tls(server)
    return found or named("c.DaskGateway.tls_cert", _unverified(server))


def hints(server: DaskGateway, away: Sequence[str] = ()) -> list[str]:
    """Return what has no effect, or will not work for long. `away`: backends whose schedulers run
    on other machines."""
    found = named("c.DaskGateway.agent_address", _only_here(server, away))
    if server.tls_ca and not server.tls_cert:
        found.append(
            f"c.DaskGateway.tls_ca: {server.tls_ca} has no effect without tls_cert: agents verify"
            f" the installation's own authority"
        )
    if server.tls_cert:
        now = datetime.datetime.now(datetime.UTC)
        found += named("c.DaskGateway.tls_cert", checks.expiry(server.tls_cert, now))
    return found


def _backends(names: list[str]) -> str:
    if not names:
        return "must name at least one backend, such as ['local'], not []"
    twice = sorted({name for name in names if names.count(name) > 1})
    return f"{names!r} names {twice[0]!r} twice; name each once" if twice else ""


def public_url(text: str) -> str:
    """What is wrong with the address that users know the edge by."""
    if not text:
        return ""
    return checks.url(text, like="https://host or http://host:port") or checks.prefix(
        urlsplit(text).path
    )


def agent_address(text: str) -> str:
    """What is wrong with the address that agents dial."""
    if not text:
        return ""
    like = "https://host:port or unix:/path"
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or path.startswith("//"):
            return f"must be {like}, not {text!r}: a socket's path begins with one /"
        if len(os.fsencode(path)) > checks.MAX_SOCKET_PATH:
            return f"{path}: a socket's path has at most {checks.MAX_SOCKET_PATH} bytes"
        return ""
    wrong = checks.url(text, ("https",), like=like, path=False)
    if wrong and text.startswith("http://"):
        return (
            f"must be {like}, not {text!r}: agents would send their tokens to whoever has the port"
        )
    if not wrong and text.endswith("/"):
        return f"must be {like}, not {text!r}: nothing follows the port"
    return wrong.replace("must look like", "must be")


def database(text: str) -> str:
    """What is wrong with the database's address."""
    if not text:
        return ""
    wrong = f"must be {DATABASE_LIKE}, not {text!r}"
    if not text.startswith("sqlite:"):
        return wrong
    if not text.startswith("sqlite:///") or text == "sqlite:///":
        return f"{wrong}: the path is missing"
    path = text.removeprefix("sqlite:///")
    if not path.startswith("/") or path.startswith("//"):
        whole = pathlib.Path(path.lstrip("/") if path.startswith("//") else path).absolute()
        return f"{wrong}: the path must begin with /, as in sqlite:///{whole}"
    if "?" in path or "#" in path or "\0" in path:
        return f"{wrong}: nothing follows the path"
    if path.endswith("/") or os.path.isdir(path):
        return f"{path} is a directory; name a file in it"
    wrong = checks.directory(os.path.dirname(path))
    return f"{path}: {wrong}" if wrong else ""


def _tls(server: DaskGateway) -> list[str]:
    if bool(server.tls_cert) != bool(server.tls_key):
        return [
            f"c.DaskGateway.tls_cert and tls_key: set both or none; tls_cert is"
            f" {server.tls_cert!r}, tls_key is {server.tls_key!r}"
        ]
    found = []
    if server.tls_cert:
        certificate, key = checks.key_pair(server.tls_cert, server.tls_key)
        found += named("c.DaskGateway.tls_cert", certificate)
        found += named("c.DaskGateway.tls_key", key)
        if server.tls_ca:
            found += named("c.DaskGateway.tls_ca", checks.bundle(server.tls_ca))
    return found


def _only_here(server: DaskGateway, away: Sequence[str]) -> str:
    """Why schedulers on other machines would not find this server."""
    host = dialled_host(server)[0]
    address = literal(host)
    here = is_loopback(host) or (address is not None and address.is_unspecified)
    if not away or not (server.agent_address.startswith("unix:") or here):
        return ""
    which = (
        f"agent_address {server.agent_address}" if server.agent_address else f"{host} of address"
    )
    return (
        f"schedulers of backend {' and '.join(away)} run on other machines, where {which} is those"
        f" machines themselves; set c.DaskGateway.address to 0.0.0.0:8001, say, and agent_address"
        f" to https://HOST:8001 with this machine's name (where they run on this machine too, the"
        f" backend's setting `local` is to be True)"
    )


def _unverified(server: DaskGateway) -> str:
    """Why agents would not accept the administrator's certificate."""
    if not server.tls_cert or server.agent_address.startswith("unix:"):
        return ""
    host, dialled = dialled_host(server)
    why = checks.verified(server.tls_cert, server.tls_key, server.tls_ca or server.tls_cert, host)
    if not why:
        return ""
    roots = f"tls_ca {server.tls_ca}" if server.tls_ca else "tls_cert itself, as tls_ca is not set"
    return (
        f"agents, which dial {dialled} and trust {roots}, would not accept {server.tls_cert}: {why}"
    )


def dialled_host(server: DaskGateway) -> tuple[str, str]:
    """Return the host by whose name agents verify the listener, and how that follows."""
    if server.agent_address:
        return urlsplit(
            server.agent_address
        ).hostname or "", f"agent_address {server.agent_address}"
    host = (checks.parts(server.address) or ("", 0))[0]
    shown = "127.0.0.1" if host in checks.EVERYWHERE else host
    return shown, f"{shown}, as agent_address is not set"
