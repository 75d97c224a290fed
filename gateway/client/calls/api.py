"""Which RPCs the client calls: each is named here once, with what goes there and what comes back.

Knows nothing of connections. A test compares it with the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from daskgateway.v1 import cluster_pb2
from daskgateway.v1 import cluster_service_pb2 as clusters
from daskgateway.v1 import credential_service_pb2 as credentials
from google.protobuf.message import Message

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)

CLUSTERS: Final = "daskgateway.v1.ClusterService"
CREDENTIALS: Final = "daskgateway.v1.CredentialService"


@dataclass(frozen=True)
class Rpc(Generic[Q, A]):
    """An RPC: its service, its name there, and the messages that are its request and its answer."""

    service: str
    method: str
    request: type[Q]
    answer: type[A]

    @property
    def path(self) -> str:
        """Where it is called, over gRPC and over HTTP alike."""
        return f"/{self.service}/{self.method}"


@dataclass(frozen=True)
class Unary(Rpc[Q, A]):
    """An RPC with one answer."""


@dataclass(frozen=True)
class Streaming(Rpc[Q, A]):
    """An RPC with answers one after another."""

    events_path: str  # where the edge serves it as server-sent events
    parameters: tuple[str, ...]  # fields of the request that are parameters there


CREATE_CLUSTER: Final = Unary(
    CLUSTERS, "CreateCluster", clusters.CreateClusterRequest, cluster_pb2.Cluster
)
GET_CLUSTER: Final = Unary(CLUSTERS, "GetCluster", clusters.GetClusterRequest, cluster_pb2.Cluster)
LIST_CLUSTERS: Final = Unary(
    CLUSTERS, "ListClusters", clusters.ListClustersRequest, clusters.ListClustersResponse
)
UPDATE_CLUSTER: Final = Unary(
    CLUSTERS, "UpdateCluster", clusters.UpdateClusterRequest, cluster_pb2.Cluster
)
STOP_CLUSTER: Final = Unary(
    CLUSTERS, "StopCluster", clusters.StopClusterRequest, cluster_pb2.Cluster
)
KEEP_ALIVE: Final = Unary(
    CLUSTERS, "KeepAlive", clusters.KeepAliveRequest, clusters.KeepAliveResponse
)
WAIT_CLUSTER: Final = Unary(
    CLUSTERS, "WaitCluster", clusters.WaitClusterRequest, cluster_pb2.Cluster
)
GET_CLUSTER_OPTIONS: Final = Unary(
    CLUSTERS,
    "GetClusterOptions",
    clusters.GetClusterOptionsRequest,
    clusters.GetClusterOptionsResponse,
)
LIST_EVENTS: Final = Unary(
    CLUSTERS, "ListEvents", clusters.ListEventsRequest, clusters.ListEventsResponse
)
WATCH_CLUSTERS: Final = Streaming(
    CLUSTERS,
    "WatchClusters",
    clusters.WatchClustersRequest,
    clusters.WatchClustersResponse,
    events_path="/v1/watch",
    parameters=("parent", "start_revision", "clusters"),
)
STREAM_LOGS: Final = Streaming(
    CLUSTERS,
    "StreamLogs",
    clusters.StreamLogsRequest,
    clusters.StreamLogsResponse,
    events_path="/v1/logs",
    parameters=("name", "instances", "tail_lines", "follow"),
)

WHO_AM_I: Final = Unary(
    CREDENTIALS, "WhoAmI", credentials.WhoAmIRequest, credentials.WhoAmIResponse
)
CREATE_TOKEN: Final = Unary(
    CREDENTIALS, "CreateToken", credentials.CreateTokenRequest, credentials.CreateTokenResponse
)
LIST_TOKENS: Final = Unary(
    CREDENTIALS, "ListTokens", credentials.ListTokensRequest, credentials.ListTokensResponse
)
REVOKE_TOKEN: Final = Unary(
    CREDENTIALS, "RevokeToken", credentials.RevokeTokenRequest, credentials.RevokeTokenResponse
)
CREATE_SESSION: Final = Unary(
    CREDENTIALS,
    "CreateSession",
    credentials.CreateSessionRequest,
    credentials.CreateSessionResponse,
)
RENEW_SESSION: Final = Unary(
    CREDENTIALS, "RenewSession", credentials.RenewSessionRequest, credentials.RenewSessionResponse
)
END_SESSION: Final = Unary(
    CREDENTIALS, "EndSession", credentials.EndSessionRequest, credentials.EndSessionResponse
)
GET_SIGN_IN_OPTIONS: Final = Unary(
    CREDENTIALS,
    "GetSignInOptions",
    credentials.GetSignInOptionsRequest,
    credentials.GetSignInOptionsResponse,
)
GENERATE_CLIENT_CERTIFICATE: Final = Unary(
    CREDENTIALS,
    "GenerateClientCertificate",
    credentials.GenerateClientCertificateRequest,
    credentials.GenerateClientCertificateResponse,
)
CREATE_DASHBOARD_TICKET: Final = Unary(
    CREDENTIALS,
    "CreateDashboardTicket",
    credentials.CreateDashboardTicketRequest,
    credentials.CreateDashboardTicketResponse,
)
