"""Binds keys, certificates, tokens and tickets to the ports of the use cases. What computes runs in
threads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gateway.fair import FairPool
from gateway.server.core.model import Principal
from gateway.server.security import certificates, tickets, tokens
from gateway.server.security.certificates import ClusterSecrets
from gateway.server.security.cluster_keys import ClusterKeys
from gateway.server.security.secrets import Keyring
from gateway.turns import Turns
from gateway.wire import Ticket

# of a cluster's certificates, at least: its own lifetime may be made longer, or endless, later
LIFETIME_S = 5 * 365 * 86400.0
TICKET_ID_BYTES = 16
THREADS = 2  # that make keys and certificates
CALLS = 1_000_000  # more than there can be at a time: calls are bounded before they come here
T = TypeVar("T")
GRACE_S = 86400.0  # certificates outlive their cluster


class Keys:
    """Port `Credentials` of the use cases."""

    def __init__(
        self,
        keyring: Keyring,
        signer: tickets.TicketSigner,
        forget_token: Callable[[str], None],
        now: Callable[[], int],
        threads: ThreadPoolExecutor,
        cluster_keys: ClusterKeys,
        whose: Callable[[], str] = lambda: "",  # the user who calls
    ) -> None:
        self._keyring, self._signer, self._now, self._threads, self._whose = (
            keyring,
            signer,
            now,
            threads,
            whose,
        )
        self._forget_token, self._cluster_keys = forget_token, cluster_keys
        self._turns = Turns(FairPool(THREADS, THREADS, most_waiting=CALLS))

    async def _compute(self, work: Callable[[], T]) -> T:
        """Do what takes a thread's time, users in turn: one who asks for a hundred keys keeps
        nobody waiting for one."""
        async with self._turns.turn(self._whose()):
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def make_cluster_secrets(self, uid: str, lifetime_s: float | None) -> bytes:
        """Return a new cluster's secrets, sealed."""
        lifetime_s = max(LIFETIME_S, (lifetime_s or 0.0) + GRACE_S)

        def make() -> tuple[ClusterSecrets, bytes]:
            secrets = certificates.make_cluster_credentials(
                uid, now=self._now(), lifetime_s=lifetime_s
            )
            return secrets, self._keyring.seal(secrets)

        secrets, sealed = await self._compute(make)
        self._cluster_keys.keep(uid, secrets)  # its scheduler's start is about to need them
        return sealed

    async def sign_client(
        self, sealed: bytes, public_key: str, user: str, ttl_s: float
    ) -> tuple[str, str, int]:
        """Return certificate, CA certificate and the instant of expiry; ValueError if the key will
        not do."""

        def sign() -> tuple[str, str, int]:
            secrets = self._keyring.unseal(sealed)
            certificate, expires_at = certificates.sign_client(
                secrets, public_key, user=user, now=self._now(), ttl_s=ttl_s
            )
            return certificate, secrets.ca_certificate.decode(), expires_at

        return await self._compute(sign)

    def mint_token(self, user: str) -> tuple[str, str, bytes]:
        """Return a new API token's text, id and hash."""
        minted = tokens.mint("api", user)
        return minted.text, minted.id, minted.secret_hash

    def mint_session(self, user: str) -> tuple[str, str, bytes]:
        """Return a new session token's text, id and hash."""
        minted = tokens.mint("session", user)
        return minted.text, minted.id, minted.secret_hash

    def forget_token(self, token_id: str) -> None:
        """Drop what is cached of a token, and end what it opened."""
        self._forget_token(token_id)

    def issue_ticket(self, uid: str, principal: Principal, expires_at: int) -> str:
        """Return a dashboard ticket, which opens once."""
        ticket = Ticket(
            uid,
            principal.user,
            expires_at,
            os.urandom(TICKET_ID_BYTES).hex(),
            principal.token_id,
            principal.stamp,
            principal.admin,
            principal.expires_at,
        )
        return self._signer.issue(ticket)

    def read_ticket(self, text: str) -> Ticket | None:
        """Return what a ticket says that was issued here, None if it was not."""
        return self._signer.read(text)
