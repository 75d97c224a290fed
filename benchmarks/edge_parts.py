"""What the edge's benchmark needs and has not: the load generator, compiled; dask-gateway's proxy,
out of its wheel; first bytes."""

from __future__ import annotations

import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import zipfile
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "edge"  # git ignores it
PEER = "dask-gateway-server==2026.3.0"
PEER_PROXY = "dask_gateway_server/proxy/dask-gateway-proxy"
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
UID = "c" + "a" * 20
OUR_NAME = f"{UID}.daskgateway"
PEER_ID = "0123456789abcdef" * 2


@dataclass(frozen=True, slots=True)
class Parts:
    """Where they are."""

    load: pathlib.Path
    go: pathlib.Path
    haproxy: str
    nginx: str
    our_hello: pathlib.Path
    peer_hello: pathlib.Path


def parts() -> Parts:
    """Return them, made where they were not."""
    BUILD.mkdir(parents=True, exist_ok=True)
    return Parts(
        _load(),
        _go(),
        _debian("haproxy"),
        _debian("nginx"),
        _hello("ours", OUR_NAME),
        _hello("peer", f"daskgateway-{PEER_ID}"),
    )


def _load() -> pathlib.Path:
    source, made = pathlib.Path(__file__).with_name("edge_load.c"), BUILD / "edge_load"
    if not made.exists() or made.stat().st_mtime < source.stat().st_mtime:
        if shutil.which("gcc") is None:
            sys.exit("gcc is not here; this installs it: apt-get install gcc libc6-dev")
        subprocess.run(["gcc", "-O2", "-o", str(made), str(source)], check=True)
    return made


def _go() -> pathlib.Path:
    made = BUILD / "dask-gateway-proxy"
    if not made.exists():
        command = [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "download",
            "-q",
            "--no-deps",
            "-d",
            str(BUILD),
            PEER,
        ]
        subprocess.run(command, check=True)
        (wheel,) = BUILD.glob("dask_gateway_server-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            made.write_bytes(archive.read(PEER_PROXY))
        made.chmod(0o755)
    return made


def _debian(name: str) -> str:
    return shutil.which(name, path=SYSTEM_PATH) or sys.exit(
        f"{name} is not here; this installs it: make parts"
    )


def _hello(what: str, name: str) -> pathlib.Path:
    """Write what OpenSSL says first when it connects to a name."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    path = BUILD / f"{what}.hello"
    path.write_bytes(outgoing.read())
    return path


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])
