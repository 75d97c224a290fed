"""How a client proves itself to a cluster's scheduler: a key made here, and a certificate the
gateway signs for a day.

The private key never leaves this process.
"""

from __future__ import annotations

import logging
import math
import os
import ssl
import tempfile
import threading
import time
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from daskgateway.v1 import credential_service_pb2 as pb
from distributed.security import Security

from gateway.client.calls import api, errors
from gateway.client.calls.channel import Connection

logger = logging.getLogger(__name__)

RENEW_AT = 2 / 3  # of a certificate's life
RENEW_AGAIN_S = 60.0  # where the gateway did not renew one


@dataclass(frozen=True)
class ClusterCredentials:
    """What a client shows, and what it checks the scheduler by; PEM."""

    certificate: str
    key: str
    ca_certificate: str
    server_name: str
    renew_at: float  # on the wall clock, and so is the next
    expire_at: float

    def security(self) -> Security:
        """Return them as Dask takes them."""
        return Security(
            tls_ca_file=self.ca_certificate,
            tls_client_cert=self.certificate,
            tls_client_key=self.key,
            require_encryption=True,
        )

    def ssl_context(self) -> ssl.SSLContext:
        """Return them as a context that checks the scheduler's name too."""
        context = ssl.create_default_context(cadata=self.ca_certificate)
        # ssl loads a key from files only; this one is 0600 and gone at once
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(self.certificate + self.key)
            file.flush()
            context.load_cert_chain(file.name)
        return context


def obtain(connection: Connection, name: str) -> ClusterCredentials:
    """Return new credentials for a cluster."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    request = pb.GenerateClientCertificateRequest(name=name, public_key=public.decode())
    answer = connection.call(api.GENERATE_CLIENT_CERTIFICATE, request)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    now, expire_at = time.time(), float(answer.expire_time.seconds)
    renew_at = now + (expire_at - now) * RENEW_AT
    return ClusterCredentials(
        answer.certificate, private, answer.ca_certificate, answer.server_name, renew_at, expire_at
    )


_lock = threading.Lock()
_kept: dict[str, ClusterCredentials] = {}  # by cluster's uid
# when the first that were kept for a uid are to be renewed, on the wall clock
_first_due: dict[str, float] = {}
MAX_KEPT = 256


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # a thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork)


def kept(connection: Connection, uid: str) -> ClusterCredentials:
    """Return credentials for a cluster's uid, made once and renewed in time; GatewayError if there
    are none."""
    with _lock:
        found = _kept.get(uid)
    if found is not None and found.renew_at > time.time():
        return found
    try:
        fresh = obtain(connection, f"users/-/clusters/{uid}")
    except errors.GatewayError as error:
        now = time.time()
        if found is None or found.expire_at <= now:
            raise
        logger.debug("the certificate for cluster %s is not renewed now: %s", uid, error)
        fresh = replace(found, renew_at=min(now + RENEW_AGAIN_S, found.expire_at))
    remember(uid, fresh)
    return fresh


def remember(uid: str, credentials: ClusterCredentials) -> None:
    """Keep credentials that were obtained by other means."""
    with _lock:
        if uid not in _kept and len(_kept) >= MAX_KEPT:
            oldest = next(iter(_kept))
            del _kept[oldest], _first_due[oldest]
        _kept[uid] = credentials
        _first_due.setdefault(uid, credentials.renew_at)


def outlived(uid: str) -> bool:
    """Whether a cluster's first certificate is due to be renewed: Dask's objects keep what they
    were made with for all their life."""
    with _lock:
        return _first_due.get(uid, math.inf) <= time.time()
