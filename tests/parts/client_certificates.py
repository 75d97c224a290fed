"""Authorities of the tests' own, and certificates by them: right ones, and all that are not."""

from __future__ import annotations

import datetime
import ipaddress
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
ROBOT = "spiffe://example.org/robot/"


def uri(user: str) -> str:
    """Return what a robot's certificate names."""
    return ROBOT + user


@dataclass(frozen=True)
class Pair:
    """A certificate with its key, in files."""

    certificate: x509.Certificate
    cert: pathlib.Path
    key: pathlib.Path
    secret: ec.EllipticCurvePrivateKey

    @property
    def chain(self) -> bytes:
        """The certificate as PEM, with those above it that were told."""
        return self.cert.read_bytes()


class Authority:
    """Signs."""

    def __init__(self, directory: pathlib.Path, name: str, above: Authority | None = None) -> None:
        """`above`: who signs this one's own certificate; itself by default."""
        self.directory, self.name, self.above = directory, name, above
        self.key = ec.generate_private_key(ec.SECP256R1())
        builder = _named(name, above.name if above else name, self.key, -DAY, 30 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        self.certificate = builder.sign((above or self).key, hashes.SHA256())
        self.path = directory / f"{name}.pem"
        self.path.write_bytes(self.pem)
        self._made = 0

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def server(self, *names: str) -> Pair:
        """Return a server's certificate for names and addresses."""
        found: list[x509.GeneralName] = []
        for name in names:
            try:
                found.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                found.append(x509.DNSName(name))
        return self.signed(found, ExtendedKeyUsageOID.SERVER_AUTH)

    def robot(
        self,
        *uris: str,
        since: datetime.timedelta = -DAY,
        until: datetime.timedelta = DAY,
        dns: Sequence[str] = (),
    ) -> Pair:
        """Return a client's certificate that names URIs; times are from now."""
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(one) for one in uris]
        names += [x509.DNSName(one) for one in dns]
        return self.signed(names, ExtendedKeyUsageOID.CLIENT_AUTH, since, until)

    def signed(
        self,
        names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        since: datetime.timedelta = -DAY,
        until: datetime.timedelta = DAY,
    ) -> Pair:
        """Return a certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _named("admin", self.name, key, since, until)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        made = builder.sign(self.key, hashes.SHA256())
        self._made += 1
        cert = self.directory / f"{self.name}-{self._made}.pem"
        place = cert.with_suffix(".key")
        chain = made.public_bytes(serialization.Encoding.PEM)
        cert.write_bytes(chain + (self.pem if self.above else b""))
        place.touch(mode=0o600)
        place.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return Pair(made, cert, place, key)


def _named(
    name: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    since: datetime.timedelta,
    until: datetime.timedelta,
) -> x509.CertificateBuilder:
    def called(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(called(name))
        .issuer_name(called(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + since)
        .not_valid_after(now + until)
    )
