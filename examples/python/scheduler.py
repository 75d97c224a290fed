"""The TLS of one cluster's scheduler, which is reached by its name (SNI)."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import tempfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


def new_key() -> Any:
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(key: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(serialization.Encoding.PEM, form).decode())


def greeting(address: str, signed: Any, key: Any | None) -> str:
    """Tell whether the scheduler greets: it speaks first, to who has a certificate; who has none
    hears nothing of it. `address`: dgw://host:port/uid; `key`: None for no certificate."""
    context = ssl.create_default_context(cadata=signed.ca_certificate)
    if key is not None:
        with private_file(key, signed.certificate) as file:
            context.load_cert_chain(file)
    place = urlsplit(address)
    with socket.create_connection((place.hostname, place.port), timeout=30) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=signed.server_name) as secured:
                return "greeted" if secured.recv(8) else "refused"
        except ssl.SSLCertVerificationError:
            raise  # it is not the scheduler
        except (ssl.SSLError, ConnectionError):
            return "refused"


@contextlib.contextmanager
def private_file(key: Any, certificate: str) -> Iterator[str]:
    """Yield the path of a file with both, which nobody else can read."""
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    descriptor, path = tempfile.mkstemp()
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text + certificate.encode())
        yield path
    finally:
        os.unlink(path)
