"""The client's connection over HTTP/1.1, and what a server tells it."""

from __future__ import annotations

from daskgateway.v1 import cluster_pb2
from daskgateway.v1 import cluster_service_pb2 as pb

PREFIX = "/services/daskgateway"
LIST = "/daskgateway.v1.ClusterService/ListClusters"


def changed(revision: int) -> pb.WatchClustersResponse:
    """Return a change."""
    event = pb.WatchEvent(
        type=pb.WATCH_EVENT_TYPE_MODIFIED,
        cluster=cluster_pb2.Cluster(name="users/alice/clusters/é\n"),
    )
    return pb.WatchClustersResponse(revision=revision, event=event)
