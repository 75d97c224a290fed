"""Whether what is configured can work: addresses, URLs, networks, files, directories, certificates.

Each function returns what is wrong and what would be right, an empty text if nothing is; whoever
asks puts the setting's name before it. They look at files and at this machine, and ask no other.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import ipaddress
import os
import pathlib
import re
import socket
import ssl
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from cryptography import x509

from gateway.wire import decimal, host_port

MAX_SOCKET_PATH = 107  # unix(7)
EVERYWHERE = ("", "0.0.0.0", "::")
HANDED_OVER = "/proc/self/fd/"  # what one process opens for another
SYSTEMS_OWN = ("/proc", "/sys", "/dev")  # where nobody makes directories
_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*\.?")
_NUMBERS = re.compile(r"[0-9.]+")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def is_host(text: str) -> bool:
    """Whether a text is a name of a host, or an address."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(text.partition("%")[0])
        return True
    return bool(_NAME.fullmatch(text)) and len(text) <= 253 and not _NUMBERS.fullmatch(text)


def parts(text: str) -> tuple[str, int] | None:
    """Return host (empty: everywhere) and port of an address to listen on, None if it is none."""
    host, colon, digits = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    port = decimal(digits, 5)
    if not colon or port is None or port > 65535 or (bare and not is_host(bare)):
        return None
    return bare, port


def address(text: str) -> str:
    """What is wrong with an address to listen on."""
    if parts(text) is not None:
        return ""
    return f"must be host:port, such as 127.0.0.1:8000, not {text!r}"


def url(
    text: str,
    schemes: Sequence[str] = ("https", "http"),
    *,
    like: str = "https://host or http://host:port",
    path: bool = True,
    port: bool = False,
) -> str:
    """What is wrong with the address of a server. `path`: whether it may have one; `port`: whether
    it must."""
    wrong = f"must look like {like}, not {text!r}"
    try:
        found = urlsplit(text)
        host, number = found.hostname or "", found.port
    except ValueError:
        return wrong
    if found.scheme not in schemes or not found.netloc:
        near = "" if "://" in text else text.rstrip("/").partition("/")[0]
        bare = near.partition(":")[0]
        return f"{wrong}; did you mean {schemes[0]}://{near}?" if is_host(bare) else wrong
    if not is_host(host) or number == 0 or found.username is not None:
        return wrong
    if port and number is None:
        return f"{wrong}: the port is missing"
    if found.query or found.fragment or (not path and found.path.strip("/")):
        return f"{wrong}: nothing follows the {'path' if path else 'port'}"
    return ""


def prefix(text: str) -> str:
    """What is wrong with a path that a front proxy serves the edge below."""
    if not text.rstrip("/") or _PREFIX.fullmatch(text.rstrip("/")):
        return ""
    return f"must look like /services/daskgateway, not {text!r}"


def origin(text: str) -> str:
    """What is wrong with an origin of pages."""
    return url(text, like="https://host", path=False) or (
        f"must look like https://host, not {text!r}: nothing follows the host"
        if text.endswith("/")
        else ""
    )


def network(text: str) -> str:
    """What is wrong with a network."""
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        said = str(error)
        if "host bits" in said:
            return f"{text!r} is no network: write {ipaddress.ip_network(text, strict=False)}"
        return f"{text!r} is no network such as 10.0.0.0/8: {error}"
    return ""


def file(path: str) -> str:
    """What keeps a file from being read."""
    place = pathlib.Path(path)
    if path.startswith("~"):
        return f"{path}: write the whole path, from / on; ~ is not replaced"
    try:
        with place.open("rb") as opened:
            opened.read(1)
    except OSError as error:
        return f"{path}: {_why(error)}"
    return ""


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "it is a directory; name a file"
    if isinstance(error, PermissionError):
        return "this account may not read it"
    return error.strerror or str(error)


def bundle(path: str) -> str:
    """What is wrong with a file of certificates (PEM)."""
    if wrong := file(path):
        return wrong
    try:
        found = x509.load_pem_x509_certificates(pathlib.Path(path).read_bytes())
    except (OSError, ValueError):
        found = []
    return "" if found else f"{path} holds no certificate (PEM)"


def key_pair(certificate: str, key: str) -> tuple[str, str]:
    """What is wrong with a certificate, and with its key."""
    wrong = bundle(certificate), file(key)
    if any(wrong):
        return wrong
    try:
        text = pathlib.Path(key).read_text(errors="replace")
    except OSError as error:
        return "", f"{key}: {_why(error)}"
    if "PRIVATE KEY-----" not in text:
        return "", f"{key} holds no private key (PEM)"
    if "ENCRYPTED" in text:
        return "", f"{key} holds an encrypted key, and nobody is there to type its passphrase"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", "") or ""
        if "MISMATCH" in reason:
            return "", f"{key} is not the key of the first certificate in {certificate}"
        if "CA_MD" in reason or "EE_KEY" in reason or "KEY_TOO_SMALL" in reason:
            return f"{certificate} is too weak for TLS today ({reason})", ""
        return "", f"{key} holds no private key that can be used ({reason or error})"
    return "", ""


def expiry(certificate: str, now: datetime.datetime) -> str:
    """What is wrong with the dates of the first certificate in a file that can be read."""
    try:
        first = x509.load_pem_x509_certificates(pathlib.Path(certificate).read_bytes())[0]
    except (OSError, ValueError, IndexError):
        return ""
    if now > first.not_valid_after_utc:
        return f"{certificate} expired at {first.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if now < first.not_valid_before_utc:
        return f"{certificate} is valid only from {first.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return ""


def verified(certificate: str, key: str, roots: str, name: str) -> str:
    """Why nobody who trusts `roots` alone accepts a certificate for a name or an address. All files
    must be such as can be used."""
    server, client = (
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    )
    server.load_cert_chain(certificate, key, password="")
    client.load_verify_locations(roots)
    # as gRPC's BoringSSL has it: a certificate that stands in the bundle needs none above it
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    done: set[int] = set()
    for turn in range(16):
        end = turn % 2
        try:
            ends[end].do_handshake()
            done.add(end)
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            return error.verify_message.rstrip(".")
        except ssl.SSLError as error:
            return error.reason or str(error)
        if done == {0, 1}:
            break
    return ""


def directory(path: str) -> str:
    """What keeps a directory from being made, or from being written to."""
    if not path:
        return "must name a directory"
    if path.startswith(HANDED_OVER):
        return ""
    try:
        place = pathlib.Path(path).expanduser().absolute()
    except RuntimeError as error:
        return f"{path}: {error}"
    if any(place.is_relative_to(own) for own in SYSTEMS_OWN) and not place.is_relative_to(
        "/dev/shm"
    ):
        return f"{path}: nothing can be made there"
    try:
        there = next(one for one in (place, *place.parents) if os.path.lexists(one))
    except OSError as error:
        return f"{path}: {error.strerror}"
    if not there.is_dir():
        what = "it is" if there == place else f"{there} above it is"
        return f"{path}: {what} no directory"
    if not os.access(there, os.W_OK | os.X_OK):
        what = "cannot be written to" if there == place else f"cannot be made in {there}"
        return f"{path}: {what} by this account"
    return ""


def named(setting: str, *found: str) -> list[str]:
    """Return what is wrong, one line each, with the setting's name before it."""
    return [f"{setting}: {words}" for words in found if words]


def each(setting: str, found: Iterable[str]) -> list[str]:
    """Return what is wrong with the items of a setting."""
    return named(setting, *found)


def listenable(host: str, port: int, *, ours: bool = False) -> str:
    """Why a port of this machine cannot be listened on. `ours`: whether it may be held by whom it
    is for."""
    shown = host_port(host or "0.0.0.0", port)
    try:
        found = socket.getaddrinfo(
            host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        return f"cannot listen on {shown}: {host!r} leads to no address ({error.strerror})"
    try:
        with socket.socket(*found[:3]) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(found[4])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return "" if ours else f"cannot listen on {shown}: another program has the port"
        if error.errno == errno.EADDRNOTAVAIL:
            return f"cannot listen on {shown}: {host} is no address of this machine"
        if error.errno == errno.EACCES:
            return f"cannot listen on {shown}: this account may not take a port below 1024"
        return f"cannot listen on {shown}: {error.strerror}"
    return ""
