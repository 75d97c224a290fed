"""Create, get, list, change and stop clusters."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.server.core import admission, names, policy
from gateway.server.core.errors import (
    ClusterExists,
    ClusterFinished,
    ClusterNotFound,
    EtagMismatch,
    FieldInvalid,
    Overloaded,
    QuotaExceeded,
    RequestIdReused,
    Violation,
)
from gateway.server.core.model import (
    Cluster,
    Event,
    GroupStatus,
    Principal,
    Remembered,
    Scope,
    State,
    StopWish,
)
from gateway.server.store.contract import Conflict, Tx
from gateway.server.usecases.services import Services
from gateway.wire import is_uid

DEFAULT_PAGE = 50
MAX_PAGE = 500  # of events and tokens
MAX_CLUSTERS_PAGE = 1000
# gRPC clients refuse a message of more than 4 MiB unless told otherwise
MAX_PAGE_BYTES = 3 * 1024 * 1024
MAX_TOKEN_TEXT = 64  # of a text in a page token, which is a uid or an id


@dataclass(frozen=True, slots=True)
class Call:
    """What makes a mutation repeatable: its method, its request_id, and a digest of all else in the
    request."""

    method: str
    request_id: str = ""
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Update:
    """What an update changes; None leaves it as it is."""

    labels: Mapping[str, str] | None = None
    lifecycle: admission.LifecycleWish | None = None
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
    cluster = _new_cluster(services, offer, owner, cluster_id, wish, call)
    check(cluster)
    if validate_only:
        return cluster, False
    if (wait_s := services.creations.take(owner)) and (
        earlier := await services.store.read(lambda tx: _replay(tx, principal, call))
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

    def insert(tx: Tx) -> tuple[Cluster, bool]:
        earlier = _replay(tx, principal, call)
        if earlier is not None:
            return earlier, True
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
            what = (
                f"{owner} has {services.quotas.clusters} clusters, the most that one user may"
                f" have; stop some first"
            )
            raise QuotaExceeded(owner, what, retry_after_s=60)
        stored = tx.put_cluster(cluster)
        tx.put_secrets(cluster.uid, sealed)
        tx.add_events(
            [
                Event(
                    cluster.uid,
                    cluster.created_at,
                    "CREATED",
                    f"{principal.user} asked for the cluster",
                )
            ]
        )
        _remember(tx, principal, call, cluster.uid, cluster.created_at)
        return stored, False

    try:
        stored, replayed = await services.store.transact(insert)
    except Conflict:
        raise ClusterExists(metadata={"cluster_id": cluster.cluster_id}) from None
    if replayed:
        services.creations.give_back(owner)
    else:
        services.wake(stored.uid)
    return stored, replayed


async def _offer(
    services: Services, principal: Principal, owner: str, *, new: bool
) -> admission.Offer:
    """Return what the owner of a cluster may have: by the owner's own groups and rights, whoever
    asks. Of one who is gone: by none."""
    if owner == principal.user:
        return services.offers.offer(principal)
    person = await services.person(owner)
    if person is None and new:
        raise FieldInvalid([Violation("parent", f"there is no user {owner}")])
    return services.offers.offer(person or Principal(owner))


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
    return Cluster(
        uid=names.new_uid(services.random(names.UID_RANDOM_BYTES)),
        owner=owner,
        cluster_id=cluster_id
        or names.new_cluster_id(services.random(names.CLUSTER_ID_RANDOM_BYTES)),
        spec=spec,
        labels=dict(wish.labels),
        message="accepted",
        state_at=now,
        created_at=now,
        updated_at=now,
        groups={name: GroupStatus() for name in spec.groups},
    )


def _replay(tx: Tx, principal: Principal, call: Call) -> Cluster | None:
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


def _remember(tx: Tx, principal: Principal, call: Call, uid: str, now: int) -> None:
    if call.request_id:
        tx.remember(Remembered(principal.user, call.method, call.request_id, call.digest, uid, now))


def locate(
    services: Services, principal: Principal, scope: Scope, name: str, field: str = "name"
) -> Cluster:
    """Return the cluster of a name that the caller may see."""
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
    last = _read_token(page_token, query)
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
            return Page(found, _write_token(found[-1], query), view.revision)
        found.append(cluster)
    return Page(found, "", view.revision)


def checked_page_size(size: int, most: int = MAX_PAGE) -> int:
    """Return a page's size within its bounds."""
    if size < 0:
        raise FieldInvalid([Violation("page_size", "must be 0 for the default, or more")])
    return min(size or DEFAULT_PAGE, most)


def encode_token(contents: object) -> str:
    """Return a page token; it says where to go on and permits nothing."""
    return base64.urlsafe_b64encode(json.dumps(contents).encode()).decode()


def decode_token(text: str) -> list[object]:
    """Return what a page token says; FieldInvalid if it is not one."""
    try:
        contents = (
            json.loads(base64.b64decode(text.encode(), altchars=b"-_", validate=True))
            if len(text) < 4096
            else None
        )
    except (ValueError, binascii.Error, RecursionError):
        contents = None
    if not isinstance(contents, list) or not all(_storable(item) for item in contents):
        raise FieldInvalid(
            [Violation("page_token", "must be next_page_token of the previous answer")]
        )
    return contents


def _storable(item: object) -> bool:
    """Whether a database can compare with it: numbers of 64 bits, plain texts; what is nested is
    compared here only."""
    if isinstance(item, int):
        return -(2**63) <= item < 2**63
    return not isinstance(item, str) or (
        len(item) <= MAX_TOKEN_TEXT and item.isascii() and item.isprintable()
    )


def _write_token(last: Cluster, query: object) -> str:
    return encode_token([last.created_revision, last.uid, query])


def _read_token(text: str, query: object) -> tuple[int, str] | None:
    if not text:
        return None
    contents = decode_token(text)
    if (
        len(contents) != 3
        or contents[2] != query
        or not isinstance(contents[0], int)
        or not isinstance(contents[1], str)
    ):
        raise FieldInvalid(
            [
                Violation(
                    "page_token",
                    "belongs to another query; all else must be as in the previous call",
                )
            ]
        )
    return contents[0], contents[1]


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

    def change(cluster: Cluster) -> Cluster:
        if cluster.stop is not None or cluster.state.finished:
            raise ClusterFinished(
                metadata={"cluster_id": cluster.cluster_id, "state": cluster.state.value}
            )
        changed = _updated(cluster, update, offer)
        check(changed)
        return changed

    return await _mutate(services, principal, found.uid, etag, call, change)


def _updated(cluster: Cluster, update: Update, offer: admission.Offer) -> Cluster:
    violations: list[Violation] = []
    spec = cluster.spec
    if update.labels is not None:
        violations += admission.check_labels(update.labels)
        cluster = replace(cluster, labels=dict(update.labels))
    if update.lifecycle is not None:
        spec = replace(
            spec, lifecycle=admission.resolve_lifecycle(update.lifecycle, offer, violations)
        )
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
        wish = StopWish(State.STOPPED, "STOP_REQUESTED", f"{principal.user} asked for its end", now)
        return replace(cluster, stop=wish)

    return await _mutate(services, principal, found.uid, etag, call, change)


async def _mutate(
    services: Services,
    principal: Principal,
    uid: str,
    etag: str,
    call: Call,
    change: Callable[[Cluster], Cluster],
) -> tuple[Cluster, bool]:
    """Change a wish in one transaction; what changes nothing takes no generation."""
    if violations := names.check_request_id(call.request_id):
        raise FieldInvalid(violations)
    now = services.now()

    def apply(tx: Tx) -> tuple[Cluster, bool]:
        earlier = _replay(tx, principal, call)
        if earlier is not None:
            return earlier, True
        cluster = tx.cluster(uid)
        if cluster is None:
            raise ClusterNotFound(metadata={"name": uid})
        if etag and etag != cluster.etag:
            raise EtagMismatch(metadata={"etag": cluster.etag})
        changed = change(cluster)
        if changed != cluster:
            changed = tx.put_cluster(
                replace(changed, generation=cluster.generation + 1, updated_at=now)
            )
        _remember(tx, principal, call, uid, now)
        return changed, False

    cluster, replayed = await services.store.transact(apply)
    if not replayed:
        services.wake(uid)
    return cluster, replayed
