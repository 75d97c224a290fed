"""RouteService: which clusters the edge may connect to, as they come and go."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from typing import Any

from daskgateway.internal.v1 import route_pb2 as pb
from daskgateway.internal.v1 import route_pb2_grpc

from gateway.server.core.errors import CredentialsInvalid
from gateway.server.core.model import Cluster
from gateway.server.core.standing import routed
from gateway.server.rpc.caller import current
from gateway.server.rpc.passed_over import PassedOver
from gateway.server.store.contract import Subscription, View

logger = logging.getLogger(__name__)

HEARTBEAT_S = 15.0  # something is said at least so often, whatever else happens on this server
CHUNK = 2000  # routes in one message, a few hundred bytes each


def route(cluster: Cluster, local: bool) -> pb.Route:
    """Return the way to a cluster; `local`: its backend runs on this machine."""
    return pb.Route(
        uid=cluster.uid,
        owner=cluster.owner,
        cluster_id=cluster.cluster_id,
        scheduler_address=cluster.scheduler.address.rpartition("://")[2],
        dashboard_address=cluster.scheduler.dashboard_address,
        local=local,
    )


class RouteServicer(route_pb2_grpc.RouteServiceServicer):
    """The service."""

    def __init__(
        self,
        view: View,
        ticket_keys: Sequence[bytes],
        draining: Callable[[], bool],
        local_backends: Collection[str],
        doubted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._view, self._ticket_keys, self._draining, self._doubted = (
            view,
            tuple(ticket_keys),
            draining,
            doubted,
        )
        self._local_backends = frozenset(local_backends)  # those that run on this machine
        self._subscriptions: set[Subscription] = set()
        self._passed_over = PassedOver(
            logger, "the route to this cluster cannot be told; the edge does not connect to it"
        )

    def wake_all(self) -> None:
        """End every stream that waits, because the server drains."""
        for subscription in self._subscriptions:
            subscription.close()

    def _whole(self, routes: Sequence[pb.Route], *, snapshot: bool) -> Iterator[pb.RouteUpdate]:
        """Yield every route there is."""
        revision = self._view.revision
        yield pb.RouteUpdate(
            revision=revision,
            snapshot=snapshot,
            routes=routes[:CHUNK],
            ticket_keys=self._ticket_keys,
        )
        for start in range(CHUNK, len(routes), CHUNK):
            yield pb.RouteUpdate(revision=revision, routes=routes[start : start + CHUNK])

    def _route(self, cluster: Cluster | None) -> pb.Route | None:
        """Return the way to a cluster, None if the edge may not connect to it, or it cannot be
        told."""
        if cluster is None or not routed(cluster):
            return None
        try:
            return route(cluster, cluster.spec.backend in self._local_backends)
        # what one record holds must not be the end of everybody's routes
        except Exception as error:
            self._passed_over.tell(f"cluster {cluster.uid} of {cluster.owner}", error)
            return None

    async def WatchRoutes(
        self, request: pb.WatchRoutesRequest, context: Any
    ) -> AsyncIterator[pb.RouteUpdate]:
        if not current.get().edge:
            raise CredentialsInvalid
        subscription = self._view.subscribe()
        self._subscriptions.add(subscription)
        try:
            known: dict[str, pb.Route] = {}
            # what is not in a whole snapshot the edge forgets: not while the database may lack
            # clusters
            partial: bool | None = None
            due_at = time.monotonic() + HEARTBEAT_S
            while not self._draining():
                if partial is None or (partial and not self._doubted()):
                    partial = self._doubted()
                    routes = [
                        (cluster.uid, self._route(cluster)) for cluster in self._view.clusters()
                    ]
                    known = {uid: found for uid, found in routes if found is not None}
                    for update in self._whole(list(known.values()), snapshot=not partial):
                        yield update
                changes, revision = await subscription.next(max(0.0, due_at - time.monotonic()))
                update = pb.RouteUpdate(revision=revision)
                for change in changes:
                    found = self._route(change.cluster)
                    if found is not None:
                        if known.get(change.uid) != found:
                            known[change.uid] = found
                            update.routes.append(found)
                    elif known.pop(change.uid, None) is not None:
                        update.removed.append(change.uid)
                # Most changes concern no route: by themselves they are no sign of life to the edge.
                if update.routes or update.removed or time.monotonic() >= due_at:
                    yield update
                    due_at = time.monotonic() + HEARTBEAT_S
        finally:
            self._subscriptions.discard(subscription)
            subscription.close()
