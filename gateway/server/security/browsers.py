"""Logins of browsers, by the authenticators that have a login page: begun here, and finished here
or by any other server of the installation.

Of a login that is begun nothing is kept: what must be known when the browser comes back is sealed,
and the edge hands it to that browser alone. So an answer that comes with another browser, from
another provider, or too late, opens nothing.
"""

from __future__ import annotations

import hmac
import json
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gateway.authenticators.browser import LoginFailed, SignsInBrowsers
from gateway.authenticators.contract import AuthenticatorUnavailable, NameRefused
from gateway.configfile import ConfigurationError
from gateway.server.core.errors import IdentityUnavailable
from gateway.server.core.login_pages import FinishedLogin, LoginPage, LoginRefused, StartedLogin
from gateway.server.core.model import Principal
from gateway.server.core.user_names import shown
from gateway.server.security.secrets import Keyring
from gateway.server.security.sign_in import SignInDesk, unnamed
from gateway.server.security.sources import Part, Sources

logger = logging.getLogger(__name__)

PATIENCE_MS = 600_000  # a login that is begun is finished within ten minutes
MAX_SEALED = 4096  # letters, as browsers keep them in a cookie
RETRY_S = 5.0
NOT_THIS = "This login was not begun in this browser, or too long ago. Begin anew."


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is sealed of a login that is begun."""

    way: str
    state: str
    redirect_uri: str
    goes_to: str  # where the browser is led afterwards
    ends_at: int
    kept: Mapping[str, str] = field(repr=False)  # the authenticator's own


class BrowserLogins:
    """Begins and finishes them: port `Browsers` of the use cases."""

    def __init__(
        self,
        sources: Sources,
        keyring: Keyring,
        now: Callable[[], int],
    ) -> None:
        self._sources, self._keyring, self._now = sources, keyring, now
        self._desk: SignInDesk
        self._signed_in: Callable[[Principal | None], Principal | None]

    def by(
        self, desk: SignInDesk, signed_in: Callable[[Principal | None], Principal | None]
    ) -> None:
        """Name where sign-ins have their turn; `signed_in` returns somebody as who is let in, None
        if nobody is."""
        self._desk, self._signed_in = desk, signed_in

    def pages(self) -> tuple[LoginPage, ...]:
        """Return the login pages that there are."""
        return tuple(
            LoginPage(part.label, part.authenticator.description, page.at_once)
            for part, page in self._having_pages()
        )

    async def begin(self, way: str, redirect_uri: str, goes_to: str) -> StartedLogin:
        """Return where a browser goes, and what it is to bring back; LoginRefused,
        IdentityUnavailable."""
        part, page = self._page(way)
        state = secrets.token_urlsafe(24)
        try:
            begun = await page.begin_login(redirect_uri, state)
        except AuthenticatorUnavailable as error:
            raise _unavailable(part, error) from None
        ends_at = self._now() + PATIENCE_MS
        kept = _Kept(way, state, redirect_uri, goes_to, ends_at, begun.kept)
        sealed = self._keyring.seal_bytes(json.dumps(asdict(kept)).encode()).decode()
        return StartedLogin(begun.url, sealed)

    async def finish(
        self, way: str, sealed: str, answer: Mapping[str, str], address: str
    ) -> FinishedLogin:
        """Return who has come back; LoginRefused, IdentityUnavailable, SignInsSlowed."""
        kept = self._opened(sealed)
        shown_state = answer.get("state", "").encode(errors="replace")
        if kept is None or not hmac.compare_digest(shown_state, kept.state.encode()):
            raise LoginRefused(NOT_THIS)
        if kept.way != way or kept.ends_at <= self._now():
            raise LoginRefused(NOT_THIS)
        part, page = self._page(way)
        proof, why = "", "Nobody is let in by this login."

        async def judge() -> Principal | None:
            nonlocal proof, why
            try:
                told = await page.finish_login(kept.redirect_uri, kept.kept, answer)
            except LoginFailed as error:
                why = str(error)
                return None
            proof = told.proof
            return await self._sources.claimed(part, told.principal)

        try:
            found = self._signed_in(await self._desk.judged(address, unnamed(sealed), judge))
        except NameRefused as error:
            logger.warning("a browser's login is refused for its user's name: %s", error)
            words = f"The user name {shown(error.name)} cannot be used here: {error.why}."
            raise LoginRefused(words) from None
        except AuthenticatorUnavailable as error:
            raise _unavailable(part, error) from None
        if found is None:
            raise LoginRefused(why)
        return FinishedLogin(found, self.sealed_proof(proof), kept.goes_to)

    def sealed_proof(self, proof: str) -> str:
        """Return by what a sign-in is asked about again, as it may be stored."""
        return self._keyring.seal_bytes(proof.encode()).decode() if proof else ""

    async def still(self, way: str, sealed_proof: str) -> Principal | None:
        """Return who a sign-in belongs to now, under the user's name; None if it stands no longer.
        AuthenticatorUnavailable."""
        found = [one for one in self._having_pages() if one[0].label == way]
        if not found:
            return None
        part, page = found[0]
        try:
            proof = self._keyring.unseal_bytes(sealed_proof.encode()).decode()
        except (ConfigurationError, ValueError):
            return None
        try:
            told = await page.still(proof)
            return None if told is None else await self._sources.claimed(part, told)
        except NameRefused:
            return None

    def _having_pages(self) -> list[tuple[Part, SignsInBrowsers]]:
        return [
            (part, part.authenticator)
            for part in self._sources.parts
            if isinstance(part.authenticator, SignsInBrowsers)
            and part.authenticator.signs_in_browsers
        ]

    def _page(self, way: str) -> tuple[Part, SignsInBrowsers]:
        for part, page in self._having_pages():
            if part.label == way:
                return part, page
        raise LoginRefused("There is no such way to sign in here.")

    def _opened(self, sealed: str) -> _Kept | None:
        if not 0 < len(sealed) <= MAX_SEALED:
            return None
        try:
            plain: Any = json.loads(self._keyring.unseal_bytes(sealed.encode()))
            return _Kept(**plain)
        except (ConfigurationError, ValueError, TypeError):
            return None


def _unavailable(part: Part, error: AuthenticatorUnavailable) -> IdentityUnavailable:
    logger.warning("%s does not answer: %s", part.label, error)
    return IdentityUnavailable(metadata={"provider": part.label}, retry_after_s=RETRY_S)
