"""ClusterService: from a message to a use case and back, nothing more."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import cluster_service_pb2_grpc

from gateway.server.core.errors import FieldInvalid, Violation
from gateway.server.core.model import Event
from gateway.server.core.quantities import exact_duration
from gateway.server.core.texts import sound
from gateway.server.rpc import messages, requests
from gateway.server.rpc.caller import principal
from gateway.server.rpc.cluster_messages import ClusterMessages
from gateway.server.rpc.passed_over import PassedOver
from gateway.server.usecases import clusters, follow, history, keepalive
from gateway.server.usecases.services import Services
from gateway.wire import REPLAYED

logger = logging.getLogger(__name__)

ANSWER_S = 1.0  # of a call's deadline that is left for its answer, where it may wait
MAX_NAME = 256  # characters of a name that is told of what is gone

MIN_BOOKMARK_S, DEFAULT_BOOKMARK_S, MAX_BOOKMARK_S = 1.0, 60.0, 600.0


class ClusterServicer(cluster_service_pb2_grpc.ClusterServiceServicer):
    """The service."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._messages = ClusterMessages(services.endpoint)
        self._events_passed_over = PassedOver(
            logger, "events of this cluster cannot be shown; lists pass them over"
        )

    async def CreateCluster(self, request: service_pb.CreateClusterRequest, context: Any) -> bytes:
        cluster, replayed = await clusters.create_cluster(
            self._services,
            principal(),
            request.parent,
            request.cluster_id,
            requests.wish(request.cluster),
            requests.call("CreateCluster", request),
            validate_only=request.validate_only,
            check=self._messages.check,
        )
        return self._answer(cluster, replayed, context)

    async def GetCluster(self, request: service_pb.GetClusterRequest, context: Any) -> bytes:
        return self._messages.encoded(
            clusters.get_cluster(self._services, principal(), request.name)
        )

    async def ListClusters(self, request: service_pb.ListClustersRequest, context: Any) -> bytes:
        page = clusters.list_clusters(
            self._services,
            principal(),
            request.parent,
            page_size=request.page_size,
            page_token=request.page_token,
            states=requests.states(request.states),
            show_finished=request.show_finished,
            size_bytes=self._messages.size_bytes,
        )
        rest = service_pb.ListClustersResponse(
            next_page_token=page.next_token, revision=page.revision
        )
        return self._messages.listed(page.clusters, rest)

    async def UpdateCluster(self, request: service_pb.UpdateClusterRequest, context: Any) -> bytes:
        update, call = requests.update(request), requests.call("UpdateCluster", request)
        cluster, replayed = await clusters.update_cluster(
            self._services,
            principal(),
            request.cluster.name,
            request.cluster.etag,
            update,
            call,
            check=self._messages.check,
        )
        return self._answer(cluster, replayed, context)

    async def StopCluster(self, request: service_pb.StopClusterRequest, context: Any) -> bytes:
        call = requests.call("StopCluster", request)
        made_by = requests.made_by(request)
        if made_by:
            stopped = keepalive.stop_made_by(self._services, principal(), made_by, call)
        else:
            stopped = clusters.stop_cluster(
                self._services, principal(), request.name, request.etag, call
            )
        return self._answer(*await stopped, context)

    async def KeepAlive(
        self, request: service_pb.KeepAliveRequest, context: Any
    ) -> service_pb.KeepAliveResponse:
        ended = await keepalive.keep_alive(self._services, principal(), request.names)
        return service_pb.KeepAliveResponse(ended=ended)

    def _answer(self, cluster: Any, replayed: bool, context: Any) -> bytes:
        if replayed:
            context.set_trailing_metadata(((REPLAYED, "1"),))
        return self._messages.encoded(cluster)

    async def WaitCluster(self, request: service_pb.WaitClusterRequest, context: Any) -> bytes:
        violations: list[Violation] = []
        timeout_s = requests.optional_seconds(request, "timeout", "timeout", violations)
        if timeout_s is not None and timeout_s < 0:
            violations.append(Violation("timeout", "must not be negative"))
        if request.after_revision < 0:
            violations.append(Violation("after_revision", "must be 0 or a revision of an answer"))
        if violations:
            raise FieldInvalid(violations)
        states = requests.states(request.states)
        cluster = await follow.wait_cluster(
            self._services,
            principal(),
            request.name,
            states,
            request.after_revision,
            _patience(timeout_s, context),
        )
        return self._messages.encoded(cluster)

    async def GetClusterOptions(
        self, request: service_pb.GetClusterOptionsRequest, context: Any
    ) -> service_pb.GetClusterOptionsResponse:
        return messages.offer(await self._services.offers.offer(principal()))

    async def ListEvents(
        self, request: service_pb.ListEventsRequest, context: Any
    ) -> service_pb.ListEventsResponse:
        events, more = await history.list_events(
            self._services, principal(), request.parent, request.page_size, request.page_token
        )
        return service_pb.ListEventsResponse(
            events=[told for event in events if (told := self._event(event))], next_page_token=more
        )

    def _event(self, event: Event) -> service_pb.Event | None:
        try:
            return messages.event(event)
        # as with a cluster's record: it must not be the end of the others
        except Exception as error:
            self._events_passed_over.tell(f"cluster {event.uid}", error)
            return None

    async def StreamLogs(
        self, request: service_pb.StreamLogsRequest, context: Any
    ) -> AsyncIterator[service_pb.StreamLogsResponse]:
        pieces = history.stream_logs(
            self._services,
            principal(),
            request.name,
            request.instances,
            request.tail_lines,
            request.follow,
        )
        async with aclosing(pieces) as stream:  # type: ignore[type-var]
            async for instance, text in stream:
                yield service_pb.StreamLogsResponse(instance=instance, text=text)

    async def WatchClusters(
        self, request: service_pb.WatchClustersRequest, context: Any
    ) -> AsyncIterator[service_pb.WatchClustersResponse | bytes]:
        violations: list[Violation] = []
        interval_s = requests.optional_seconds(
            request, "bookmark_interval", "bookmark_interval", violations
        )
        interval_s = DEFAULT_BOOKMARK_S if interval_s is None else interval_s
        if not violations and not MIN_BOOKMARK_S <= interval_s <= MAX_BOOKMARK_S:
            violations.append(
                Violation(
                    "bookmark_interval",
                    f"must be between {exact_duration(MIN_BOOKMARK_S)} and"
                    f" {exact_duration(MAX_BOOKMARK_S)}",
                )
            )
        if violations:
            raise FieldInvalid(violations)
        told = follow.watch_clusters(
            self._services,
            principal(),
            request.parent,
            request.clusters,
            request.start_revision,
            interval_s,
        )
        async with aclosing(told) as stream:  # type: ignore[type-var]
            async for item in stream:
                if (response := self._told(item)) is not None:
                    yield response

    def _told(self, item: follow.Told) -> service_pb.WatchClustersResponse | bytes | None:
        match item:
            case follow.Complete(revision, initial):
                return service_pb.WatchClustersResponse(
                    revision=revision, bookmark=service_pb.Bookmark(initial_state_complete=initial)
                )
            case follow.Farewell(revision, retry_after_s):
                goodbye = service_pb.Goodbye(
                    reason="the server is about to exit",
                    retry_delay=messages.duration(retry_after_s),
                )
                return service_pb.WatchClustersResponse(revision=revision, goodbye=goodbye)
            case follow.Changed(change, added):
                if change.cluster is not None:
                    return self._messages.told(change.cluster, added)
                name = sound(f"users/{change.owner}/clusters/{change.cluster_id}", MAX_NAME)
                gone = pb.Cluster(
                    name=name, uid=change.uid, owner=change.owner, revision=change.revision
                )
                event = service_pb.WatchEvent(
                    type=service_pb.WATCH_EVENT_TYPE_REMOVED, cluster=gone
                )
                return service_pb.WatchClustersResponse(revision=change.revision, event=event)


def _patience(timeout_s: float | None, context: Any) -> float:
    """Return how long a call may wait, in seconds, 0 for as long as the server lets it: what it
    asks for, and no longer than its own deadline, with time left for the answer."""
    left_s: float | None = context.time_remaining()
    if left_s is None:
        return timeout_s or 0.0
    most_s = max(0.001, left_s - min(ANSWER_S, left_s / 4))
    return min(timeout_s or most_s, most_s)
