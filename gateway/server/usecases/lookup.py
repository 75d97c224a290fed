"""Which cluster a name means, to a caller who may see it."""

from __future__ import annotations

from gateway.server.core import names, policy
from gateway.server.core.errors import ClusterNotFound
from gateway.server.core.model import Cluster, Principal, Scope
from gateway.server.usecases.services import Services
from gateway.wire import is_uid


def locate(
    services: Services, principal: Principal, scope: Scope, name: str, field: str = "name"
) -> Cluster:
    """Return the cluster of a name, the newest one, or of a uid in a name's place. NotPermitted or
    ClusterNotFound tell nothing of what is another's."""
    parsed = names.parse_cluster_name(name, principal.user, field)
    policy.require(principal, scope, parsed.user)
    view = services.store.view
    cluster = (
        view.cluster(parsed.cluster)
        if is_uid(parsed.cluster)
        else view.named(parsed.user, parsed.cluster)
    )
    if cluster is None or cluster.owner != parsed.user:
        raise ClusterNotFound(metadata={"name": f"users/{parsed.user}/clusters/{parsed.cluster}"})
    return cluster
