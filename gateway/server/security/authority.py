"""The installation's own certificate authority: what agents and distant edges know this server by.

It signs one thing, the listener's certificate. Its key is made once and kept; its certificate is
made anew with the same key long before it ends, so that every copy ever handed out is good for
years, whoever keeps it.
"""

from __future__ import annotations

import datetime
import logging
import os
import pathlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.configfile import ConfigurationError
from gateway.files import read_kept, write_kept
from gateway.server.security import certificates
from gateway.wire import AUTHORITY_NAME

logger = logging.getLogger(__name__)

KEY_FILE = "authority.key"
CA_FILE = "server-ca.pem"  # what an edge on another machine is given
LIFETIME = datetime.timedelta(days=20 * 365)
# a certificate that is handed out is good for at least so long
HANDED_OUT = datetime.timedelta(days=10 * 365)
SHOWN_MS = 60_000  # how long what was returned is returned again
BACKDATED = datetime.timedelta(days=1)  # clocks of nodes may be wrong


class Authority:
    """Key and certificate of the authority, kept in a directory."""

    def __init__(
        self,
        directory: pathlib.Path,
        key: ec.EllipticCurvePrivateKey,
        certificate: x509.Certificate | None,
    ) -> None:
        self._directory, self._key, self._certificate = directory, key, certificate
        self._shown = 0, 0, b""  # what was returned last, and when that holds (ms)

    @classmethod
    def load(cls, directory: pathlib.Path) -> Authority:
        """Return the authority that a directory holds, made if there is none. ConfigurationError if
        it can be neither read nor kept."""
        try:
            key = _read_key(directory / KEY_FILE) or _make_key(directory / KEY_FILE)
            certificate = _read_certificate(directory / CA_FILE)
        except OSError as error:
            name = error.filename or directory / KEY_FILE
            raise ConfigurationError(
                f"c.DaskGateway.state_dir: {name}: {error.strerror or error}"
            ) from None
        return cls(
            directory,
            key,
            certificate if certificate is not None and _is_of(certificate, key) else None,
        )

    def certificate(self, now: int) -> bytes:
        """Return the certificate (PEM), good at `now` (ms) and for years; made anew, and kept, if
        the one there is would end earlier."""
        if self._shown[0] <= now < self._shown[1]:
            return self._shown[2]
        at = certificates.instant(now)
        kept = self._certificate
        if (
            kept is None
            or at < kept.not_valid_before_utc
            or at + HANDED_OUT > kept.not_valid_after_utc
        ):
            kept = self._certificate = certificates.make_authority(
                AUTHORITY_NAME, self._key, at - BACKDATED, at + LIFETIME
            )
            self._keep(certificates.pem(kept))
        # every scheduler's start asks for it
        self._shown = now, now + SHOWN_MS, certificates.pem(kept)
        return self._shown[2]

    def _keep(self, content: bytes) -> None:
        try:
            write_kept(self._directory / CA_FILE, content)
        except OSError as error:
            logger.error(
                "%s cannot be written: %s", self._directory / CA_FILE, error.strerror or error
            )

    def sign_server(
        self, names: certificates.Names, now: int, lifetime: datetime.timedelta
    ) -> tuple[bytes, bytes]:
        """Return certificate and key (PEM) of a server with these names, good from now on."""
        key = ec.generate_private_key(ec.SECP256R1())
        begins, ends = (
            certificates.instant(now) - certificates.SKEW,
            certificates.instant(now) + lifetime,
        )
        leaf = certificates.make_server(
            AUTHORITY_NAME, self._key, key.public_key(), names, begins, ends
        )
        return certificates.pem(leaf), certificates.key_pem(key)


def _read_key(path: pathlib.Path) -> ec.EllipticCurvePrivateKey | None:
    """Return the key, None if there is none or it is broken."""
    content = read_kept(path)
    if content is None:
        return None
    if os.stat(path).st_mode & 0o077:
        raise OSError(1, "others can read it; chmod 600 it", str(path))
    try:
        key = serialization.load_pem_private_key(content, None)
    except Exception:  # the library raises several types for what is no key
        key = None
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    logger.error(
        "%s holds no key, and is made anew: clusters that run do not know this server any more,"
        " and will fail",
        path,
    )
    return None


def _make_key(path: pathlib.Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    write_kept(path, certificates.key_pem(key))
    return key


def _read_certificate(path: pathlib.Path) -> x509.Certificate | None:
    content = read_kept(path)
    try:
        return x509.load_pem_x509_certificate(content) if content is not None else None
    except ValueError:
        logger.warning("%s holds no certificate, and is made anew", path)
        return None


def _is_of(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    """Whether it is this key's own."""
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return certificate.public_key() == key.public_key()
