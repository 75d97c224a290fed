"""How certificates are made: of a small authority for each cluster, and of the server's own
(`authority.py`).

A cluster's are what scheduler, workers and clients prove themselves by, and mean nothing to
another's. ECDSA on P-256 (FIPS 186-5), X.509 v3 (RFC 5280). Making them takes milliseconds of CPU:
callers do it in a thread.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.server.security import tokens
from gateway.wire import server_name

SKEW = datetime.timedelta(minutes=5)  # clocks of nodes differ
MAX_KEY_TEXT = 16 * 1024
RSA_BITS = (2048, 8192)
ALLOWED = "EC P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits"

# What is the same in every certificate of a kind.
_AUTHORITY_USAGE = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
_LEAF_USAGE = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
_BOTH_PURPOSES = x509.ExtendedKeyUsage(
    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
)
_SERVER_PURPOSE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
_CLIENT_PURPOSE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
_IS_AUTHORITY, _IS_LEAF = (
    x509.BasicConstraints(ca=True, path_length=0),
    x509.BasicConstraints(ca=False, path_length=None),
)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


_SCHEDULER, _WORKER = _name("scheduler"), _name("worker")

Names = Sequence[str]  # DNS names and addresses, the first of which is the subject's too
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class ClusterSecrets:
    """Everything secret of one cluster; certificates and keys as PEM."""

    ca_certificate: bytes
    ca_key: bytes
    scheduler_certificate: bytes
    scheduler_key: bytes
    worker_certificate: bytes
    worker_key: bytes
    agent_token: str


def make_cluster_credentials(uid: str, *, now: int, lifetime_s: float) -> ClusterSecrets:
    """Return a new cluster's authority and leaves, valid from `now` (ms) for `lifetime_s`."""
    begins = instant(now) - SKEW
    ends = instant(now) + datetime.timedelta(seconds=lifetime_s)
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = _issuer(_name(f"daskgateway cluster {uid}"), key)
    scheduler_key, worker_key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    authority = _authority(issuer, begins, ends)
    names = _dns(server_name(uid)), _dns(f"worker.{server_name(uid)}")
    leaves = _leaves(issuer, begins, ends)
    scheduler = _leaf(
        leaves, issuer, scheduler_key.public_key(), _SCHEDULER, names[0], _BOTH_PURPOSES
    )
    worker = _leaf(leaves, issuer, worker_key.public_key(), _WORKER, names[1], _BOTH_PURPOSES)
    return ClusterSecrets(
        ca_certificate=pem(authority),
        ca_key=key_pem(key),
        scheduler_certificate=pem(scheduler),
        scheduler_key=key_pem(scheduler_key),
        worker_certificate=pem(worker),
        worker_key=key_pem(worker_key),
        agent_token=tokens.mint("agent").text,
    )


def make_authority(
    common: str, key: ec.EllipticCurvePrivateKey, begins: datetime.datetime, ends: datetime.datetime
) -> x509.Certificate:
    """Return an authority's own certificate."""
    return _authority(_issuer(_name(common), key), begins, ends)


def make_server(
    common: str,
    key: ec.EllipticCurvePrivateKey,
    public_key: ec.EllipticCurvePublicKey,
    names: Names,
    begins: datetime.datetime,
    ends: datetime.datetime,
) -> x509.Certificate:
    """Return a server's certificate, signed by the authority of this common name and key."""
    found: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    alternatives = x509.SubjectAlternativeName(found)
    issuer = _issuer(_name(common), key)
    return _leaf(
        _leaves(issuer, begins, ends),
        issuer,
        public_key,
        _name(names[0]),
        alternatives,
        _SERVER_PURPOSE,
    )


def sign_client(
    secrets: ClusterSecrets, public_key_pem: str, *, user: str, now: int, ttl_s: float
) -> tuple[str, int]:
    """Return a client's certificate (PEM) and the instant it expires; ValueError says what is wrong
    with the key."""
    public_key = _public_key(public_key_pem)
    authority = x509.load_pem_x509_certificate(secrets.ca_certificate)
    key = serialization.load_pem_private_key(secrets.ca_key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    ends = min(instant(now) + datetime.timedelta(seconds=ttl_s), authority.not_valid_after_utc)
    begins = max(instant(now) - SKEW, authority.not_valid_before_utc)
    issuer = _issuer(authority.subject, key)
    leaves = _leaves(issuer, begins, ends)
    certificate = _leaf(leaves, issuer, public_key, _name(user), None, _CLIENT_PURPOSE)
    return pem(certificate).decode(), int(ends.timestamp() * 1000)


def _public_key(text: str) -> PublicKey:
    if len(text) > MAX_KEY_TEXT:
        raise ValueError(f"must have at most {MAX_KEY_TEXT} characters")
    try:
        key = serialization.load_pem_public_key(text.encode())
    except Exception:  # the library raises several types for what is no key
        raise ValueError(f"must be a public key as PEM (SubjectPublicKeyInfo): {ALLOWED}") from None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(
        key.curve, ec.SECP256R1 | ec.SECP384R1
    ):
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, rsa.RSAPublicKey) and RSA_BITS[0] <= key.key_size <= RSA_BITS[1]:
        return key
    raise ValueError(f"must be {ALLOWED}")


def instant(at: int) -> datetime.datetime:
    """Return an instant given in ms since the epoch."""
    return datetime.datetime.fromtimestamp(at // 1000, datetime.timezone.utc)


def _dns(name: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName(name)])


@dataclass(frozen=True, slots=True)
class _Issuer:
    """Who signs."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey
    public_key: ec.EllipticCurvePublicKey
    identifier: x509.SubjectKeyIdentifier


def _issuer(name: x509.Name, key: ec.EllipticCurvePrivateKey) -> _Issuer:
    public_key = key.public_key()
    return _Issuer(name, key, public_key, x509.SubjectKeyIdentifier.from_public_key(public_key))


def _authority(
    issuer: _Issuer, begins: datetime.datetime, ends: datetime.datetime
) -> x509.Certificate:
    return (
        _builder(issuer, begins, ends)
        .subject_name(issuer.name)
        .public_key(issuer.public_key)
        .serial_number(x509.random_serial_number())
        .add_extension(_IS_AUTHORITY, critical=True)
        .add_extension(_AUTHORITY_USAGE, critical=True)
        .add_extension(issuer.identifier, critical=False)
        .sign(issuer.key, hashes.SHA256())
    )


def _leaves(
    issuer: _Issuer, begins: datetime.datetime, ends: datetime.datetime
) -> x509.CertificateBuilder:
    """Return what all leaves have that are signed by one authority at a time."""
    signed_by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer.identifier)
    return (
        _builder(issuer, begins, ends)
        .add_extension(_IS_LEAF, critical=True)
        .add_extension(_LEAF_USAGE, critical=True)
        .add_extension(signed_by, critical=False)
    )


def _leaf(
    leaves: x509.CertificateBuilder,
    issuer: _Issuer,
    public_key: PublicKey,
    subject: x509.Name,
    names: x509.SubjectAlternativeName | None,
    purposes: x509.ExtendedKeyUsage,
) -> x509.Certificate:
    identifier = x509.SubjectKeyIdentifier.from_public_key(public_key)
    builder = (
        leaves.subject_name(subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .add_extension(purposes, critical=False)
        .add_extension(identifier, critical=False)
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


def _builder(
    issuer: _Issuer, begins: datetime.datetime, ends: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer.name)
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
