"""What an authenticator promises: to say who credentials belong to. The interface that password, Kerberos, JupyterHub and OIDC share.

A call's `authorization` is taken apart into scheme and value. An authenticator names the schemes it reads:

* password: `basic` (RFC 7617); Kerberos: `negotiate` (RFC 4559); JupyterHub and OIDC: `bearer` (RFC 6750) with tokens of their own.

API tokens of the gateway itself are also `bearer`; they are told by their form and never reach an authenticator.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.metadata import entry_points

from traitlets.config import Configurable

from gateway.server.core.model import Principal

GROUP = "gateway.authenticators"


class AuthenticatorUnavailable(Exception):
    """The identity source does not answer, so nobody can be let in or kept out."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller sent."""

    scheme: str  # lower case
    value: str  # everything after the scheme
    peer: str  # where it came from, as gRPC tells


class Authenticator(Configurable):
    """Base of authenticators; configured by traitlets, found by entry point."""

    schemes: tuple[str, ...] = ()
    challenges: tuple[str, ...] = ()  # what to answer in WWW-Authenticate to one who sent nothing

    async def open(self) -> None:
        """Make ready; ConfigurationError if that cannot be."""

    async def close(self) -> None:
        """Let go of everything."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Return who this is, None if the credentials prove nothing. AuthenticatorUnavailable if that cannot be told.

        Must take the same time for an unknown user and for a wrong password, and must not block the event loop.
        """
        raise AuthenticatorUnavailable("this authenticator lets nobody in")


def authenticator_class(name: str) -> type[Authenticator]:
    """Return an installed authenticator; LookupError names those there are."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        close = difflib.get_close_matches(name, found, n=1)
        meant = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(found))}"
        raise LookupError(f"c.DaskGateway.authenticator: no authenticator {name!r} is installed{meant}")
    loaded: type[Authenticator] = found[name].load()
    return loaded
