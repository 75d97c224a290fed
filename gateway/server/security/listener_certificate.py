"""What the listener shows to agents and distant edges, and what they verify it by: the
administrator's certificate, or one of our own.

gRPC asks at every handshake what is to be shown (in a thread of its own), so a certificate is
changed under a server that runs: our own is made anew at half its life, the administrator's is read
again when its files change.
"""

from __future__ import annotations

import datetime
import logging
import os
import pathlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from gateway.configfile import ConfigurationError
from gateway.server.security import certificates
from gateway.server.security.authority import Authority
from gateway.wire import LISTENER_NAME

logger = logging.getLogger(__name__)

LIFETIME = datetime.timedelta(days=90)
HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Shown:
    """Certificate chain and key, as PEM."""

    certificate: bytes
    key: bytes


class ListenerCertificate(Protocol):
    """A certificate and how it is verified."""

    server_name: str  # by which it is verified; empty: the name by which the listener is dialled

    def shown(self) -> Shown:
        """Return what is shown now. Never fails once it was called."""

    def ca(self) -> bytes:
        """Return what it is verified by, as PEM; nothing else is to be believed."""


class OwnCertificate:
    """One that our own authority signs, by whose fixed name it is verified, whatever the
    address."""

    server_name = LISTENER_NAME

    def __init__(self, authority: Authority, hosts: Sequence[str], now: Callable[[], int]) -> None:
        """`hosts`: more names and addresses, for who verifies by them."""
        self._authority, self._now = authority, now
        self._names = [LISTENER_NAME, *HERE, *(host for host in hosts if host and host.isascii())]
        self._lock = threading.Lock()
        self._shown: Shown | None = None
        self._from, self._until = 0, 0  # ms: within, it is shown

    def shown(self) -> Shown:
        """Return it; made anew where half its life is over, or where the clock was set."""
        with self._lock:
            now = self._now()
            if self._shown is None or not self._from <= now < self._until:
                self._shown = Shown(*self._authority.sign_server(self._names, now, LIFETIME))
                skew_ms, half_ms = (
                    int(span.total_seconds() * 1000) for span in (certificates.SKEW, LIFETIME / 2)
                )
                self._from, self._until = now - skew_ms, now + half_ms
            return self._shown

    def ca(self) -> bytes:
        """Return our authority's certificate."""
        with self._lock:
            return self._authority.certificate(self._now())


class GivenCertificate:
    """The administrator's, verified by the name in the address."""

    server_name = ""

    def __init__(self, certificate: str, key: str, ca: str, owner: str = "c.DaskGateway") -> None:
        """Paths of PEM files, settings of `owner`; an empty `ca` is the certificate itself.
        ConfigurationError if they cannot be used."""
        self._settings = f"{owner}.tls_cert, tls_key, tls_ca"
        self._paths, self._ca_path = (
            (pathlib.Path(certificate), pathlib.Path(key)),
            pathlib.Path(ca or certificate),
        )
        self._stamp = self._stamp_now()
        self._lock = threading.Lock()
        try:
            self._shown, self._ca = _read(*self._paths), _bundle(self._ca_path)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{self._settings}: {_words(error)}") from None

    def shown(self) -> Shown:
        """Return what the files hold; where they cannot be used that is logged once, and the old
        one stays."""
        with self._lock:
            self._follow()
            return self._shown

    def ca(self) -> bytes:
        """Return the bundle."""
        with self._lock:
            self._follow()
            return self._ca

    def _follow(self) -> None:
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._shown, self._ca = _read(*self._paths), _bundle(self._ca_path)
            logger.info("the listener's certificate was read again")
        except (OSError, ValueError) as error:
            logger.error("%s: %s; the old one stays", self._settings, _words(error))

    def _stamp_now(self) -> tuple[int, ...]:
        """Return what changes when the files do."""
        try:
            found = [os.stat(path) for path in (*self._paths, self._ca_path)]
        except OSError:
            return ()
        return tuple(
            part for status in found for part in (status.st_ino, status.st_mtime_ns, status.st_size)
        )


def _read(certificate: pathlib.Path, key: pathlib.Path) -> Shown:
    """Return both; OSError or ValueError if they are not a certificate and its key."""
    shown = Shown(certificate.read_bytes(), key.read_bytes())
    try:
        chain = x509.load_pem_x509_certificates(shown.certificate)
    except ValueError:
        raise ValueError(f"{certificate} holds no certificate (PEM)") from None
    try:
        private = serialization.load_pem_private_key(shown.key, None)
    # the library raises several types for what is no key, and for an encrypted one
    except Exception:
        raise ValueError(f"{key} holds no private key (PEM, not encrypted)") from None
    if private.public_key() != chain[0].public_key():
        raise ValueError(f"{key} is not the key of the first certificate in {certificate}")
    return shown


def _bundle(path: pathlib.Path) -> bytes:
    content = path.read_bytes()
    try:
        x509.load_pem_x509_certificates(content)
    except ValueError:
        raise ValueError(f"{path} holds no certificate (PEM)") from None
    return content


def _words(error: OSError | ValueError) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
