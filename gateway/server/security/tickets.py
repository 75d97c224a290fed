"""Dashboard tickets: signed here with Ed25519 (RFC 8032), verified by the edge with nothing but the
public key."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.server.security.secrets import Keyring
from gateway.server.store.contract import Store, Tx
from gateway.wire import Ticket, join_ticket, split_ticket, ticket_payload

META_KEY = "ticket_signing_key"


class TicketSigner:
    """Signs tickets."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    @property
    def public_key(self) -> bytes:
        """The 32 bytes that tickets are verified by."""
        return self._key.public_key().public_bytes_raw()

    def issue(self, ticket: Ticket) -> str:
        """Return a ticket as it travels."""
        payload = ticket_payload(ticket)
        return join_ticket(payload, self._key.sign(payload))

    def read(self, text: str) -> Ticket | None:
        """Return what a ticket says that was issued here, None if it was not."""
        parts = split_ticket(text)
        if parts is None:
            return None
        try:
            self._key.public_key().verify(parts[1], parts[0])
        except InvalidSignature:
            return None
        return parts[2]


async def load_signer(store: Store, keyring: Keyring) -> TicketSigner:
    """Return the installation's signer; its key is made once and kept sealed in the store."""
    fresh = keyring.seal_bytes(os.urandom(32))

    def keep(tx: Tx) -> bytes:
        sealed = tx.meta(META_KEY)
        if sealed is None:
            tx.put_meta(META_KEY, fresh)
        return sealed or fresh

    return TicketSigner(keyring.unseal_bytes(await store.transact(keep)))
