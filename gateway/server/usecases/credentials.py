"""What lets a caller in: API tokens, client certificates, dashboard tickets."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gateway.server.core import names, policy
from gateway.server.core.errors import (
    ClusterFinished,
    ClusterNotActive,
    FieldInvalid,
    RequestIdReused,
    TokenExists,
    TokenNotFound,
    Violation,
)
from gateway.server.core.model import Cluster, Principal, Remembered, Scope, State, Token
from gateway.server.store.contract import Tx
from gateway.server.usecases.clusters import Call, checked_page_size, decode_token, encode_token, locate
from gateway.server.usecases.services import Services
from gateway.wire import DASHBOARD_PATH, TICKET_QUERY

DEFAULT_TOKEN_TTL_S = 30 * 86400.0
MIN_TOKEN_TTL_S = 60.0
MAX_DISPLAY_NAME = 100
MAX_TOKENS = 1000  # of one user
MIN_CERTIFICATE_TTL_S, DEFAULT_CERTIFICATE_TTL_S, MAX_CERTIFICATE_TTL_S = 300.0, 86400.0, 7 * 86400.0
MAX_PUBLIC_KEY = 16 * 1024
TICKET_TTL_S = 60.0


async def create_token(
    services: Services, principal: Principal, display_name: str, ttl_s: float | None, scopes: Collection[Scope], call: Call
) -> tuple[Token, str]:
    """Make a token for the caller; return it with its secret text."""
    policy.require(principal, Scope.TOKENS, principal.user)
    ttl_s = DEFAULT_TOKEN_TTL_S if ttl_s is None else ttl_s
    violations = names.check_request_id(call.request_id)
    if len(display_name) > MAX_DISPLAY_NAME:
        violations.append(Violation("display_name", f"must have at most {MAX_DISPLAY_NAME} characters"))
    if not MIN_TOKEN_TTL_S <= ttl_s <= services.max_token_ttl_s:
        violations.append(Violation("ttl", f"must be between {MIN_TOKEN_TTL_S:g} and {services.max_token_ttl_s:g} s"))
    if beyond := sorted(set(scopes) - principal.scopes):
        violations.append(Violation("scopes", f"you do not have {beyond[0]} yourself"))
    if violations:
        raise FieldInvalid(violations)
    text, token_id, secret_hash = services.credentials.mint_token()
    now = services.now()
    token = Token(
        id=token_id,
        user=principal.user,
        secret_hash=secret_hash,
        display_name=display_name,
        scopes=frozenset(scopes) or principal.scopes,
        admin=principal.admin,
        groups=principal.groups,
        created_at=now,
        expires_at=now + int(ttl_s * 1000),
    )

    def insert(tx: Tx) -> None:
        if call.request_id and (effect := tx.remembered(principal.user, call.method, call.request_id)) is not None:
            raise TokenExists if effect.digest == call.digest else RequestIdReused
        if len(tx.tokens(principal.user, limit=MAX_TOKENS)) >= MAX_TOKENS:
            raise FieldInvalid([Violation("request", f"you have {MAX_TOKENS} tokens; revoke some first")])
        tx.put_token(token)
        if call.request_id:
            tx.remember(Remembered(principal.user, call.method, call.request_id, call.digest, token_id, now))

    await services.store.transact(insert)
    return token, text


async def list_tokens(services: Services, principal: Principal, page_size: int, page_token: str) -> tuple[Sequence[Token], str]:
    """Return a page of the caller's tokens, newest first."""
    policy.require(principal, Scope.TOKENS, principal.user)
    size, before = checked_page_size(page_size), None
    if page_token:
        contents = decode_token(page_token)
        if len(contents) != 2 or not isinstance(contents[0], int) or not isinstance(contents[1], str):
            raise FieldInvalid([Violation("page_token", "must be next_page_token of the previous answer")])
        before = (contents[0], contents[1])
    found = await services.store.read(lambda tx: tx.tokens(principal.user, before=before, limit=size + 1))
    more = encode_token([found[size - 1].created_at, found[size - 1].id]) if len(found) > size else ""
    return found[:size], more


async def revoke_token(services: Services, principal: Principal, token_id: str) -> None:
    """Make a token of the caller useless, at once."""
    policy.require(principal, Scope.TOKENS, principal.user)

    def delete(tx: Tx) -> bool:
        token = tx.token(token_id)
        return token is not None and token.user == principal.user and tx.delete_token(token_id)

    if len(token_id) > 128 or not await services.store.transact(delete):
        raise TokenNotFound(metadata={"id": token_id[:128]})
    services.credentials.forget_token(token_id)


async def generate_client_certificate(
    services: Services, principal: Principal, name: str, public_key: str, ttl_s: float | None
) -> tuple[Cluster, str, str, int]:
    """Sign the caller's key; return cluster, certificate, CA certificate and the instant of expiry."""
    cluster = locate(services, principal, Scope.CLUSTERS_WRITE, name)
    ttl_s = DEFAULT_CERTIFICATE_TTL_S if ttl_s is None else ttl_s
    violations = []
    if not MIN_CERTIFICATE_TTL_S <= ttl_s <= MAX_CERTIFICATE_TTL_S:
        violations.append(Violation("ttl", f"must be between {MIN_CERTIFICATE_TTL_S:g} and {MAX_CERTIFICATE_TTL_S:g} s"))
    if not 0 < len(public_key) <= MAX_PUBLIC_KEY:
        violations.append(Violation("public_key", f"must be a PEM public key of at most {MAX_PUBLIC_KEY} bytes"))
    if violations:
        raise FieldInvalid(violations)
    if cluster.state.finished:
        raise ClusterFinished(metadata={"cluster_id": cluster.cluster_id, "state": cluster.state.value})
    sealed = await services.store.read(lambda tx: tx.secrets(cluster.uid))
    if sealed is None:
        raise ClusterFinished(metadata={"cluster_id": cluster.cluster_id, "state": cluster.state.value})
    try:
        signed, authority, expires_at = await services.credentials.sign_client(sealed, public_key, principal.user, ttl_s)
    except ValueError as error:
        raise FieldInvalid([Violation("public_key", str(error))]) from None
    return cluster, signed, authority, expires_at


def create_dashboard_ticket(services: Services, principal: Principal, name: str) -> tuple[str, int]:
    """Return an address that opens a cluster's dashboard, and until when."""
    cluster = locate(services, principal, Scope.CLUSTERS_READ, name)
    if cluster.state is not State.ACTIVE:
        raise ClusterNotActive(metadata={"cluster_id": cluster.cluster_id, "state": cluster.state.value})
    expires_at = services.now() + int(TICKET_TTL_S * 1000)
    ticket = services.credentials.issue_ticket(cluster.uid, principal.user, expires_at)
    return f"{services.endpoint().url}{DASHBOARD_PATH}{cluster.uid}/status?{TICKET_QUERY}={ticket}", expires_at
