"""Who calls by a client certificate: shown in TLS itself, so over gRPC alone, to the gateway's
listener for them. Its files are read again when they change, as short-lived certificates do."""

from __future__ import annotations

import datetime
import os
import pathlib
import ssl
import threading
from collections.abc import Mapping
from typing import Any

from cryptography import x509

from gateway.client.calls import errors, reading
from gateway.client.calls.auths import Auth, by_configuration

MAX_BYTES = 2**20


class MtlsAuth(Auth):
    """A client certificate, as robots have."""

    def __init__(self, cert: str | os.PathLike[str], key: str | os.PathLike[str] = "") -> None:
        """Take a certificate and its key.

        :param cert: PEM file with the certificate, and those between it and its authority.
        :param key: PEM file with its key, not encrypted; by default that is in `cert` too.
        """
        self._cert = _path(cert, "cert")
        self._key = _path(key, "key") if os.fspath(key) else self._cert
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] = ()
        self._pair: tuple[bytes, bytes] | None = None
        self._until: datetime.datetime | None = None
        self._read()  # what is wrong is told at once

    @classmethod
    def of(cls, arguments: Mapping[str, Any], where: str) -> MtlsAuth:
        """Return one by its configuration; ValueError names what is wrong, and where it stands."""
        if not arguments.get("cert"):
            raise ValueError(f"{where}: mtls needs cert, a PEM file with the client certificate")
        return by_configuration(cls, "mtls", arguments, where)

    def pair(self) -> tuple[bytes, bytes]:
        """Return key and certificate as PEM; NotSignedIn if the certificate has expired."""
        with self._lock:
            if _stamp(self._cert, self._key) != self._stamp:
                try:
                    self._read()
                except ValueError as error:
                    # of two files one may be new and the other not yet
                    if self._pair is None:
                        raise errors.NotSignedIn(str(error), code="UNAUTHENTICATED") from None
            pair, until = self._pair, self._until
        assert pair is not None
        if until is not None and datetime.datetime.now(datetime.timezone.utc) >= until:
            raise errors.NotSignedIn(
                f"the client certificate {self._cert} expired at {until:%Y-%m-%d %H:%M} UTC; get a"
                " new one",
                code="UNAUTHENTICATED",
            )
        return pair

    @property
    def files(self) -> tuple[str, str]:
        """Paths of certificate and key."""
        return self._cert, self._key

    def same(self) -> object:
        """Return what is equal for the same certificate."""
        return ("mtls", self._cert, self._key)

    def __repr__(self) -> str:
        return f"MtlsAuth({self._cert!r})"

    def _read(self) -> None:
        stamp = _stamp(self._cert, self._key)
        certificate, key = _content(self._cert), _content(self._key)
        if b"PRIVATE KEY-----" not in key:
            raise ValueError(f"{self._key} holds no private key (PEM)")
        if b"ENCRYPTED" in key:
            raise ValueError(f"{self._key} holds an encrypted key; it must not be")
        try:
            first = x509.load_pem_x509_certificates(certificate)[0]
        except ValueError:
            raise ValueError(f"{self._cert} holds no certificate (PEM)") from None
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(self._cert, self._key)
        except ssl.SSLError as error:
            if "MISMATCH" in (error.reason or ""):
                raise ValueError(
                    f"{self._key} is not the key of the first certificate in {self._cert}"
                ) from None
            raise ValueError(
                f"{self._cert} and {self._key} cannot be used ({error.reason or error})"
            ) from None
        except OSError as error:
            raise ValueError(f"{self._cert} cannot be read: {error.strerror}") from None
        self._stamp, self._pair, self._until = stamp, (key, certificate), _end(first)


def _end(certificate: x509.Certificate) -> datetime.datetime:
    try:
        return certificate.not_valid_after_utc
    except AttributeError:  # before version 42
        return certificate.not_valid_after.replace(tzinfo=datetime.timezone.utc)


def _path(value: str | os.PathLike[str], what: str) -> str:
    text = reading.text(os.fspath(value) if isinstance(value, os.PathLike) else value, what)
    if not text.strip():
        raise ValueError(f"{what} must name a PEM file")
    return os.path.expanduser(text.strip())


def _content(path: str) -> bytes:
    try:
        with pathlib.Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path} has more than {MAX_BYTES // 1024} KiB; is it a PEM file?")
    return content


def _stamp(*paths: str) -> tuple[int, ...]:
    try:
        found = [os.stat(path) for path in paths]
    except OSError:
        return (-1,)
    return tuple(
        part for status in found for part in (status.st_ino, status.st_mtime_ns, status.st_size)
    )
