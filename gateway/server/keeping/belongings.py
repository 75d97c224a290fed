"""Whether what the gateway keeps, and what it is told by, is in nobody else's hands. Reads owners
and modes, changes nothing."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

from gateway.custody import directory_problem, file_problem
from gateway.server.boot.settings import Settings, database_path

SECRETS = ("encryption.key", "edge.token")  # of the state directory


def problems(found: Settings) -> list[str]:
    """Return what is wrong, one line each; nothing of what does not exist yet."""
    return [*kept(found), *named(found)]


def kept(found: Settings) -> Iterator[str]:
    """Yield what is wrong with the state directory, the database and what lies beside them."""
    server = found.server
    state_dir, database = pathlib.Path(server.state_dir).expanduser(), database_path(server)
    if wrong := directory_problem(state_dir):
        yield f"c.DaskGateway.state_dir: {wrong}"
    for name in SECRETS:
        if wrong := file_problem(state_dir / name, secret=True):
            yield f"c.DaskGateway.state_dir: {wrong}"
    for suffix in ("", "-wal", "-shm"):
        if wrong := file_problem(database.with_name(database.name + suffix), secret=True):
            yield f"c.DaskGateway.database: {wrong}"


def named(found: Settings) -> Iterator[str]:
    """Yield what is wrong with files that are named."""
    server, proxy = found.server, found.proxy
    files = [
        ("DaskGateway.tls_key", server.tls_key, True),
        ("Proxy.tls_key", proxy.tls_key, True),
        ("DaskGateway.tls_cert", server.tls_cert, False),
        ("Proxy.tls_cert", proxy.tls_cert, False),
        ("DaskGateway.tls_ca", server.tls_ca, False),
    ]
    for setting, path, secret in files:
        if path and (wrong := file_problem(pathlib.Path(path), secret=secret)):
            yield f"c.{setting}: {wrong}"
