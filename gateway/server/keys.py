"""Binds keys, certificates, tokens and tickets to the ports of the use cases. What computes runs in threads."""

from __future__ import annotations

import asyncio
import os
import pathlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gateway.backends.contract import Launch
from gateway.backends.launch import AgentEndpoint, LaunchCredentials, scheduler_launch, worker_launch
from gateway.configfile import ConfigurationError
from gateway.custody import file_problem
from gateway.fair import FairPool
from gateway.keptfile import read_kept, write_kept
from gateway.server.core.model import Cluster, Principal, Worker
from gateway.server.security import certificates, tickets, tokens
from gateway.server.security.certificates import ClusterSecrets
from gateway.server.security.secrets import Keyring
from gateway.server.store.contract import Store
from gateway.turns import Turns
from gateway.wire import Ticket

KEPT_SECRETS = 4096  # clusters whose unsealed secrets are kept in memory, about 5 KiB each
LIFETIME_S = 5 * 365 * 86400.0  # of a cluster's certificates, at least: its own lifetime may be made longer, or endless, later
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
        self._keyring, self._signer, self._now, self._threads, self._whose = keyring, signer, now, threads, whose
        self._forget_token, self._cluster_keys = forget_token, cluster_keys
        self._turns = Turns(FairPool(THREADS, THREADS, most_waiting=CALLS))

    async def _compute(self, work: Callable[[], T]) -> T:
        """Do what takes a thread's time, users in turn: one who asks for a hundred keys keeps nobody waiting for one."""
        async with self._turns.turn(self._whose()):
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def make_cluster_secrets(self, uid: str, lifetime_s: float | None) -> bytes:
        """Return a new cluster's secrets, sealed."""
        lifetime_s = max(LIFETIME_S, (lifetime_s or 0.0) + GRACE_S)

        def make() -> tuple[ClusterSecrets, bytes]:
            secrets = certificates.make_cluster_credentials(uid, now=self._now(), lifetime_s=lifetime_s)
            return secrets, self._keyring.seal(secrets)

        secrets, sealed = await self._compute(make)
        self._cluster_keys.keep(uid, secrets)  # its scheduler's start is about to need them
        return sealed

    async def sign_client(self, sealed: bytes, public_key: str, user: str, ttl_s: float) -> tuple[str, str, int]:
        """Return certificate, CA certificate and the instant of expiry; ValueError if the key will not do."""

        def sign() -> tuple[str, str, int]:
            secrets = self._keyring.unseal(sealed)
            certificate, expires_at = certificates.sign_client(secrets, public_key, user=user, now=self._now(), ttl_s=ttl_s)
            return certificate, secrets.ca_certificate.decode(), expires_at

        return await self._compute(sign)

    def mint_token(self) -> tuple[str, str, bytes]:
        """Return a new API token's text, id and hash."""
        minted = tokens.mint("api")
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


class ClusterKeys:
    """Unsealed secrets of living clusters, for launches and for the agents' door; the least used are forgotten."""

    def __init__(self, store: Store, keyring: Keyring, threads: ThreadPoolExecutor) -> None:
        self._store, self._keyring, self._threads = store, keyring, threads
        self._kept: OrderedDict[str, ClusterSecrets] = OrderedDict()

    async def of(self, uid: str) -> ClusterSecrets | None:
        """Return a cluster's secrets, None if there is no such cluster."""
        kept = self._kept.get(uid)
        if kept is not None:
            self._kept.move_to_end(uid)
            return kept
        sealed = await self._store.read(lambda tx: tx.secrets(uid))
        if sealed is None:
            return None
        secrets = await asyncio.get_running_loop().run_in_executor(self._threads, self._keyring.unseal, sealed)
        self.keep(uid, secrets)
        return secrets

    def forget(self, uid: str) -> None:
        """Drop a cluster's secrets: it has ended."""
        self._kept.pop(uid, None)

    def keep(self, uid: str, secrets: ClusterSecrets) -> None:
        """Keep a cluster's secrets unsealed in memory."""
        self._kept[uid] = secrets
        while len(self._kept) > KEPT_SECRETS:
            self._kept.popitem(last=False)


class Launches:
    """Makes launches out of clusters: port `MakeLaunches` of the reconciler."""

    def __init__(self, cluster_keys: ClusterKeys, agent: Callable[[], AgentEndpoint]) -> None:
        self._cluster_keys, self._agent = cluster_keys, agent

    async def __call__(self, cluster: Cluster, workers: Sequence[Worker] | None) -> Sequence[Launch]:
        """Return the scheduler's launch (no workers given), or those of workers."""
        secrets = await self._cluster_keys.of(cluster.uid)
        if secrets is None:
            raise LookupError(f"cluster {cluster.uid} has no secrets")
        if workers is None:
            keys = LaunchCredentials(secrets.ca_certificate, secrets.scheduler_certificate, secrets.scheduler_key, secrets.agent_token)
            return [
                scheduler_launch(
                    uid=cluster.uid,
                    user=cluster.owner,
                    settings=cluster.spec.settings,
                    resources=cluster.spec.scheduler,
                    credentials=keys,
                    agent=self._agent(),
                )
            ]
        keys = LaunchCredentials(secrets.ca_certificate, secrets.worker_certificate, secrets.worker_key)
        # A thousand launches are some 10 ms of work, which would hold up everybody else.
        return await asyncio.to_thread(_worker_launches, cluster, workers, keys)


def _worker_launches(cluster: Cluster, workers: Sequence[Worker], keys: LaunchCredentials) -> list[Launch]:
    return [
        worker_launch(
            uid=cluster.uid,
            name=worker.name,
            user=cluster.owner,
            settings=cluster.spec.groups[worker.group].settings,
            resources=cluster.spec.groups[worker.group].resources,
            credentials=keys,
            scheduler_address=cluster.scheduler.address,
        )
        for worker in workers
        if worker.group in cluster.spec.groups
    ]


def edge_token(path: pathlib.Path) -> str:
    """Return the edge's token, made and kept in a file of mode 0600 if there is none. ConfigurationError if it can be neither.

    A file that holds none, such as one cut short when the power went, is replaced: an empty token would let in whoever sends none.
    """
    try:
        kept = (read_kept(path) or b"").decode(errors="replace").strip()
        parsed = tokens.parse(kept)
        if parsed is not None and parsed[0] == "edge":
            if wrong := file_problem(path, secret=True):
                raise ConfigurationError(f"c.DaskGateway.state_dir: {wrong}")
            return kept
        text = tokens.mint("edge").text
        write_kept(path, text.encode())
    except OSError as error:
        raise ConfigurationError(f"c.DaskGateway.state_dir: {path}: {error.strerror or error}") from None
    return text
