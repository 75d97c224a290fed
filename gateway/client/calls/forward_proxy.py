"""The site's HTTP proxy, where only that leads out: which addresses are reached through it, and how
a way through it is asked for (CONNECT, RFC 9110 §9.3.6).

One decision for calls over gRPC and HTTP, for connections to schedulers, for tunnels and for the
site's identity provider. All of them speak TLS inside, so the proxy carries what it cannot read.
What this machine itself is, is never reached through a proxy.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import os
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import dask.config

from gateway.client.calls import whence
from gateway.networks import is_loopback, literal
from gateway.wire import host_port, split_host_port

SECTION = "gateway.http-client"
SETTING = f"{SECTION}.proxy"
# https_proxy, HTTPS_PROXY and so on: curl's and requests' names, in their order
VARIABLES = ("https_proxy", "all_proxy")
MAX_ANSWER_BYTES = 64 * 1024
HINTS = {
    "407": "it wants credentials: name it as http://user:password@host:port",
    "403": "it does not permit that host or port: ask who runs it, or name the host in NO_PROXY if"
    " it is reached without a proxy",
}
DEFAULT_PORT = 3128  # what squid listens on, and most sites


class ProxyRefused(OSError):
    """The proxy answered, and lets nobody through."""


@dataclass(frozen=True)
class ForwardProxy:
    """A proxy, and what named it."""

    host: str
    port: int
    source: str  # such as HTTPS_PROXY
    user: str = ""
    password: str = ""

    @property
    def url(self) -> str:
        """Its address as gRPC takes it; it holds the password."""
        parts = self._credentials
        return f"http://{parts + '@' if parts else ''}{host_port(self.host, self.port)}"

    @property
    def _credentials(self) -> str:
        return f"{self.user}:{self.password}" if self.user else ""

    def __str__(self) -> str:
        return f"the proxy http://{host_port(self.host, self.port)} ({_whence(self.source)})"

    def __repr__(self) -> str:
        return f"ForwardProxy({str(self)!r})"

    def request(self, host: str, port: int) -> bytes:
        """Return what asks for a way to a host."""
        where = host_port(host, port)
        lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
        if self.user:
            told = base64.b64encode(unquote(self._credentials).encode()).decode()
            lines.append(f"Proxy-Authorization: Basic {told}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def check(self, head: bytes, where: str) -> None:
        """Raise ProxyRefused, with what to do, unless an answer's head says that there is a way;
        another OSError where there may be one later."""
        first = head.partition(b"\r\n")[0].decode("latin-1")
        version, _, rest = first.partition(" ")
        status = rest[:3]
        if not version.startswith("HTTP/") or not status.isdigit():
            raise ProxyRefused(f"{self}: what answers there is no HTTP proxy: {first[:80]!r}")
        if status.startswith("2"):
            return
        words = f"{self} opens no way to {where}: {rest[:80].strip()}"
        if status.startswith("5"):
            raise OSError(f"{words}; it does not reach that host, or not now")
        raise ProxyRefused(f"{words}; {HINTS.get(status, HINTS['403'])}")


def proxy_for(address: str, environment: Mapping[str, str] = os.environ) -> ForwardProxy | None:
    """Return the proxy by which a gateway's address is reached, None for directly. ValueError if
    what is configured is no proxy that can be used.

    Dask's configuration goes before the environment: an address, False for none, True for what the
    environment names; NO_PROXY holds for all. Of the environment only what is for https counts: an
    http:// gateway is the site's own.
    """
    parts = urlsplit(address)
    host = parts.hostname or ""
    configured = _configured()
    if configured is False or parts.scheme not in ("http", "https") or is_loopback(host):
        return None
    if configured is None or configured is True:
        text, source = _of_environment(environment) if parts.scheme == "https" else ("", "")
    else:
        text, source = str(configured).strip(), SETTING
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if not text or excepted(host, port, _value(environment, "no_proxy")[0]):
        return None
    return parse(text, source)


def _configured() -> object:
    """Return what Dask's configuration says. A truth or an address in place of the section is meant
    for the only name that it has."""
    section = dask.config.get(SECTION, None)
    return section if isinstance(section, bool | str) else dask.config.get(SETTING, None)


def parse(text: str, source: str) -> ForwardProxy:
    """Return a proxy out of `http://user:password@host:port`, or `host:port`; ValueError says what
    would be right."""
    right = f"{_whence(source)}: must look like http://proxy.example.org:{DEFAULT_PORT}"
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
    except ValueError:  # no IPv6 address
        raise ValueError(f"{right}, and its brackets hold no address") from None
    if not parts.scheme:
        raise ValueError(f"{right}, without quotes around it")
    shown = f"{parts.scheme}://{parts.hostname or ''}"  # without the password
    wrong = f"{right}, not {shown}"
    if parts.scheme != "http":
        raise ValueError(f"{wrong}; proxies that speak {parts.scheme} are not supported")
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"{wrong} with a port that is none") from None
    if port == 0:
        raise ValueError(f"{wrong} with port 0")
    if not parts.hostname or parts.path.strip("/") or parts.query or " " in parts.hostname:
        raise ValueError(wrong)
    return ForwardProxy(
        parts.hostname, port or DEFAULT_PORT, source, parts.username or "", parts.password or ""
    )


def _whence(source: str) -> str:
    """Return what named a proxy, and where that stands."""
    return whence.place(SETTING, _configured()) if source == SETTING else source


def _of_environment(environment: Mapping[str, str]) -> tuple[str, str]:
    for name in VARIABLES:
        text, source = _value(environment, name)
        if text:
            return text, source
    return "", ""


def _value(environment: Mapping[str, str], name: str) -> tuple[str, str]:
    """Return a variable's value and spelling; small letters go before, as with curl."""
    for spelt in (name, name.upper()):
        if text := environment.get(spelt, "").strip():
            return text, spelt
    return "", ""


def excepted(host: str, port: int, exceptions: str) -> bool:
    """Whether a host is named in NO_PROXY: `*`, names with all below them, addresses, networks,
    each but the first maybe with a port."""
    entries = exceptions.replace(",", " ").lower().split()
    return any(_names(entry, host.lower().rstrip("."), port) for entry in entries)


def _names(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    address = literal(host)
    if address is not None and "/" in entry:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    place = split_host_port(entry)
    # of IPv6 only what has brackets has a port
    if place is not None and (":" not in place[0] or entry.startswith("[")):
        entry, wanted = place
        if wanted != port:
            return False
    if address is not None and entry.endswith((".", ".*")):  # 10.1. and 10.1.* are networks too
        return str(address).startswith(entry.removesuffix("*"))
    if address is not None:
        return literal(entry.removeprefix("[").removesuffix("]")) == address
    suffix = entry.removeprefix("*").strip(".")
    return bool(suffix) and (host == suffix or host.endswith(f".{suffix}"))


def connect(proxy: ForwardProxy, host: str, port: int, timeout_s: float) -> socket.socket:
    """Return a connection through a proxy to a host; OSError says why there is none. Blocks."""
    deadline = time.monotonic() + timeout_s
    try:
        made = socket.create_connection((proxy.host, proxy.port), timeout_s)
    except OSError as error:
        raise unreached(proxy, error) from error
    try:
        made.sendall(proxy.request(host, port))
        head = b""
        while b"\r\n\r\n" not in head:
            made.settimeout(max(0.001, deadline - time.monotonic()))
            # one byte at a time: what follows the head is the host's own
            piece = made.recv(1)
            if not piece or len(head) > MAX_ANSWER_BYTES:
                break
            head += piece
        proxy.check(head, host_port(host, port))
        made.settimeout(timeout_s)
        return made
    except BaseException:
        made.close()
        raise


def unreached(proxy: ForwardProxy, error: OSError) -> OSError:
    """Return the error that a proxy is not reached, which names what named it."""
    return OSError(f"{proxy} is not reached: {error.strerror or error}")


def connection(
    address: str, host: str, port: int, timeout_s: float, context: ssl.SSLContext | None
) -> http.client.HTTPConnection:
    """Return a connection for HTTP/1.1 that is opened when it is used: through a proxy where the
    address is reached by one, with TLS where there is a context."""
    proxy = proxy_for(address)
    if proxy is not None:
        return _Through(proxy, host, port, timeout_s, context)
    if context is None:
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)


class _Through(http.client.HTTPConnection):
    """A connection through a proxy, with TLS inside where there is a context."""

    def __init__(
        self,
        proxy: ForwardProxy,
        host: str,
        port: int,
        timeout_s: float,
        context: ssl.SSLContext | None,
    ) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._proxy, self._inner = proxy, context
        self._timeout_s = timeout_s

    def connect(self) -> None:
        """Open it."""
        made = connect(self._proxy, self.host, self.port, self._timeout_s)
        if self._inner is None:
            self.sock = made
            return
        try:
            self.sock = self._inner.wrap_socket(made, server_hostname=self.host)
        except BaseException:
            made.close()
            raise
