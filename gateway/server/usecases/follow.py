"""Watch clusters as they change, or wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

from gateway.server.core import names, policy
from gateway.server.core.errors import ClusterNotFound, FieldInvalid, RevisionCompacted, Violation
from gateway.server.core.model import Cluster, Principal, Scope, State
from gateway.server.store.contract import Change, Interest, Subscription
from gateway.server.usecases.lookup import locate
from gateway.server.usecases.services import Services
from gateway.wire import is_uid

MAX_NAMES = 100
MAX_WAIT_S = 60.0
RETRY_SPREAD_S = 5.0  # watchers that a drain sends away come back spread over so long


@dataclass(frozen=True, slots=True)
class Changed:
    """A cluster is new, has changed, or was purged (`cluster` is None)."""

    change: Change
    added: bool


@dataclass(frozen=True, slots=True)
class Complete:
    """Everything up to the revision was told."""

    revision: int
    initial: bool = False


@dataclass(frozen=True, slots=True)
class Farewell:
    """The server is about to exit."""

    revision: int
    retry_after_s: float


Told = Changed | Complete | Farewell


async def watch_clusters(
    services: Services,
    principal: Principal,
    parent: str,
    clusters: Collection[str],
    start_revision: int,
    bookmark_interval_s: float,
) -> AsyncIterator[Told]:
    """Yield the present state (or what changed after a revision), a bookmark, then changes, until
    the server drains. What has finished is no part of the present state, unless it is named: a list
    hides it too."""
    owner = names.parse_parent(parent, principal.user, everybody=True)
    policy.require(principal, Scope.CLUSTERS_READ, owner)
    interest = _interest(owner, clusters, principal.user)
    view = services.store.view
    known: set[str] = set()
    subscription = _subscribe(services, interest, start_revision)
    draining = _ending(services, subscription)
    try:
        revision = start_revision
        if start_revision == 0:
            revision = view.revision
            for cluster in view.matching(interest):
                known.add(cluster.uid)
                if cluster.state.finished and not clusters:
                    continue  # as a list hides them, unless they are named
                yield Changed(
                    Change(
                        cluster.uid, cluster.owner, cluster.cluster_id, cluster.revision, cluster
                    ),
                    True,
                )
            yield Complete(revision, initial=True)
        while not draining.done():
            changes, revision = await subscription.next(bookmark_interval_s)
            for change in changes:
                added = (
                    change.cluster is not None
                    and change.cluster.created_revision > start_revision
                    and change.uid not in known
                )
                known.add(change.uid)
                yield Changed(change, added)
                if change.cluster is None:
                    known.discard(change.uid)
            if not changes and not draining.done():
                yield Complete(revision)
        yield Farewell(revision, RETRY_SPREAD_S * int.from_bytes(services.random(2), "big") / 65536)
    finally:
        draining.cancel()
        subscription.close()


def _ending(services: Services, subscription: Subscription) -> asyncio.Future[object]:
    """Return what is done once the server is about to exit; the subscription ends then, so that
    nobody waits for it."""
    draining = asyncio.ensure_future(services.draining())
    draining.add_done_callback(lambda _: subscription.close())
    return draining


def _interest(owner: str | None, clusters: Collection[str], caller: str) -> Interest:
    if len(clusters) > MAX_NAMES:
        raise FieldInvalid([Violation("clusters", f"must name at most {MAX_NAMES} clusters")])
    if not clusters:
        return Interest(owner)
    uids = {name for name in clusters if is_uid(name)}
    parsed = [
        names.parse_cluster_name(name, caller, "clusters") for name in clusters if name not in uids
    ]
    pairs = {(name.user, name.cluster) for name in parsed if not is_uid(name.cluster)}
    uids |= {name.cluster for name in parsed if is_uid(name.cluster)}
    return Interest(owner, frozenset(uids), frozenset(pairs))


def _subscribe(services: Services, interest: Interest, start_revision: int) -> Subscription:
    view = services.store.view
    if start_revision < 0 or start_revision > view.revision:
        raise FieldInvalid(
            [
                Violation(
                    "start_revision",
                    f"must be 0 or a revision of an answer, at most {view.revision}",
                )
            ]
        )
    try:
        return view.subscribe(interest, start_revision=start_revision or None)
    except LookupError:
        raise RevisionCompacted(
            metadata={"compacted_revision": str(view.compacted_revision)}
        ) from None


async def wait_cluster(
    services: Services,
    principal: Principal,
    name: str,
    states: Collection[State],
    after_revision: int,
    timeout_s: float,
) -> Cluster:
    """Return a cluster once it is in one of the states, finished, or newer than a revision, or
    after the timeout."""
    cluster = locate(services, principal, Scope.CLUSTERS_READ, name)
    view, uid = services.store.view, cluster.uid
    loop = asyncio.get_running_loop()
    deadline = loop.time() + min(timeout_s or MAX_WAIT_S, MAX_WAIT_S)
    subscription = view.subscribe(Interest(uids=frozenset({uid})))
    draining = _ending(services, subscription)
    try:
        while True:
            present = view.cluster(uid)
            if present is None:
                raise ClusterNotFound(metadata={"name": cluster.name})
            arrived = bool(states) and (present.state in states or present.state.finished)
            newer = bool(after_revision) and present.revision > after_revision
            left_s = deadline - loop.time()
            if arrived or newer or left_s <= 0 or draining.done():
                return present
            await subscription.next(left_s)
    finally:
        draining.cancel()
        subscription.close()
