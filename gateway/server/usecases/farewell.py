"""The end of all clusters, where the administrator wants them to end with the server."""

from __future__ import annotations

import asyncio
import logging

from gateway.server.core.model import Principal
from gateway.server.usecases.clusters import stop_cluster
from gateway.server.usecases.mutation import Call
from gateway.server.usecases.services import Services

logger = logging.getLogger(__name__)

STOP_CLUSTERS_S = 60.0


async def stop_every_cluster(services: Services, within_s: float = STOP_CLUSTERS_S) -> None:
    """Wish every cluster's end and wait until all are gone, at most `within_s` seconds."""
    view = services.store.view
    subscription = view.subscribe()
    everybody = Principal("gateway", admin=True)
    try:
        for cluster in [cluster for cluster in view.clusters() if not cluster.state.finished]:
            name = f"users/{cluster.owner}/clusters/{cluster.uid}"
            try:
                await stop_cluster(services, everybody, name, "", Call("StopCluster"))
            except Exception as error:  # the others are stopped all the same
                logger.error("cluster %s cannot be stopped: %s", cluster.uid, error)
        async with asyncio.timeout(within_s):
            while any(not cluster.state.finished for cluster in view.clusters()):
                await subscription.next(1.0)
    except TimeoutError:
        logger.warning(
            "some clusters have not stopped within %g s; they will be found again", within_s
        )
    finally:
        subscription.close()
