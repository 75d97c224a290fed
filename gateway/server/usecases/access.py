"""Who reaches a cluster through the edge: by a ticket, which opens once, and for as long as what
that rests on holds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from gateway.server.core import policy
from gateway.server.core.errors import (
    CredentialsInvalid,
    FieldInvalid,
    IdentityUnavailable,
    NotPermitted,
    Overloaded,
    Violation,
)
from gateway.server.core.model import Principal, Scope
from gateway.server.store.contract import StoreUnreachable, Tx
from gateway.server.usecases.services import Services

MAX_CHECKED = 500  # accesses in one call
MAX_SPENT = 1000  # tickets and sessions of one user that are used or over and have not expired
MAX_SPENT_S = 366 * 86400.0  # for so long that is remembered at most
MAX_ID = 64
RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class Access:
    """That somebody reaches a cluster, and what that rests on."""

    uid: str
    user: str
    token_id: str = ""  # of the API token that was shown; empty for who signed in
    stamp: str = ""  # what the sign-in was checked by
    admin: bool = False  # as the sign-in told
    session_id: str = ""  # of the browser's session
    expires_at: int = 0  # 0: nothing ends it


class Verdict(Enum):
    """Whether an access may be."""

    UNKNOWN = "unknown"
    ALLOWED = "allowed"
    DENIED = "denied"


async def redeem_ticket(services: Services, text: str) -> Access:
    """Return what a ticket permits, this once; CredentialsInvalid if it is not valid any more."""
    ticket, now = services.credentials.read_ticket(text), services.now()
    if ticket is None or not ticket.id or ticket.expires_at <= now:
        raise CredentialsInvalid
    access = Access(
        ticket.uid,
        ticket.user,
        ticket.token_id,
        ticket.stamp,
        ticket.admin,
        expires_at=ticket.holds_until,
    )
    (verdict,) = await check(services, [access])
    if verdict is Verdict.UNKNOWN:  # it can be shown again
        raise IdentityUnavailable(retry_after_s=RETRY_S)
    if verdict is Verdict.DENIED or not await _spend(
        services, f"ticket:{ticket.id}", ticket.user, ticket.expires_at
    ):
        raise CredentialsInvalid
    return access


async def end_session(services: Services, access: Access) -> None:
    """Let nobody in any more by a session."""
    if not 0 < len(access.session_id) <= MAX_ID - len("session:"):
        raise FieldInvalid([Violation("access.session_id", "must be a session's id")])
    latest = services.now() + int(MAX_SPENT_S * 1000)
    await _spend(
        services,
        f"session:{access.session_id}",
        access.user,
        min(access.expires_at or latest, latest),
    )


async def _spend(services: Services, spent_id: str, user: str, expires_at: int) -> bool:
    now = services.now()

    def spend(tx: Tx) -> bool:
        first = tx.spend(spent_id, user, expires_at, now)
        if first and tx.count_spent(user) > MAX_SPENT:
            raise Overloaded(
                metadata={"what": f"{user} has used {MAX_SPENT} tickets and sessions"},
                retry_after_s=RETRY_S,
            )
        return first

    return await services.store.transact(spend)


async def check(services: Services, accesses: Sequence[Access]) -> Sequence[Verdict]:
    """Return of each access whether it still may be."""
    if len(accesses) > MAX_CHECKED:
        raise FieldInvalid([Violation("accesses", f"must be at most {MAX_CHECKED}")])
    ids = {f"session:{access.session_id}" for access in accesses if access.session_id}
    over: set[str] = await services.store.read(lambda tx: tx.spent(ids)) if ids else set()
    openers = list(dict.fromkeys(_opened(access) for access in accesses))
    told = dict(
        zip(openers, await asyncio.gather(*(_present(services, opener) for opener in openers)))
    )
    return [
        Verdict.DENIED
        if f"session:{access.session_id}" in over
        else _verdict(services, access, told[_opened(access)])
        for access in accesses
    ]


def _opened(access: Access) -> Principal:
    scopes = frozenset({Scope.CLUSTERS_READ})
    return Principal(
        access.user, access.admin, (), scopes, access.expires_at, access.stamp, access.token_id
    )


async def _present(services: Services, opened: Principal) -> Principal | Verdict:
    try:
        return await services.present(opened) or Verdict.DENIED
    except (IdentityUnavailable, StoreUnreachable):
        return Verdict.UNKNOWN


def _verdict(services: Services, access: Access, present: Principal | Verdict) -> Verdict:
    cluster = services.store.view.cluster(access.uid)
    if not isinstance(present, Principal):
        return present
    if cluster is None:
        return Verdict.UNKNOWN if services.doubted() else Verdict.DENIED
    try:
        policy.require(present, Scope.CLUSTERS_READ, cluster.owner)
    except NotPermitted:
        return Verdict.DENIED
    return Verdict.DENIED if cluster.state.finished else Verdict.ALLOWED
