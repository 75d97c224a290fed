"""What stands in front of an edge in real life: nginx, HAProxy and JupyterHub's proxy, started on
free ports and ended by id."""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator

from tests.parts import program
from tests.ports import free_port

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "edge.md"
PREFIX = "/services/daskgateway"
NGINX = "apt-get install nginx libnginx-mod-stream"
CHP = "make parts (npm's configurable-http-proxy)"
STARTS_S = 30.0


@contextlib.contextmanager
def running(directory: pathlib.Path, words: list[str], port: int) -> Iterator[None]:
    """Run a program that listens on a port, until the end of the block."""
    with (directory / "front.log").open("ab") as log:
        process = subprocess.Popen(
            words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=directory
        )
    try:
        deadline = time.monotonic() + STARTS_S
        while True:
            assert process.poll() is None, (directory / "front.log").read_text()
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", port), timeout=1),
            ):
                break
            assert time.monotonic() < deadline, f"{words[0]} does not listen on {port}"
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def documented(language: str, number: int) -> str:
    """Return a block of docs/edge.md: what it tells administrators to write is what is tried
    here."""
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(), re.DOTALL)[number]


def nginx_http(
    edge: int,
    *,
    strip: bool,
    port: int,
    certificate: tuple[pathlib.Path, pathlib.Path] | None = None,
) -> str:
    """Return nginx's configuration: HTTP alone, below the prefix."""
    tls = (
        f"listen 127.0.0.1:{port} ssl; ssl_certificate {certificate[0]}; ssl_certificate_key"
        f" {certificate[1]};"
        if certificate
        else ""
    )
    location = documented("nginx", 1)
    assert f"location {PREFIX}/ {{" in location
    return f"""
daemon off; master_process off; pid nginx.pid; error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    {documented("nginx", 0)}
    server {{
        {tls or f"listen 127.0.0.1:{port};"}
        {location.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{edge}{'/' if strip else ''}")}
    }}
}}
"""  # noqa: E501


def nginx_stream(edge: int, port: int) -> str:
    """Return nginx's configuration as a TCP balancer."""
    module = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    return f"""
{f"load_module {module};" if module.exists() else ""}
daemon off; master_process off; pid nginx.pid; error_log stderr warn;
events {{ worker_connections 512; }}
stream {{
    {documented("nginx", 2).replace("127.0.0.1:443", f"127.0.0.1:{port}").replace("127.0.0.1:8000", f"127.0.0.1:{edge}")}
}}
"""  # noqa: E501


def haproxy_tcp(edge: int, port: int) -> str:
    """Return HAProxy's configuration as a TCP balancer."""
    asked = (
        documented("haproxy", 0)
        .replace("127.0.0.1:443", f"127.0.0.1:{port}")
        .replace("127.0.0.1:8000", f"127.0.0.1:{edge}")
    )
    return f"global\n    maxconn 512\n{asked}"


@contextlib.contextmanager
def nginx(directory: pathlib.Path, configuration: str, port: int) -> Iterator[None]:
    """Run nginx."""
    (directory / "nginx.conf").write_text(configuration)
    words = [
        program("nginx", NGINX),
        "-p",
        str(directory),
        "-c",
        str(directory / "nginx.conf"),
        "-e",
        "stderr",
    ]
    with running(directory, words, port):
        yield


@contextlib.contextmanager
def haproxy(directory: pathlib.Path, configuration: str, port: int) -> Iterator[None]:
    """Run HAProxy."""
    (directory / "haproxy.cfg").write_text(configuration)
    with running(
        directory,
        [
            program("haproxy", "apt-get install haproxy"),
            "-db",
            "-f",
            str(directory / "haproxy.cfg"),
        ],
        port,
    ):
        yield


@contextlib.contextmanager
def configurable_http_proxy(directory: pathlib.Path, edge: int, port: int) -> Iterator[None]:
    """Run JupyterHub's proxy with the route that JupyterHub makes for a service; it passes the
    prefix on."""
    control = free_port()
    words = [program("configurable-http-proxy", CHP), "--ip", "127.0.0.1", "--port", str(port)]
    words += ["--api-ip", "127.0.0.1", "--api-port", str(control)]
    with running(directory, words, port):
        body = json.dumps({"target": f"http://127.0.0.1:{edge}"}).encode()
        with urllib.request.urlopen(
            f"http://127.0.0.1:{control}/api/routes{PREFIX}", body, timeout=10
        ) as answer:
            assert answer.status == 201
        yield


def self_signed(
    directory: pathlib.Path, address: str = "127.0.0.1", names: tuple[str, ...] = ()
) -> tuple[pathlib.Path, pathlib.Path]:
    """Return files of a certificate for an address, by default 127.0.0.1, and names, and its
    key."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(
                x509.NameOID.COMMON_NAME, f"front {key.private_numbers().private_value % 10**9}"
            )
        ]
    )
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(
        name,
        name,
        key.public_key(),
        x509.random_serial_number(),
        now,
        now + datetime.timedelta(days=1),
    )
    alternatives = [x509.IPAddress(ipaddress.ip_address(address)), *map(x509.DNSName, names)]
    certificate = (
        builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
        .add_extension(x509.BasicConstraints(True, 0), True)
        .sign(key, hashes.SHA256())
    )
    chain, private = directory / "cert.pem", directory / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    private.touch(mode=0o600)
    private.write_bytes(key.private_bytes(*form))
    ssl.create_default_context(cafile=str(chain))
    return chain, private
