"""By what one may sign in, as anybody is told it who asks. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Sessions(Enum):
    """Whether a sign-in is exchanged for a session."""

    #: never: credentials of it are taken back one by one, and a session would outlive them
    NEVER = "never"
    #: for who asks; clients send the credentials with each call, which costs little
    ALLOWED = "allowed"
    #: clients do so by themselves: to check the credentials is dear, or they are good only once
    ADVISED = "advised"


@dataclass(frozen=True, slots=True)
class DeviceLogin:
    """How a program gets a token for its user, who enters a code in a browser (RFC 8628)."""

    issuer: str  # of the OpenID provider
    client_id: str  # of a program without a secret
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SignInOption:
    """Something by which one may sign in."""

    name: str  # what the administrator calls it
    description: str  # what it takes, for people
    schemes: tuple[str, ...]  # of an `authorization` header, in lower case
    client_way: str = ""  # how the gateway's own clients name it; empty if they do not
    sessions: Sessions = Sessions.ALLOWED
    device: DeviceLogin | None = None


API_TOKEN = SignInOption(
    "api-token", "an API token of this gateway", ("bearer",), "token", Sessions.NEVER
)
