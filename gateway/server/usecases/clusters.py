"""Create, get, list, change and stop clusters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.server.core import admission, names, policy, wished
from gateway.server.core.errors import (
    ClusterExists,
    ClusterFinished,
    FieldInvalid,
    Overloaded,
    QuotaExceeded,
    Violation,
)
from gateway.server.core.model import (
    Cluster,
    Event,
    GroupStatus,
    Principal,
    Scope,
    State,
    StopWish,
)
from gateway.server.core.reasons import Reason
from gateway.server.store.contract import Conflict, Tx
from gateway.server.usecases.lookup import locate
from gateway.server.usecases.mutation import Call, mutate, once, replay
from gateway.server.usecases.paging import (
    MAX_CLUSTERS_PAGE,
    MAX_PAGE_BYTES,
    checked_page_size,
    read_place,
    write_place,
)
from gateway.server.usecases.services import Services


@dataclass(frozen=True, slots=True)
class Update:
    """What an update changes; None leaves it as it is."""

    labels: Mapping[str, str] | None = None
    lifecycle: admission.LifecycleWish | None = None
    lifecycle_fields: Collection[str] = ()  # only these fields of it; empty for all
    groups: Mapping[str, admission.GroupWish] | None = None
    all_groups: bool = False  # whether groups not named are removed


@dataclass(frozen=True, slots=True)
class Page:
    """Some clusters, and where the next page begins."""

    clusters: Sequence[Cluster]
    next_token: str
    revision: int


def _no_objection(cluster: Cluster) -> None:
    """Find nothing wrong with a cluster."""


async def create_cluster(
    services: Services,
    principal: Principal,
    parent: str,
    cluster_id: str,
    wish: admission.Wish,
    call: Call,
    *,
    validate_only: bool = False,
    check: Callable[[Cluster], object] = _no_objection,
) -> tuple[Cluster, bool]:
    """Accept a cluster; return it, and whether it was made by an earlier call with the same
    request_id.

    `check` raises FieldInvalid for one that could not be shown.
    """
    owner = names.parse_parent(parent, principal.user)
    policy.require(principal, Scope.CLUSTERS_WRITE, owner)
    assert owner is not None
    offer = await _offer(services, principal, owner, new=True)
    offer = await _asked(
        offer, wish.backend, lambda: admission.asking(offer, wish.options, wish.groups)
    )
    cluster = _new_cluster(services, offer, owner, cluster_id, wish, call)
    check(cluster)
    if validate_only:
        return cluster, False
    if (wait_s := services.creations.take(owner)) and (
        earlier := await services.store.read(lambda tx: replay(tx, principal, call))
    ):
        return earlier, True
    if wait_s:
        what = (
            f"{owner} has made {services.creations.per_minute} clusters within a minute, the"
            f" most that one user may"
        )
        raise QuotaExceeded(owner, what, wait_s)
    lifetime_s = cluster.spec.lifecycle.max_lifetime_s
    sealed = await services.credentials.make_cluster_secrets(cluster.uid, lifetime_s)
    created = Event(
        cluster.uid,
        cluster.created_at,
        Reason.CREATED,
        f"{principal.user} asked for the cluster{cluster.message.removeprefix('accepted')}",
    )

    def insert(tx: Tx) -> Cluster:
        _check_room(tx, services, owner)
        stored = tx.put_cluster(cluster)
        tx.put_secrets(cluster.uid, sealed)
        tx.add_events([created])
        return stored

    try:
        stored, replayed = await once(services, principal, call, insert)
    except Conflict:
        raise ClusterExists(metadata={"cluster_id": cluster.cluster_id}) from None
    if replayed:
        services.creations.give_back(owner)
    return stored, replayed


def _check_room(tx: Tx, services: Services, owner: str) -> None:
    """Raise Overloaded or QuotaExceeded if there is no room for one more cluster of an owner."""
    if services.full():
        raise Overloaded(
            metadata={
                "what": "the gateway's disk is nearly full, which its administrator must mend"
            },
            retry_after_s=60,
        )
    if tx.count_living() >= services.max_clusters:
        raise Overloaded(
            metadata={"what": f"the gateway already has {services.max_clusters} clusters"},
            retry_after_s=60,
        )
    if services.quotas.clusters and tx.count_living(owner) >= services.quotas.clusters:
        ending = sum(
            cluster.stop is not None and not cluster.state.finished
            for cluster in services.store.view.clusters(owner)
        )
        what = (
            f"{owner} has {services.quotas.clusters} clusters, the most that one user may have; "
            + (f"{ending} of them stop and are soon gone" if ending else "stop some first")
        )
        raise QuotaExceeded(owner, what, retry_after_s=5 if ending else 60)


async def _offer(
    services: Services, principal: Principal, owner: str, *, new: bool
) -> admission.Offer:
    """Return what the owner of a cluster may have: by the owner's own groups and rights, whoever
    asks. Of one who is gone: by none."""
    if owner == principal.user:
        return await services.offers.offer(principal)
    person = await services.person(owner)
    if person is None and new:
        raise FieldInvalid([Violation("parent", f"there is no user {owner}")])
    return await services.offers.offer(person or Principal(owner))


async def _asked(
    offer: admission.Offer, backend: str, wanted: Callable[[], Sequence[Mapping[str, object]]]
) -> admission.Offer:
    """Return an offer that knows what the site makes of wanted options, where it is to be asked."""
    if offer.ask is None:
        return offer
    chosen = backend if backend in offer.backends else offer.backends[0]
    made = [(values, await offer.ask(chosen, values)) for values in wanted()]
    return replace(
        offer, apply=lambda values: next(extra for known, extra in made if known == values)
    )


def _new_cluster(
    services: Services,
    offer: admission.Offer,
    owner: str,
    cluster_id: str,
    wish: admission.Wish,
    call: Call,
) -> Cluster:
    violations = names.check_request_id(call.request_id)
    if cluster_id:
        violations += names.check_cluster_id(cluster_id)
    try:
        spec = admission.admit(wish, offer)
    except FieldInvalid as error:
        raise FieldInvalid([*violations, *error.violations]) from None
    if violations:
        raise FieldInvalid(violations)
    now = services.now()
    clamped = admission.clamped_lifecycle(wish.lifecycle, offer)
    cluster = Cluster(
        uid=names.new_uid(services.random(names.UID_RANDOM_BYTES)),
        owner=owner,
        cluster_id=cluster_id
        or names.new_cluster_id(services.random(names.CLUSTER_ID_RANDOM_BYTES)),
        spec=spec,
        labels=dict(wish.labels),
        message=f"accepted; {clamped}" if clamped else "accepted",
        state_at=now,
        created_at=now,
        updated_at=now,
        kept_alive_at=now if spec.lifecycle.keepalive_timeout_s is not None else 0,
        groups={name: GroupStatus() for name in spec.groups},
    )
    return wished.told(cluster, now)


def get_cluster(services: Services, principal: Principal, name: str) -> Cluster:
    """Return one cluster."""
    return locate(services, principal, Scope.CLUSTERS_READ, name)


def list_clusters(
    services: Services,
    principal: Principal,
    parent: str,
    *,
    page_size: int = 0,
    page_token: str = "",
    states: Collection[State] = (),
    show_finished: bool = False,
    size_bytes: Callable[[Cluster], int | None] = lambda _: 0,
) -> Page:
    """Return one page of clusters, newest first; one of large clusters ends before MAX_PAGE_BYTES.
    Those of no size are passed over."""
    owner = names.parse_parent(parent, principal.user, everybody=True)
    policy.require(principal, Scope.CLUSTERS_READ, owner)
    size = checked_page_size(page_size, MAX_CLUSTERS_PAGE)
    query = [owner or "*", sorted(states), show_finished]
    last = read_place(page_token, query)
    wanted = set(states) or {state for state in State if show_finished or not state.finished}
    view = services.store.view
    found: list[Cluster] = []
    room_bytes = MAX_PAGE_BYTES
    for cluster in view.clusters(owner):
        if cluster.state not in wanted or (
            last is not None and (cluster.created_revision, cluster.uid) >= last
        ):
            continue
        takes_bytes = size_bytes(cluster)
        if takes_bytes is None:
            continue
        room_bytes -= takes_bytes
        if len(found) == size or (room_bytes < 0 and found):
            return Page(found, write_place(found[-1], query), view.revision)
        found.append(cluster)
    return Page(found, "", view.revision)


async def update_cluster(
    services: Services,
    principal: Principal,
    name: str,
    etag: str,
    update: Update,
    call: Call,
    *,
    check: Callable[[Cluster], object] = _no_objection,
) -> tuple[Cluster, bool]:
    """Change what a cluster wishes. `check` raises FieldInvalid for one that could not be shown; it
    is called in the database's thread."""
    found = locate(services, principal, Scope.CLUSTERS_WRITE, name, "cluster.name")
    offer = await _offer(services, principal, found.owner, new=False)
    if groups := update.groups:
        spec = found.spec
        offer = await _asked(
            offer,
            spec.backend,
            lambda: admission.asking(offer, spec.options, groups, spec.groups),
        )
    now = services.now()

    def change(cluster: Cluster) -> Cluster:
        if cluster.stop is not None or cluster.state.finished:
            raise ClusterFinished(
                metadata={"cluster_id": cluster.cluster_id, "state": cluster.state.value}
            )
        changed = _updated(cluster, update, offer, now)
        check(changed)
        return changed

    clamped = ""
    if update.lifecycle is not None:
        clamped = admission.clamped_lifecycle(update.lifecycle, offer)
    told = [Event(found.uid, services.now(), Reason.CLAMPED, clamped)] if clamped else []
    return await mutate(services, principal, found.uid, etag, call, change, lambda _: told)


def _updated(cluster: Cluster, update: Update, offer: admission.Offer, now: int) -> Cluster:
    violations: list[Violation] = []
    spec = cluster.spec
    if update.labels is not None:
        violations += admission.check_labels(update.labels)
        cluster = replace(cluster, labels=dict(update.labels))
    if update.lifecycle is not None:
        lifecycle = admission.resolve_lifecycle(update.lifecycle, offer, violations)
        if update.lifecycle_fields:
            named = {name: getattr(lifecycle, name) for name in update.lifecycle_fields}
            lifecycle = replace(spec.lifecycle, **named)
        if lifecycle.keepalive_timeout_s != spec.lifecycle.keepalive_timeout_s:
            cluster = replace(cluster, kept_alive_at=now)  # who asks for it is alive
        spec = replace(spec, lifecycle=lifecycle)
    if update.groups is not None:
        spec = replace(
            spec, groups=admission.regroup(spec, update.groups, offer, whole=update.all_groups)
        )
        violations += admission.check_group_names(spec.groups, cluster.groups)
    if violations:
        raise FieldInvalid(violations)
    return replace(cluster, spec=spec)


async def stop_cluster(
    services: Services, principal: Principal, name: str, etag: str, call: Call
) -> tuple[Cluster, bool]:
    """Wish a cluster's end."""
    found = locate(services, principal, Scope.CLUSTERS_WRITE, name)
    now = services.now()

    def change(cluster: Cluster) -> Cluster:
        if cluster.stop is not None or cluster.state.finished:
            return cluster
        wish = StopWish(
            State.STOPPED, Reason.STOP_REQUESTED, f"{principal.user} asked for its end", now
        )
        return replace(cluster, stop=wish)

    def stops(cluster: Cluster) -> Sequence[Event]:
        mine = cluster.stop is not None and cluster.stop.at == now
        return [Event(cluster.uid, now, Reason.STOPPING, cluster.message)] if mine else []

    return await mutate(services, principal, found.uid, etag, call, change, stops)
