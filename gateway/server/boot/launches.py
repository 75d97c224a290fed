"""Makes launches out of clusters, their secrets and the place where their agents call: port
`MakeLaunches` of the reconciler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gateway.backends.contract import Launch
from gateway.backends.launch import (
    AgentEndpoint,
    LaunchCredentials,
    scheduler_launch,
    worker_launch,
)
from gateway.server.core.model import Cluster, Worker
from gateway.server.security.cluster_keys import ClusterKeys


class Launches:
    """Makes launches out of clusters: port `MakeLaunches` of the reconciler."""

    def __init__(self, cluster_keys: ClusterKeys, agent: Callable[[], AgentEndpoint]) -> None:
        self._cluster_keys, self._agent = cluster_keys, agent

    async def __call__(
        self, cluster: Cluster, workers: Sequence[Worker] | None
    ) -> Sequence[Launch]:
        """Return the scheduler's launch (no workers given), or those of workers."""
        secrets = await self._cluster_keys.of(cluster.uid)
        if secrets is None:
            raise LookupError(f"cluster {cluster.uid} has no secrets")
        if workers is None:
            keys = LaunchCredentials(
                secrets.ca_certificate,
                secrets.scheduler_certificate,
                secrets.scheduler_key,
                secrets.agent_token,
            )
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
        keys = LaunchCredentials(
            secrets.ca_certificate, secrets.worker_certificate, secrets.worker_key
        )
        # A thousand launches are some 10 ms of work, which would hold up everybody else.
        return await asyncio.to_thread(_worker_launches, cluster, workers, keys)


def _worker_launches(
    cluster: Cluster, workers: Sequence[Worker], keys: LaunchCredentials
) -> list[Launch]:
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
