"""The unsealed secrets of living clusters, kept in memory: the least used are forgotten."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from gateway.server.security.certificates import ClusterSecrets
from gateway.server.security.secrets import Keyring
from gateway.server.store.contract import Store

KEPT_SECRETS = 4096  # clusters whose unsealed secrets are kept in memory, about 5 KiB each


class ClusterKeys:
    """Unsealed secrets of living clusters, for launches and for the agents' door; the least used
    are forgotten."""

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
        secrets = await asyncio.get_running_loop().run_in_executor(
            self._threads, self._keyring.unseal, sealed
        )
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
