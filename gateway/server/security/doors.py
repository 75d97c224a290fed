"""Who is let in: port `Doorkeeper` of the interceptors. And who somebody is, of whom only the name
is known."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from gateway.authenticators.contract import (
    Authenticator,
    AuthenticatorUnavailable,
    Credentials,
    NameRefused,
    SignInRefused,
    short_stamp,
    why_not_as_it_is,
)
from gateway.server.core.errors import (
    CredentialsInvalid,
    IdentityUnavailable,
    StoreUnavailable,
    UserNameRefused,
)
from gateway.server.core.model import Principal, Token
from gateway.server.core.user_names import shown
from gateway.server.security import tokens
from gateway.server.security.api_tokens import ApiTokens
from gateway.server.security.certificates import ClusterSecrets
from gateway.server.security.holds import CHECK_S, End, Holds
from gateway.server.security.identities import Identities, Known
from gateway.server.security.proofs import Proofs
from gateway.server.security.sign_in import SignInDesk
from gateway.server.store.contract import Store
from gateway.wire import CLIENT_CERTIFICATE

logger = logging.getLogger(__name__)

MAX_AGENT_TOKEN = 256
DOUBTED_RETRY_S = 5.0
OPEN = ("api", "session")  # kinds of tokens that are users'


class SecretsOf(Protocol):
    """Secrets of clusters."""

    async def of(self, uid: str) -> ClusterSecrets | None:
        """Return a cluster's secrets, None if there is no such cluster."""


class Doors:
    """The doors."""

    def __init__(
        self,
        authenticator: Authenticator,
        store: Store,
        cluster_secrets: SecretsOf,
        edge_hash: bytes,
        now: Callable[[], int],
        # whether the database may lack clusters that run
        doubted: Callable[[], bool] = lambda: False,
        # who a browser's sign-in belongs to now, by way and proof
        still: Callable[[str, str], Awaitable[Principal | None]] | None = None,
    ) -> None:
        self._authenticator, self._store, self._cluster_secrets = (
            authenticator,
            store,
            cluster_secrets,
        )
        self._edge_hash, self._now, self._doubted = edge_hash, now, doubted
        self._api_tokens = ApiTokens(store, now)
        self.desk = SignInDesk(authenticator)
        self.identities = Identities(authenticator, now)
        self.proofs = Proofs(still or _nobody, authenticator.identity_outage_s)
        self.holds = Holds(self.present, now)

    async def principal(self, scheme: str, value: str, peer: str) -> Principal:
        """Return who these credentials belong to."""
        found: Principal | None = None
        try:
            if scheme == "bearer" and (parsed := tokens.parse(value)) is not None:
                token = (
                    await self._api_tokens.shown(parsed[1], value) if parsed[0] in OPEN else None
                )
                if token is None:
                    await self.desk.unknown(peer, parsed[1])
                elif await self.proofs.holds(token):
                    known = self.identities.known(token.user) or await self.identities.ask(
                        token.user
                    )
                    found = self._by_token(token, known)
            elif scheme == CLIENT_CERTIFICATE:
                found = self.signed_in(await self._certified(Credentials(scheme, value, peer)))
            elif scheme in self._authenticator.schemes:
                found = self.signed_in(await self.desk.sign_in(Credentials(scheme, value, peer)))
        except AuthenticatorUnavailable as error:
            raise _unavailable(error) from None
        except NameRefused as error:
            raise _refusal(error.name, error.why) from None
        except SignInRefused as error:
            raise self._invalid(error.why) from None
        if found is None:
            raise self._invalid()
        return found

    async def _certified(self, credentials: Credentials) -> Principal | None:
        """Return who a client certificate names. Nobody guesses those, so none waits for a turn:
        all come from the edge's address, where one that is refused must not slow the others."""
        authenticator = self._authenticator
        return authenticator.remembered(credentials) or await authenticator.authenticate(
            credentials
        )

    def _invalid(self, why: str = "") -> CredentialsInvalid:
        """Return what somebody is told whose credentials prove nothing."""
        refused = CredentialsInvalid()
        refused.challenge = self._authenticator.challenge
        if why:
            refused.args = (f"The sign-in is refused: {why}.",)
        return refused

    def hold(self, principal: Principal, end: End) -> Callable[[], None]:
        """Call `end` with the reason when what lets this caller in expires or is taken away, until
        what is returned is called."""
        return self.holds.hold(principal, end)

    def forget_token(self, token_id: str) -> None:
        """Drop what is kept of a token that was revoked, and end what it opened."""
        self._api_tokens.forget(token_id)
        self.holds.end_token(token_id)

    async def person(self, user: str) -> Principal | None:
        """Return a user who does not call, None if there is no such user; IdentityUnavailable if
        nobody can tell."""
        try:
            return await self.identities.of(user)
        except AuthenticatorUnavailable as error:
            raise _unavailable(error) from None

    async def present(self, opened: Principal) -> Principal | None:
        """Return who a caller is now who was let in before, None if nobody any more;
        IdentityUnavailable if nobody can tell."""
        token = await self._api_tokens.living(opened.token_id) if opened.token_id else None
        if opened.token_id and token is None:
            return None
        try:
            if token is not None and not await self.proofs.holds(token):
                return None
            known = await self.identities.ask(
                opened.user, most_s=min(CHECK_S, self._authenticator.identity_kept_s)
            )
        except AuthenticatorUnavailable as error:
            raise _unavailable(error) from None
        if token is not None:
            return self._by_token(token, known)
        person = self.identities.valid(known)
        if person is None or (opened.expires_at and opened.expires_at <= self._now()):
            return None
        if not known.told:  # what the sign-in told holds until it expires
            return opened if self._authenticator.holds_untold(opened) else None
        if not self._authenticator.stands(opened, person):
            return None
        return replace(person, scopes=opened.scopes & person.scopes, expires_at=opened.expires_at)

    def _by_token(self, token: Token, known: Known) -> Principal | None:
        """Return who shows a token, with the rights that its user has now."""
        person, session = self.identities.valid(known), token.session
        stamp, way = (session.stamp, session.way) if session is not None else ("", "")
        if session is not None:
            opened = Principal(token.user, stamp=stamp, token_id=token.id, way=way)
            if not known.told:  # what the sign-in told holds until it expires
                told = Principal(token.user, session.admin, session.groups)
                person = told if self._authenticator.holds_untold(opened) else None
            elif person is not None and not self._authenticator.stands(opened, person):
                person = None
        if person is None:
            return None
        expires_at = min(token.expires_at, person.expires_at or token.expires_at)
        return Principal(
            person.user,
            person.admin,
            person.groups,
            token.scopes & person.scopes,
            expires_at,
            stamp,
            token.id,
            way,
        )

    def signed_in(self, principal: Principal | None) -> Principal | None:
        """Return who signed in, if the name can be part of the names of clusters; one who cannot be
        asked about, for a bounded time."""
        if principal is None or (principal.expires_at and principal.expires_at <= self._now()):
            return None
        if why := why_not_as_it_is(principal.user):
            raise _refusal(principal.user, why)
        if not self._authenticator.askable:
            latest = self._now() + int(self._authenticator.sign_in_holds_s * 1000)
            principal = replace(principal, expires_at=min(principal.expires_at or latest, latest))
        stamp = short_stamp(principal.stamp)
        return (
            replace(principal, token_id="", stamp=stamp)
            if principal.token_id or stamp != principal.stamp
            else principal
        )

    async def agent(self, uid: str, token: str) -> None:
        """Return if the token is that of the cluster's agent. While the database may lack clusters
        nobody is turned away for good."""
        try:
            await self._agent(uid, token)
        except CredentialsInvalid:
            if self._doubted():  # an agent that is turned away for long ends its scheduler
                raise StoreUnavailable(retry_after_s=DOUBTED_RETRY_S) from None
            raise

    async def _agent(self, uid: str, token: str) -> None:
        cluster = self._store.view.cluster(uid)
        if cluster is None or cluster.state.finished or len(token) > MAX_AGENT_TOKEN:
            raise CredentialsInvalid
        secrets = await self._cluster_secrets.of(uid)
        if secrets is None or not tokens.matches(token, tokens.hashed(secrets.agent_token)):
            raise CredentialsInvalid

    def is_edge(self, token: str) -> bool:
        """Whether the token is an edge's."""
        return tokens.matches(token, self._edge_hash)

    async def edge(self, token: str) -> None:
        """Return if the token is an edge's."""
        if not self.is_edge(token):
            raise CredentialsInvalid


async def _nobody(way: str, proof: str) -> Principal | None:
    """No sign-in stands."""


def _unavailable(error: AuthenticatorUnavailable) -> IdentityUnavailable:
    """Return what somebody is told whom nobody can judge now."""
    provider = shown(error.provider) if error.provider else "the identity source"
    return IdentityUnavailable(metadata={"provider": provider}, retry_after_s=1.0)


def _refusal(name: str, why: str) -> UserNameRefused:
    """Return what somebody is told whose credentials are right, and whose name is not."""
    logger.warning("a sign-in is refused for its user's name: %s: %s", shown(name), why)
    return UserNameRefused(metadata={"name": shown(name), "why": why})
