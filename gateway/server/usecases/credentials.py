"""What lets a caller in: API tokens, client certificates, dashboard tickets."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from gateway.server.core import names, policy
from gateway.server.core.errors import (
    ClusterFinished,
    ClusterNotActive,
    CredentialsInvalid,
    FieldInvalid,
    QuotaExceeded,
    RequestIdReused,
    TokenExists,
    TokenNotFound,
    Violation,
)
from gateway.server.core.model import Cluster, Principal, Scope, State, Token
from gateway.server.core.quantities import exact_duration
from gateway.server.store.contract import Tx
from gateway.server.usecases.families import all_tokens, made_by
from gateway.server.usecases.lookup import locate
from gateway.server.usecases.mutation import Call, remember
from gateway.server.usecases.paging import checked_page_size, decode_token, encode_token
from gateway.server.usecases.services import Services
from gateway.wire import DASHBOARD_PATH, TICKET_QUERY

DEFAULT_TOKEN_TTL_S = 30 * 86400.0
MIN_TOKEN_TTL_S = 60.0
MAX_DISPLAY_NAME = 100
MAX_TOKEN_DEPTH = 8  # tokens made by tokens made by tokens
MIN_CERTIFICATE_TTL_S, DEFAULT_CERTIFICATE_TTL_S, MAX_CERTIFICATE_TTL_S = (
    300.0,
    86400.0,
    7 * 86400.0,
)
# for another's cluster: the right to it may be taken away, and a certificate may not
MAX_FOREIGN_CERTIFICATE_TTL_S = 3600.0
MAX_PUBLIC_KEY = 16 * 1024
TICKET_TTL_S = 60.0


async def create_token(
    services: Services,
    principal: Principal,
    display_name: str,
    ttl_s: float | None,
    scopes: Collection[Scope],
    call: Call,
    *,
    check: Callable[[Token], object] = lambda _: None,
) -> tuple[Token, str]:
    """Make a token for the caller, with no more rights and no longer life than the caller's own;
    return it with its secret text.

    `check` raises FieldInvalid for one that could not be shown.
    """
    policy.require(principal, Scope.TOKENS, principal.user)
    now = services.now()
    most_s = min(services.max_token_ttl_s, _left_s(principal, now))
    least_s = min(MIN_TOKEN_TTL_S, most_s)
    ttl_s = min(DEFAULT_TOKEN_TTL_S, most_s) if ttl_s is None else ttl_s
    violations = names.check_request_id(call.request_id)
    if len(display_name) > MAX_DISPLAY_NAME:
        violations.append(
            Violation("display_name", f"must have at most {MAX_DISPLAY_NAME} characters")
        )
    if not least_s <= ttl_s <= most_s:
        violations.append(Violation("ttl", _bounds(least_s, most_s, principal, now)))
    if beyond := sorted(set(scopes) - principal.scopes):
        scopes_beyond = ", ".join(f"SCOPE_{scope.name}" for scope in beyond)
        violations.append(Violation("scopes", f"you do not have {scopes_beyond} yourself"))
    if violations:
        raise FieldInvalid(violations)
    text, token_id, secret_hash = services.credentials.mint_token(principal.user)
    token = Token(
        id=token_id,
        user=principal.user,
        secret_hash=secret_hash,
        display_name=display_name,
        scopes=frozenset(scopes) or principal.scopes,
        created_at=now,
        expires_at=now + int(ttl_s * 1000),
        parent=principal.token_id,
    )
    check(token)

    def insert(tx: Tx) -> Token:
        depth = _depth(tx, principal.token_id)
        if (
            call.request_id
            and (effect := tx.remembered(principal.user, call.method, call.request_id)) is not None
        ):
            raise TokenExists if effect.digest == call.digest else RequestIdReused
        _check_quota(tx, principal.user, services.quotas.tokens, now)
        made = replace(token, depth=depth)
        tx.put_token(made)
        remember(tx, principal, call, token_id, now)
        return made

    return await services.store.transact(insert), text


def _check_quota(tx: Tx, user: str, most: int, now: int) -> None:
    """Raise QuotaExceeded if a user has as many valid tokens as one may have (0: any number); those
    that have expired make room."""
    if not most or tx.count_tokens(user) < most:
        return
    tx.forget_tokens(user, now)
    if sum(token.session is None for token in all_tokens(tx, user)) >= most:
        raise QuotaExceeded(
            user, f"{user} has {most} tokens, the most that one user may have; revoke some first"
        )


def _left_s(principal: Principal, now: int) -> float:
    """Return for how long the caller's credentials hold."""
    return max(0.0, (principal.expires_at - now) / 1000) if principal.expires_at else math.inf


def _bounds(least_s: float, most_s: float, principal: Principal, now: int) -> str:
    why = ", when the credentials expire that you show" if most_s == _left_s(principal, now) else ""
    return f"must be between {exact_duration(least_s)} and {exact_duration(most_s)}{why}"


def _depth(tx: Tx, parent_id: str) -> int:
    """Return how many tokens stand above one that is made by a token; CredentialsInvalid if that
    was revoked meanwhile."""
    if not parent_id:
        return 0
    parent = tx.token(parent_id)
    if parent is None:
        raise CredentialsInvalid
    if parent.depth >= MAX_TOKEN_DEPTH:
        raise FieldInvalid(
            [
                Violation(
                    "request",
                    f"{MAX_TOKEN_DEPTH} tokens stand above the one you show; sign in to make one",
                )
            ]
        )
    return parent.depth + 1


async def list_tokens(
    services: Services, principal: Principal, page_size: int, page_token: str
) -> tuple[Sequence[Token], str]:
    """Return a page of the caller's tokens, newest first."""
    policy.require(principal, Scope.TOKENS, principal.user)
    size, before = checked_page_size(page_size), None
    if page_token:
        contents = decode_token(page_token)
        if (
            len(contents) != 2
            or not isinstance(contents[0], int)
            or not isinstance(contents[1], str)
        ):
            raise FieldInvalid(
                [Violation("page_token", "must be next_page_token of the previous answer")]
            )
        before = (contents[0], contents[1])
    found = await services.store.read(
        lambda tx: tx.tokens(principal.user, before=before, limit=size + 1)
    )
    more = (
        encode_token([found[size - 1].created_at, found[size - 1].id]) if len(found) > size else ""
    )
    return found[:size], more


async def revoke_token(services: Services, principal: Principal, token_id: str) -> Sequence[str]:
    """Make a token of the caller useless, at once, with all that were made by it; return their ids,
    its own first."""
    policy.require(principal, Scope.TOKENS, principal.user)

    def delete(tx: Tx) -> Sequence[str]:
        token = tx.token(token_id)
        if token is None or token.user != principal.user:
            return ()
        family = [token_id, *made_by(token_id, all_tokens(tx, principal.user))]
        for one in family:
            tx.delete_token(one)
        return family

    revoked = await services.store.transact(delete) if len(token_id) <= 128 else ()
    if not revoked:
        raise TokenNotFound(metadata={"id": token_id[:128]})
    for one in revoked:
        services.credentials.forget_token(one)
    return revoked


async def generate_client_certificate(
    services: Services, principal: Principal, name: str, public_key: str, ttl_s: float | None
) -> tuple[Cluster, str, str, int]:
    """Sign the caller's key; return cluster, certificate, CA certificate and the instant of
    expiry."""
    cluster = locate(services, principal, Scope.CLUSTERS_WRITE, name)
    now = services.now()
    longest_s = (
        MAX_CERTIFICATE_TTL_S if cluster.owner == principal.user else MAX_FOREIGN_CERTIFICATE_TTL_S
    )
    most_s = min(longest_s, _left_s(principal, now))
    least_s = min(MIN_CERTIFICATE_TTL_S, most_s)
    ttl_s = min(DEFAULT_CERTIFICATE_TTL_S, most_s) if ttl_s is None else ttl_s
    violations = []
    if not least_s <= ttl_s <= most_s:
        violations.append(Violation("ttl", _bounds(least_s, most_s, principal, now)))
    if not 0 < len(public_key) <= MAX_PUBLIC_KEY:
        violations.append(
            Violation("public_key", f"must be a PEM public key of at most {MAX_PUBLIC_KEY} bytes")
        )
    if violations:
        raise FieldInvalid(violations)
    if cluster.state.finished:
        raise ClusterFinished(
            metadata={"cluster_id": cluster.cluster_id, "state": cluster.state.value}
        )
    sealed = await services.store.read(lambda tx: tx.secrets(cluster.uid))
    if sealed is None:
        raise ClusterFinished(
            metadata={"cluster_id": cluster.cluster_id, "state": cluster.state.value}
        )
    try:
        signed, authority, expires_at = await services.credentials.sign_client(
            sealed, public_key, principal.user, ttl_s
        )
    except ValueError as error:
        raise FieldInvalid([Violation("public_key", str(error))]) from None
    return cluster, signed, authority, expires_at


def create_dashboard_ticket(services: Services, principal: Principal, name: str) -> tuple[str, int]:
    """Return an address that opens a cluster's dashboard, and until when."""
    cluster = locate(services, principal, Scope.CLUSTERS_READ, name)
    if cluster.state is not State.ACTIVE:
        ended = cluster.state.finished or cluster.state is State.STOPPING
        raise (ClusterFinished if ended else ClusterNotActive)(
            metadata={"cluster_id": cluster.cluster_id, "state": cluster.state.value}
        )
    expires_at = services.now() + int(TICKET_TTL_S * 1000)
    ticket = services.credentials.issue_ticket(cluster.uid, principal, expires_at)
    return (
        f"{services.endpoint().url}{DASHBOARD_PATH}{cluster.uid}/status?{TICKET_QUERY}={ticket}",
        expires_at,
    )
