"""What use cases work with: the ports to everything outside, bound together by the composition
root."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.backends.contract import Backend
from gateway.server.core.admission import Offer
from gateway.server.core.login_pages import FinishedLogin, LoginPage, StartedLogin
from gateway.server.core.model import Principal
from gateway.server.core.quotas import Quotas
from gateway.server.core.sign_in_options import API_TOKEN, SignInOption
from gateway.server.store.contract import Store
from gateway.server.usecases.rates import Rates
from gateway.wire import Ticket


class Offers(Protocol):
    """The administrator's configuration as far as users meet it."""

    async def offer(self, principal: Principal) -> Offer:
        """Return what a user may have. FieldInvalid if the site refuses that user; OptionsAtFault
        if its rules do not work."""


class Credentials(Protocol):
    """Keys, certificates, tokens and tickets. What computes for long is awaited."""

    async def make_cluster_secrets(self, uid: str, lifetime_s: float | None) -> bytes:
        """Return a new cluster's secrets, sealed."""

    async def sign_client(
        self, sealed: bytes, public_key: str, user: str, ttl_s: float
    ) -> tuple[str, str, int]:
        """Return certificate, CA certificate (PEM) and the instant of expiry; ValueError if the key
        will not do."""

    def mint_token(self, user: str) -> tuple[str, str, bytes]:
        """Return a new API token's text, id and hash."""

    def mint_session(self, user: str) -> tuple[str, str, bytes]:
        """Return a new session token's text, id and hash."""

    def forget_token(self, token_id: str) -> None:
        """Drop what is cached of a token that was revoked, and end what it opened."""

    def issue_ticket(self, uid: str, principal: Principal, expires_at: int) -> str:
        """Return a dashboard ticket, which opens once."""

    def read_ticket(self, text: str) -> Ticket | None:
        """Return what a ticket says that was issued here, None if it was not."""


class Browsers(Protocol):
    """Logins of browsers at login pages. LoginRefused, IdentityUnavailable."""

    def pages(self) -> Sequence[LoginPage]:
        """Return the login pages that there are."""

    async def begin(self, way: str, redirect_uri: str, goes_to: str) -> StartedLogin:
        """Return where a browser goes, and what it is to bring back."""

    async def finish(
        self, way: str, sealed: str, answer: Mapping[str, str], address: str
    ) -> FinishedLogin:
        """Return who has come back, from this address, with this query."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where users reach the edge."""

    host: str
    port: int
    url: str  # such as https://dask.example.org, without a slash at its end
    prefix: str = ""  # the path in url, such as /services/daskgateway


@dataclass(frozen=True, slots=True)
class Services:
    """The ports."""

    store: Store
    offers: Offers
    credentials: Credentials
    backends: Mapping[str, Backend]
    wake: Callable[[str], None]  # tells the reconciler that a cluster's wish has changed
    now: Callable[[], int]  # ms since the epoch
    random: Callable[[int], bytes]
    endpoint: Callable[[], Endpoint]
    draining: Callable[[], Awaitable[object]]  # returns when the server is about to exit
    # who a user is that does not call; None if there is no such user
    person: Callable[[str], Awaitable[Principal | None]]
    # who somebody is now who was let in before; None if nobody any more
    present: Callable[[Principal], Awaitable[Principal | None]]
    quotas: Quotas = Quotas()
    followed: Counter[str] = field(default_factory=Counter)  # logs that are followed now, by user
    creations: Rates = field(default_factory=lambda: Rates(0))  # of clusters, by owner
    max_clusters: int = 10_000
    # whether there is too little room on the gateway's disk for more clusters
    full: Callable[[], bool] = lambda: False
    max_token_ttl_s: float = 366 * 86400.0
    session_ttl_s: float = 3600.0  # that a session lasts unless it is renewed
    max_session_s: float = 7 * 86400.0  # and in any case
    browsers: Browsers | None = None  # who begins and finishes the logins of browsers
    sign_in_options: Callable[[], Sequence[SignInOption]] = lambda: (API_TOKEN,)
    doubted: Callable[[], bool] = lambda: False  # whether the database may lack clusters that run
