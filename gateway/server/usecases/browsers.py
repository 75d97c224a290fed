"""Logins of browsers: to a login page and back, which ends in a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.server.core.errors import FieldInvalid, Violation
from gateway.server.core.login_pages import LoginPage, LoginRefused, StartedLogin, safe_place
from gateway.server.core.model import Scope, Token
from gateway.server.usecases.services import Services
from gateway.server.usecases.sessions import create_session
from gateway.wire import callback_path

# A browser shows what its user has. It makes no clusters and no tokens, whoever gets at its cookie.
SCOPES = frozenset({Scope.CLUSTERS_READ})
NAME = "a browser"
MAX_ANSWER = 16  # parameters that a browser comes back with
MAX_WAY = 128


def pages(services: Services) -> Sequence[LoginPage]:
    """Return the login pages that there are."""
    return services.browsers.pages() if services.browsers is not None else ()


async def begin(services: Services, way: str, goes_to: str) -> tuple[StartedLogin, str]:
    """Return where a browser goes and what it brings back, and the address that it comes back
    to."""
    if services.browsers is None:
        raise LoginRefused("There is no such way to sign in here.")
    back = redirect_uri(services, way)
    return await services.browsers.begin(way, back, safe_place(goes_to)), back


async def finish(
    services: Services, way: str, sealed: str, answer: Mapping[str, str], address: str
) -> tuple[Token, str, str]:
    """Return the session of who has come back, its secret, and where the browser is led."""
    if services.browsers is None:
        raise LoginRefused("There is no such way to sign in here.")
    if len(answer) > MAX_ANSWER:
        raise FieldInvalid([Violation("answer", f"must have at most {MAX_ANSWER} parameters")])
    found = await services.browsers.finish(way, sealed, answer, address)
    principal = replace(found.principal, scopes=found.principal.scopes & SCOPES)
    token, secret = await create_session(services, principal, NAME, proof=found.proof)
    return token, secret, found.goes_to


def redirect_uri(services: Services, way: str) -> str:
    """Return the address that a browser comes back to, which the provider must know beforehand:
    each way has its own, so that no provider's answer is taken for another's."""
    if not 0 < len(way) <= MAX_WAY:
        raise LoginRefused("There is no such way to sign in here.")
    return f"{services.endpoint().url}{callback_path(way)}"
