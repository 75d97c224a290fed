"""One effect of a mutation, however often it is asked for: replay → may → change → remember in one
transaction, then wake the reconciler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gateway.server.core import names, wished
from gateway.server.core.errors import (
    ClusterNotFound,
    EtagMismatch,
    FieldInvalid,
    RequestIdReused,
)
from gateway.server.core.model import Cluster, Event, Principal, Remembered
from gateway.server.store.contract import Tx
from gateway.server.usecases.services import Services


@dataclass(frozen=True, slots=True)
class Call:
    """What makes a mutation repeatable: its method, its request_id, and a digest of all else in the
    request."""

    method: str
    request_id: str = ""
    digest: bytes = b""


def replay(tx: Tx, principal: Principal, call: Call) -> Cluster | None:
    """Return the cluster that an earlier call with the same request_id has made or changed, None if
    there was none. RequestIdReused if that call asked for something else."""
    if not call.request_id:
        return None
    effect = tx.remembered(principal.user, call.method, call.request_id)
    if effect is None:
        return None
    if effect.digest != call.digest:
        raise RequestIdReused
    cluster = tx.cluster(effect.uid)
    if cluster is None:  # it came to its end and was purged: the request has had its one effect
        raise ClusterNotFound(metadata={"name": effect.uid})
    return cluster


def remember(tx: Tx, principal: Principal, call: Call, made: str, now: int) -> None:
    """Remember what a call has made or changed, a cluster's uid or a token's id, if it has a
    request_id."""
    if call.request_id:
        tx.remember(
            Remembered(principal.user, call.method, call.request_id, call.digest, made, now)
        )


async def once(
    services: Services, principal: Principal, call: Call, effect: Callable[[Tx], Cluster]
) -> tuple[Cluster, bool]:
    """Have an effect, which says itself whether it may be; return the cluster, and whether an
    earlier call with the same request_id had the effect."""
    now = services.now()

    def apply(tx: Tx) -> tuple[Cluster, bool]:
        earlier = replay(tx, principal, call)
        if earlier is not None:
            return earlier, True
        cluster = effect(tx)
        remember(tx, principal, call, cluster.uid, now)
        return cluster, False

    cluster, replayed = await services.store.transact(apply)
    if not replayed:
        services.wake(cluster.uid)
    return cluster, replayed


async def mutate(
    services: Services,
    principal: Principal,
    uid: str,
    etag: str,
    call: Call,
    change: Callable[[Cluster], Cluster],
    events: Callable[[Cluster], Sequence[Event]] = lambda _: (),
) -> tuple[Cluster, bool]:
    """Change a wish; what changes nothing takes no generation. `etag`: if not empty, it must be
    current. `events`: what is told of the wish, out of what the cluster then is."""
    if violations := names.check_request_id(call.request_id):
        raise FieldInvalid(violations)
    now = services.now()

    def effect(tx: Tx) -> Cluster:
        cluster = tx.cluster(uid)
        if cluster is None:
            raise ClusterNotFound(metadata={"name": uid})
        if etag and etag != cluster.etag:
            raise EtagMismatch(metadata={"etag": cluster.etag})
        changed = change(cluster)
        if changed != cluster:
            changed = replace(changed, generation=cluster.generation + 1, updated_at=now)
            changed = tx.put_cluster(wished.told(changed, now))
        if found := events(changed):
            tx.add_events(found)
        return changed

    return await once(services, principal, call, effect)
