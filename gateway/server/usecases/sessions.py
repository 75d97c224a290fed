"""Sessions: that somebody has signed in. A sign-in makes one, its token is renewed while it is
used, and it ends when its user says so, or when the sign-in holds no longer.

The token stays the same when it is renewed, so several clients may share it and renew it at once.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace

from gateway.server.core.errors import (
    CredentialsInvalid,
    FieldInvalid,
    IdentityUnavailable,
    NoSession,
    Violation,
)
from gateway.server.core.model import Principal, Session, Token
from gateway.server.core.sign_in_options import API_TOKEN, Sessions
from gateway.server.store.contract import Tx
from gateway.server.usecases.credentials import MAX_DISPLAY_NAME
from gateway.server.usecases.families import all_tokens, made_by
from gateway.server.usecases.services import Services

NEVER = "it is sent with each call; an authenticator that has sessions is needed for one"


async def create_session(
    services: Services, principal: Principal, display_name: str, *, proof: str | None = None
) -> tuple[Token, str]:
    """Make a session of who has just signed in; return its token with its secret text. NoSession if
    that was by what makes none. `proof` is that of a browser's login, sealed, empty if it has none:
    whoever signs in so has nothing to send with each call."""
    way = _way(services, principal) if proof is None else principal.way
    if len(display_name) > MAX_DISPLAY_NAME:
        words = f"must have at most {MAX_DISPLAY_NAME} characters"
        raise FieldInvalid([Violation("display_name", words)])
    now = services.now()
    ends_at = min(principal.expires_at or math.inf, now + int(services.max_session_s * 1000))
    text, token_id, secret_hash = services.credentials.mint_session(principal.user)
    lapses_at = now + int(services.session_ttl_s * 1000)
    token = Token(
        token_id,
        principal.user,
        secret_hash,
        display_name,
        principal.scopes,
        created_at=now,
        expires_at=int(ends_at),
        session=Session(
            way, lapses_at, principal.admin, principal.groups, principal.stamp, proof or ""
        ),
    )

    def insert(tx: Tx) -> Sequence[str]:
        tx.forget_tokens(principal.user, now)
        ended = _too_many(all_tokens(tx, principal.user), services.quotas.sessions)
        for one in ended:
            tx.delete_token(one)
        tx.put_token(token)
        return ended

    for one in await services.store.transact(insert):
        services.credentials.forget_token(one)
    with contextlib.suppress(IdentityUnavailable):
        # so that the session goes on where the source is away from now on
        await services.person(principal.user)
    return token, text


def _way(services: Services, principal: Principal) -> str:
    """Return by what a user has signed in; NoSession if that makes no session."""
    if principal.token_id:
        why = "a token is shown already; show what you sign in by"
        raise NoSession(metadata={"way": API_TOKEN.name, "why": why})
    found = {one.name: one.sessions for one in services.sign_in_options()}
    if found.get(principal.way) is Sessions.NEVER:
        raise NoSession(metadata={"way": principal.way, "why": NEVER})
    return principal.way


def _too_many(tokens: Sequence[Token], most: int) -> Sequence[str]:
    """Return the ids of those that end so that there is room for one more session: whose token was
    renewed longest ago, of those that made no other, if there are such."""
    sessions = [token for token in tokens if token.session is not None]
    if not most or len(sessions) < most:
        return ()
    parents = {token.parent for token in tokens}
    sessions.sort(key=lambda token: (token.id in parents, token.good_until))
    gone = [token.id for token in sessions[: len(sessions) - most + 1]]
    return [one for token_id in gone for one in (token_id, *made_by(token_id, tokens))]


async def renew_session(services: Services, principal: Principal) -> Token:
    """Let the session that is shown last longer, if it may; return its token."""
    now = services.now()

    def renew(tx: Tx) -> Token:
        token = tx.token(principal.token_id) if principal.token_id else None
        if token is None and principal.token_id:  # it was revoked meanwhile
            raise CredentialsInvalid
        if token is None or token.session is None:
            raise _not_one(principal)
        lapses_at = max(token.session.lapses_at, now + int(services.session_ttl_s * 1000))
        renewed = replace(token, session=replace(token.session, lapses_at=lapses_at))
        if renewed != token:
            tx.delete_token(token.id)
            tx.put_token(renewed)
        return renewed

    return await services.store.transact(renew)


async def end_session(
    services: Services, principal: Principal, *, everywhere: bool
) -> Sequence[str]:
    """End the session that is shown, or all of its user's, with what was made by them; return the
    ids of the tokens that are useless now."""

    def end(tx: Tx) -> Sequence[str]:
        tokens = all_tokens(tx, principal.user)
        sessions = [token.id for token in tokens if token.session is not None]
        if not everywhere:
            if principal.token_id not in sessions:
                raise _not_one(principal)
            sessions = [principal.token_id]
        family = [one for root in sessions for one in (root, *made_by(root, tokens))]
        ended = list(dict.fromkeys(family))
        for one in ended:
            tx.delete_token(one)
        return ended

    ended = await services.store.transact(end)
    for one in ended:
        services.credentials.forget_token(one)
    return ended


def _not_one(principal: Principal) -> NoSession:
    way = API_TOKEN.name if principal.token_id else principal.way or "these credentials"
    return NoSession(metadata={"way": way, "why": "the call shows no session's token"})
