"""Certificates and keys, right and wrong, as an administrator may have them."""

from __future__ import annotations

import datetime
import ipaddress
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAME = "gateway.example.org"
DAY = datetime.timedelta(days=1)


def make(place: pathlib.Path) -> None:
    """Write them: ca.pem signs cert.pem (of NAME, key key.pem) and here.pem (of 127.0.0.1)."""
    key, other, authority = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    now = datetime.datetime.now(datetime.UTC)
    ca = _certificate("site CA", authority, "site CA", authority, now, ca=True)
    strange = _certificate("another CA", other, "another CA", other, now, ca=True)
    named: list[x509.GeneralName] = [x509.DNSName(NAME)]
    local: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    cert = _certificate(NAME, key, "site CA", authority, now, names=named)
    here = _certificate("here", key, "site CA", authority, now, names=local)
    old = _certificate(NAME, key, "site CA", authority, now - 60 * DAY, names=named)
    for name, one in (
        ("ca", ca),
        ("strange", strange),
        ("cert", cert),
        ("here", here),
        ("expired", old),
    ):
        _write(place / f"{name}.pem", one.public_bytes(serialization.Encoding.PEM))
    for name, private, secret in (("key", key, b""), ("other", other, b""), ("locked", key, b"x")):
        sealing: serialization.KeySerializationEncryption = (
            serialization.BestAvailableEncryption(secret)
            if secret
            else serialization.NoEncryption()
        )
        text = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealing
        )
        _write(place / f"{name}.pem", text)
    _write(place / "garbage.pem", b"no certificate, no key\n")
    (place / "folder").mkdir(mode=0o700)


def _write(path: pathlib.Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    signing: ec.EllipticCurvePrivateKey,
    since: datetime.datetime,
    *,
    names: list[x509.GeneralName] | None = None,
    ca: bool = False,
) -> x509.Certificate:
    def called(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(called(name))
        .issuer_name(called(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since - DAY)
        .not_valid_after(since + 30 * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signing, hashes.SHA256())
