"""What a process does so that nothing it has made is left behind: it gives signs of life, and ends
what a request has made that was never answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.server.core import lifetimes, names, policy
from gateway.server.core.errors import ClusterNotFound, FieldInvalid, Violation
from gateway.server.core.model import Cluster, Principal, Remembered, Scope
from gateway.server.store.contract import Tx
from gateway.server.usecases.clusters import stop_cluster
from gateway.server.usecases.lookup import locate
from gateway.server.usecases.mutation import Call
from gateway.server.usecases.services import Services

MAX_NAMES = 1000  # of clusters in one sign of life


async def stop_made_by(
    services: Services, principal: Principal, create_request_id: str, call: Call
) -> tuple[Cluster, bool]:
    """Wish the end of the cluster that the caller has made with a request_id. Where there is none
    yet, the request is good for none any more: ClusterNotFound."""
    policy.require(principal, Scope.CLUSTERS_WRITE, principal.user)
    if violations := names.check_request_id(create_request_id, "create_request_id"):
        raise FieldInvalid(violations)
    key, now = create_request_id.lower(), services.now()

    def find(tx: Tx) -> Cluster | None:
        effect = tx.remembered(principal.user, "CreateCluster", key)
        if effect is None:
            tx.remember(Remembered(principal.user, "CreateCluster", key, b"", "", now))
        return tx.cluster(effect.uid) if effect is not None and effect.uid else None

    cluster = await services.store.transact(find)
    if cluster is None:
        raise ClusterNotFound(metadata={"name": f"that of the request {key}"})
    name = f"users/{cluster.owner}/clusters/{cluster.uid}"
    return await stop_cluster(services, principal, name, "", call)


async def keep_alive(
    services: Services, principal: Principal, asked: Sequence[str]
) -> Sequence[str]:
    """Take a sign of life of the process that is to stop these clusters; return those names that
    need none any more."""
    if len(asked) > MAX_NAMES:
        raise FieldInvalid([Violation("names", f"must have at most {MAX_NAMES} names")])
    now, ended, due = services.now(), [], []
    for name in asked:
        try:
            found = locate(services, principal, Scope.CLUSTERS_WRITE, name, "names")
        except ClusterNotFound:
            ended.append(name)
            continue
        if found.stop is not None or found.state.finished:
            ended.append(name)
        elif lifetimes.keeps_alive(found, now):
            due.append(found.uid)

    def keep(tx: Tx) -> None:
        for uid in due:
            cluster = tx.cluster(uid)
            if cluster is not None and lifetimes.keeps_alive(cluster, now):
                tx.put_cluster(replace(cluster, kept_alive_at=now, updated_at=now))

    if due:
        await services.store.transact(keep)
    return ended
