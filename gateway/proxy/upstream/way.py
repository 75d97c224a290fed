"""The way to the server: its own socket on this machine, or TLS from another. Nothing is said to
anybody who may be somebody else.

On this machine the socket lies in a directory that only the server's user, or root, can write to,
and the kernel tells who listens on it. The edge's end of each connection that it relays has a name
which tells for whom; the server reads that as gRPC's peer, and believes it because nobody but the
edge gets to that directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pathlib
import secrets
import socket
import ssl
import stat
import struct
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID

from gateway.configfile import ConfigurationError
from gateway.wire import AUTHORITY_NAME, LISTENER_NAME, host_port, relayed_peer

BUSY_S = 0.02  # the server's queue of new connections is full: so long until the next try
_WRITABLE = stat.S_IWGRP | stat.S_IWOTH
_PEER = struct.Struct("3i")  # struct ucred: pid, uid, gid

Options = Sequence[tuple[str, int]]


class NotTheServer(OSError):
    """What is there may be somebody else's."""


class Upstream:
    """Connects to the server."""

    def __init__(self, address: str, ca_file: str, token_file: str) -> None:
        """ConfigurationError if the address cannot be used."""
        parts = urlsplit(address)
        self._path = address.removeprefix("unix:") if address.startswith("unix:/") else ""
        self._host, self._port = "", 0
        self._token_file = token_file
        self._count, self._mark = 0, secrets.token_hex(4)
        if not self._path:
            self._host, self._port = _https(parts.scheme, parts.netloc, address)
            self._roots, self._context = _roots(ca_file), _client_context(ca_file)
            # by which the server is verified
            self._name = LISTENER_NAME if _is_own(self._roots) else self._host

    @property
    def port(self) -> int:
        """The server's TCP port, 0 if there is none."""
        return self._port

    def channel(self, options: Options) -> grpc.aio.Channel:
        """Return a channel for the edge's own calls. `check` comes before each."""
        if self._path:
            return grpc.aio.insecure_channel(f"unix:{self._path}", options)
        named = [("grpc.ssl_target_name_override", self._name)] if self._name != self._host else []
        return grpc.aio.secure_channel(
            host_port(self._host, self._port),
            grpc.ssl_channel_credentials(self._roots),
            [*options, *named],
        )

    def check(self) -> None:
        """NotTheServer if what lies at the socket's path may be somebody else's; other OSErrors if
        nothing does."""
        if not self._path:
            return  # TLS tells
        trusted = self._trusted()
        directory = os.stat(os.path.dirname(self._path))
        if directory.st_uid not in trusted or directory.st_mode & _WRITABLE:
            raise NotTheServer(errno.EPERM, f"others can write to the directory of {self._path}")
        there = os.lstat(self._path)
        if (
            there.st_uid not in trusted
            or not stat.S_ISSOCK(there.st_mode)
            or there.st_mode & _WRITABLE
        ):
            raise NotTheServer(
                errno.EPERM, f"{self._path} is no socket of the server's user, mode 0600"
            )

    async def connect(
        self, protocol: Callable[[], asyncio.Protocol], caller: tuple[str, int]
    ) -> asyncio.Transport:
        """Return a connection, which shows the server that it is for this caller (host, port).
        OSError if there is none."""
        loop = asyncio.get_running_loop()
        if not self._path:
            transport, _ = await loop.create_connection(
                protocol, self._host, self._port, ssl=self._context, server_hostname=self._name
            )
            return transport
        made = await self._near(caller)
        try:
            transport, _ = await loop.create_unix_connection(protocol, sock=made)
        except BaseException:
            made.close()
            raise
        return transport

    async def _near(self, caller: tuple[str, int]) -> socket.socket:
        while True:
            self.check()
            made = socket.socket(
                socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            )
            try:
                self._count += 1
                made.bind(relayed_peer(f"{self._mark}-{self._count}", *caller))
                made.connect(self._path)
                _, uid, _ = _PEER.unpack(
                    made.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
                )
                if uid not in self._trusted():
                    raise NotTheServer(errno.EPERM, f"user {uid} listens on {self._path}")
                return made
            except BlockingIOError:
                made.close()
            except BaseException:
                made.close()
                raise
            await asyncio.sleep(BUSY_S)

    def _trusted(self) -> set[int]:
        """Return whose socket may be the server's: root's, one's own, and whose token the
        administrator has pointed us to."""
        trusted = {0, os.geteuid()}
        with contextlib.suppress(OSError):
            token = os.stat(self._token_file)
            if not token.st_mode & _WRITABLE:
                trusted.add(token.st_uid)
        return trusted


def _roots(ca_file: str) -> bytes | None:
    """Return whom an https server is vouched for by, None for the system's authorities."""
    try:
        return pathlib.Path(ca_file).read_bytes() if ca_file else None
    except OSError as error:
        raise ConfigurationError(f"c.Proxy.server_ca: {ca_file}: {error.strerror}") from None


def _client_context(ca_file: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"c.Proxy.server_ca: {ca_file}: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    return context


def _is_own(roots: bytes | None) -> bool:
    """Whether these are a gateway's own authority and nobody else: it signs one server, which has
    one name whatever its address."""
    try:
        found = x509.load_pem_x509_certificates(roots or b"")
    except ValueError:
        return False
    named = (
        certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME) for certificate in found
    )
    return all([name.value for name in names] == [AUTHORITY_NAME] for names in named)


def _https(scheme: str, netloc: str, address: str) -> tuple[str, int]:
    """Return host and port of an https address."""
    host, port = "", 0
    with contextlib.suppress(ValueError):
        parts = urlsplit(f"//{netloc}")
        host, port = parts.hostname or "", parts.port or 0
    if scheme != "https" or not host or not port:
        hint = (
            "; over plain TCP whoever has the port would get all passwords"
            if scheme == "http"
            else ""
        )
        raise ConfigurationError(
            f"c.Proxy.server_address: must be unix:/path or https://host:port, not"
            f" {address!r}{hint}"
        )
    return host, port
