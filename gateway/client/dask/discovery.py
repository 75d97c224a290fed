"""For Dask's cluster discovery (entry point `dask_cluster_discovery`): the caller's clusters, where
a gateway is configured."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from gateway.client.calls import errors
from gateway.client.calls.channel import in_thread
from gateway.client.dask.cluster import GatewayCluster
from gateway.client.gateway import Gateway


async def discover() -> AsyncIterator[tuple[str, Any]]:
    """Yield name and class of every cluster; nothing if no gateway is configured or it does not
    answer."""
    try:
        found = await in_thread(lambda: Gateway().list_clusters())
    except (ValueError, errors.GatewayError):
        return
    for cluster in found:
        yield cluster.name.rpartition("/")[2], GatewayCluster
