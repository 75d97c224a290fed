"""What a client certificate says: who it names, until when, and whether an authority of now stands
for it. Pure.

It travels within the server as the certificate, then those between it and the authority, each as
base64 of its DER, joined by dots. TLS has proved by then that the caller holds its key.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

MAX_LETTERS = 16 * 1024  # of a chain, as it travels
MAX_CHAIN = 5  # certificates
MAX_URI = 255  # letters


class NotTold(Exception):
    """A certificate that names nobody, in words for who shows it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One certificate."""

    uri: str
    serial: int
    fingerprint: str  # SHA-256, hexadecimal
    begins_at: int  # ms since the epoch, as is the next
    expires_at: int
    chain: tuple[x509.Certificate, ...]  # itself first


def certificates(value: str) -> tuple[x509.Certificate, ...]:
    """Return the chain in a text; none if it is malformed."""
    found = []
    for part in value.split(".", MAX_CHAIN):
        try:
            der = base64.b64decode(part, validate=True)
            if base64.b64encode(der).decode() != part:
                return ()
            found.append(x509.load_der_x509_certificate(der))
        # the library raises several types for what is no certificate
        except (binascii.Error, ValueError, TypeError):
            return ()
    return tuple(found) if len(found) <= MAX_CHAIN else ()


def read(chain: Sequence[x509.Certificate]) -> Shown:
    """Return what a certificate says; NotTold if it names not exactly one URI."""
    leaf = chain[0]
    uri = _uri(leaf)
    begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    return Shown(
        uri,
        leaf.serial_number,
        leaf.fingerprint(hashes.SHA256()).hex(),
        int(begins.timestamp() * 1000),
        int(ends.timestamp() * 1000),
        tuple(chain),
    )


def _uri(leaf: x509.Certificate) -> str:
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    except (ValueError, x509.DuplicateExtension, UnsupportedAlgorithm):
        raise NotTold("its names cannot be read") from None
    if len(uris) != 1:
        count = "no URI" if not uris else f"{len(uris)} URIs"
        raise NotTold(f"it has {count} among its alternative names; exactly one says who calls")
    if len(uris[0]) > MAX_URI:
        raise NotTold(f"its URI has {len(uris[0])} letters; at most {MAX_URI} are read")
    if not uris[0].isascii() or not uris[0].isprintable() or " " in uris[0] or not uris[0]:
        raise NotTold("its URI holds what is no part of URIs")
    return uris[0]


def vouched(chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> bool:
    """Whether one of the roots has signed a chain, or is in it. TLS has judged the chain when the
    connection was made; this tells of roots that were taken away since."""
    for place, one in enumerate(chain):
        if any(one == root or _signed(one, root) for root in roots):
            return True
        above = chain[place + 1] if place + 1 < len(chain) else None
        if above is None or not _signed(one, above) or not _is_authority(above):
            return False
    return False


def _is_authority(one: x509.Certificate) -> bool:
    try:
        return one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return False


def _signed(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
